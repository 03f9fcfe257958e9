weir_test(h2_test
  SOURCES h2_frame_test.cc tunnel_mux_flow_test.cc tunnel_mux_test.cc
  LIBRARIES weir_http)
