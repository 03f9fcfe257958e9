weir_test(tls_test
  SOURCES client_hello_test.cc engine_test.cc engine_interop_test.cc secret_test.cc
    svid_verifier_test.cc ../support/test_pki.cc
  LIBRARIES weir_tls)
