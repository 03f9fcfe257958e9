weir_fuzz(hpack_fuzz SOURCES hpack_fuzz.cc LIBRARIES weir_http)
weir_fuzz(tunnel_client_fuzz SOURCES tunnel_client_fuzz.cc LIBRARIES weir_http)
weir_fuzz(tunnel_server_fuzz SOURCES tunnel_server_fuzz.cc LIBRARIES weir_http)
weir_fuzz(h2_relay_fuzz SOURCES h2_relay_fuzz.cc LIBRARIES weir_http)
