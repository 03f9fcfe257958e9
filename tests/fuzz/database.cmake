foreach(name postgresql mysql redis)
  weir_fuzz(${name}_fuzz SOURCES ${name}_fuzz.cc LIBRARIES weir_database)
endforeach()
weir_fuzz(sql_summary_fuzz SOURCES sql_summary_fuzz.cc LIBRARIES weir_database)
