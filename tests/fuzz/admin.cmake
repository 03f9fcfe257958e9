weir_fuzz(flow_filter_fuzz
  SOURCES flow_filter_fuzz.cc ${CMAKE_SOURCE_DIR}/tests/support/flow_records.cc
  LIBRARIES weir_admin)
weir_fuzz(flow_replay_fuzz
  SOURCES flow_replay_fuzz.cc
  LIBRARIES weir_admin)
