weir_fuzz(client_hello_fuzz SOURCES client_hello_fuzz.cc LIBRARIES weir_tls)
weir_fuzz(tls_engine_fuzz SOURCES tls_engine_fuzz.cc ../support/test_pki.cc LIBRARIES weir_tls)
