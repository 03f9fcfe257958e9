weir_fuzz(config_fuzz
  SOURCES config_fuzz.cc
  LIBRARIES weir_config)
