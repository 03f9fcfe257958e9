weir_test(access_log_test
  SOURCES access_log_format_test.cc access_log_line_test.cc access_log_test.cc
          log_stream_test.cc log_writer_test.cc
          ${CMAKE_SOURCE_DIR}/tests/support/scripted_http_server.cc
  LIBRARIES weir_export)
