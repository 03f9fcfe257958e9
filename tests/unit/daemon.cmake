weir_test(daemon_test
  SOURCES top_view_test.cc ${CMAKE_SOURCE_DIR}/tests/support/flow_records.cc
  LIBRARIES weir_daemon)
