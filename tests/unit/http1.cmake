weir_test(http1_test
  SOURCES forwarded_test.cc http1_parser_test.cc http1_detect_test.cc trace_context_test.cc trace_headers_test.cc
    ${CMAKE_SOURCE_DIR}/tests/support/http1_corpus.cc
  LIBRARIES weir_http)
weir_test(http1_relay_test
  SOURCES http1_relay_test.cc request_trace_test.cc inferred_parent_test.cc w3c_conformance_test.cc finish_test.cc ${CMAKE_SOURCE_DIR}/tests/support/http1_corpus.cc
  LIBRARIES weir_proxy)
weir_test(http2_relay_test
  SOURCES http2_relay_test.cc
  LIBRARIES weir_proxy)
