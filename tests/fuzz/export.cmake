weir_fuzz(otlp_answer_fuzz SOURCES otlp_answer_fuzz.cc LIBRARIES weir_export)
