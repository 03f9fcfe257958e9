# For tests of interception: a Datapath with a thread that answers what it was told.
add_library(weir_test_datapath STATIC agent.cc)
target_link_libraries(weir_test_datapath PUBLIC weir_datapath weir_test_netns)
