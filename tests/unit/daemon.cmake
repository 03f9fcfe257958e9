weir_test(daemon_test
  SOURCES checks_test.cc process_cpu_test.cc top_view_test.cc ${CMAKE_SOURCE_DIR}/tests/support/flow_records.cc
  LIBRARIES weir_daemon)
