weir_test(config_test
  SOURCES
    agent_config_test.cc config_access_log_test.cc config_builder_test.cc config_documents_test.cc config_metric_test.cc config_mutation_test.cc
    config_permissions_test.cc
    config_policies_test.cc config_resource_test.cc config_source_test.cc config_yaml_test.cc workload_discovery_test.cc
  LIBRARIES weir_config weir_policy)
target_compile_definitions(config_test PRIVATE WEIR_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
