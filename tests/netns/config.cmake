weir_test(discovery_netns_test
  SOURCES discovery_netns_test.cc
  LIBRARIES weir_config weir_test_netns
  ROOT)
