weir_test(datapath_test
  SOURCES cgroup_test.cc delivery_slots_test.cc go_binary_test.cc leg_ports_test.cc
  LIBRARIES weir_datapath)
