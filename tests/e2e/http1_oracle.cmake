weir_test(http1_oracle_test
  SOURCES http1_oracle_test.cc ${CMAKE_SOURCE_DIR}/tests/support/http1_corpus.cc
  LIBRARIES weir_proxy)
