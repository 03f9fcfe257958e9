weir_test(export_test
  SOURCES span_encoder_test.cc
  LIBRARIES weir_export)
