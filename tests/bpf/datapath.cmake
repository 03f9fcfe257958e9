weir_test(lookup_bpf_test
  SOURCES lookup_bpf_test.cc
  LIBRARIES weir_test_netns bpf_lookup PkgConfig::LIBBPF
  ROOT)
weir_test(parent_bpf_test
  SOURCES parent_bpf_test.cc parent_rig.cc
  LIBRARIES weir_test_netns bpf_parent PkgConfig::LIBBPF
  ROOT)
weir_test(runtime_bpf_test
  SOURCES runtime_bpf_test.cc parent_rig.cc
  LIBRARIES weir_test_netns bpf_parent bpf_runtime PkgConfig::LIBBPF
  ROOT)
