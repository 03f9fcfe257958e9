weir_test(client_test
  SOURCES grpc_test.cc http2_client_test.cc http_client_test.cc
          ${CMAKE_SOURCE_DIR}/tests/support/scripted_http_server.cc
          ${CMAKE_SOURCE_DIR}/tests/support/scripted_http2_server.cc
          ${CMAKE_SOURCE_DIR}/tests/support/test_pki.cc
  LIBRARIES weir_client weir_tls)
