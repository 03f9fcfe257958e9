# Without the rest of the module, which needs libbpf.
weir_fuzz(go_binary_fuzz SOURCES go_binary_fuzz.cc ../../agent/datapath/go_binary.cc LIBRARIES weir_base)
