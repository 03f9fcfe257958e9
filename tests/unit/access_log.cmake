weir_test(access_log_test
  SOURCES access_log_format_test.cc access_log_line_test.cc access_log_test.cc
          log_writer_test.cc
  LIBRARIES weir_export)
