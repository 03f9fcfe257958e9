weir_test(base_test
  SOURCES ip_test.cc mailbox_test.cc file_test.cc utf8_test.cc nearest_name_test.cc log_test.cc percent_test.cc
  LIBRARIES weir_base)
weir_test(io_test
  SOURCES byte_buffer_test.cc event_loop_test.cc
  LIBRARIES weir_io)
weir_test(model_test
  SOURCES metric_filter_test.cc snapshot_test.cc decide_test.cc permissions_test.cc
  LIBRARIES weir_model weir_policy)
