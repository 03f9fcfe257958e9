weir_test(proxy_netns_test
  SOURCES proxy_netns_test.cc
  LIBRARIES weir_test_proxy weir_test_datapath
  ROOT TIMEOUT 300)
