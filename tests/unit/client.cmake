weir_test(client_test
  SOURCES http_client_test.cc ${CMAKE_SOURCE_DIR}/tests/support/scripted_http_server.cc
  LIBRARIES weir_client)
