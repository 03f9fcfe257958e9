weir_test(admin_test
  SOURCES
    filter_test.cc flow_reader_test.cc flow_replay_test.cc flow_store_test.cc admin_server_test.cc
    metrics_server_test.cc
    ${CMAKE_SOURCE_DIR}/tests/support/flow_records.cc
  LIBRARIES weir_admin weir_client)
weir_test(admin_root_test ROOT
  SOURCES admin_root_test.cc ${CMAKE_SOURCE_DIR}/tests/support/flow_records.cc
  LIBRARIES weir_admin weir_client weir_test_netns)
