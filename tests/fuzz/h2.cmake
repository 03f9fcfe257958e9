foreach(role server client)
  weir_fuzz(tunnel_${role}_fuzz SOURCES tunnel_${role}_fuzz.cc LIBRARIES weir_http)
endforeach()
