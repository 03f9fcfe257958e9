# For root tests: RootTest, Sandbox (namespaces, cgroup, bpffs), small TCP ends.
add_library(weir_test_netns STATIC root_test.cc sandbox.cc talk.cc tcp.cc)
target_link_libraries(weir_test_netns PUBLIC weir_flags weir_base weir_io GTest::gtest Threads::Threads)
