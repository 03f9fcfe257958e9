weir_test(h2_test
  SOURCES h2_frame_test.cc hpack_test.cc tunnel_mux_abuse_test.cc tunnel_mux_flow_test.cc
    tunnel_mux_nghttp2_test.cc tunnel_mux_test.cc
  LIBRARIES weir_http)
weir_test(h2_relay_test
  SOURCES h2_relay_abuse_test.cc h2_relay_nghttp2_test.cc h2_relay_test.cc
  LIBRARIES weir_http)
weir_test(tunnel_test
  SOURCES tunnel_connection_test.cc tunnel_expiry_test.cc tunnel_hostile_test.cc
    tunnel_pool_test.cc ../support/test_pki.cc
  LIBRARIES weir_proxy)
