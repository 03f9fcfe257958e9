weir_test(proxy_test
  SOURCES describe_request_test.cc opaque_memory_test.cc proxy_causality_test.cc proxy_drain_test.cc
    proxy_failure_test.cc proxy_inbound_test.cc proxy_outbound_test.cc proxy_policy_test.cc
    proxy_registry_test.cc refusal_test.cc request_gate_test.cc snapshot_scan_test.cc proxy_session_test.cc
    socket_leg_test.cc
  LIBRARIES weir_test_proxy weir_test_netns)
weir_test(proxy_database_test
  SOURCES proxy_database_test.cc
  LIBRARIES weir_test_proxy weir_test_netns)
weir_test(proxy_http2_test
  SOURCES proxy_http2_test.cc
  LIBRARIES weir_test_proxy weir_test_netns)
