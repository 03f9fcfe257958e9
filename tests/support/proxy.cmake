# For tests of the proxy without a kernel program: nodes in one process.
add_library(weir_test_proxy STATIC proxy_bed.cc test_pki.cc)
target_link_libraries(weir_test_proxy PUBLIC weir_flags weir_proxy GTest::gtest)
