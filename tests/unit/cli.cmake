weir_test(cli_test
  SOURCES
    cli_test.cc cli_flows_process_test.cc cli_process_test.cc cli_views_process_test.cc
    ${CMAKE_SOURCE_DIR}/tests/support/flow_records.cc
    ${CMAKE_SOURCE_DIR}/tests/support/program.cc
  LIBRARIES weir_admin weir_cli)
add_dependencies(cli_test weir)
target_compile_definitions(cli_test PRIVATE WEIR_PROGRAM="$<TARGET_FILE:weir>")
