weir_test(identity_test
  SOURCES certificate_authority_test.cc node_ca_test.cc svid_manager_test.cc
    ../support/test_pki.cc
  LIBRARIES weir_identity)
