weir_test(lookup_bpf_test
  SOURCES lookup_bpf_test.cc
  LIBRARIES weir_test_netns bpf_lookup PkgConfig::LIBBPF
  ROOT)
