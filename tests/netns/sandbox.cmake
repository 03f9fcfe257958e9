weir_test(sandbox_netns_test
  SOURCES sandbox_netns_test.cc
  LIBRARIES weir_test_netns
  ROOT)
