weir_test(datapath_netns_test
  SOURCES intercept_netns_test.cc leftovers_netns_test.cc legs_netns_test.cc
    preflight_netns_test.cc units_netns_test.cc worker_table_netns_test.cc
  LIBRARIES weir_test_datapath
  ROOT TIMEOUT 300)
# Go compiles its library the first time.
weir_test(hooked_runtimes_netns_test
  SOURCES hooked_runtimes_netns_test.cc ../support/program.cc
  LIBRARIES weir_test_datapath
  ROOT TIMEOUT 600)
