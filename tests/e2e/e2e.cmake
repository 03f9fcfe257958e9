# A machine with systemd of its own; it installs what the build made.
add_test(NAME unit_e2e
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/unit_e2e.py --build ${CMAKE_BINARY_DIR} -v)
set_tests_properties(unit_e2e PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 400)
add_test(NAME crm_e2e
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/crm_e2e.py --bin ${CMAKE_BINARY_DIR}/bin -v)
set_tests_properties(crm_e2e PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 400)
add_test(NAME idle_e2e
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/idle_e2e.py --bin ${CMAKE_BINARY_DIR}/bin -v)
set_tests_properties(idle_e2e PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 400)
foreach(name faults_e2e bad_input_e2e policy_e2e)
  add_test(NAME ${name}
    COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/${name}.py --bin ${CMAKE_BINARY_DIR}/bin -v)
  # With WEIR_TEST_FULL=1 the faults take almost half an hour.
  set_tests_properties(${name} PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 2700)
endforeach()

# What its services need is installed by scripts/install-deps test.
add_test(NAME sdk_nesting_e2e
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/sdk_nesting_e2e.py --bin ${CMAKE_BINARY_DIR}/bin -v)
set_tests_properties(sdk_nesting_e2e PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 400)
# Needs neither root nor the binaries: promtool and a recorded scrape.
add_test(NAME dashboards_e2e COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/dashboards_e2e.py -v)
set_tests_properties(dashboards_e2e PROPERTIES LABELS "e2e" TIMEOUT 300)
add_test(NAME export_e2e
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/export_e2e.py --bin ${CMAKE_BINARY_DIR}/bin
          --oracles ${CMAKE_SOURCE_DIR}/build/oracles -v)
set_tests_properties(export_e2e PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 1500)
add_test(NAME http2_e2e
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/http2_e2e.py --bin ${CMAKE_BINARY_DIR}/bin -v)
set_tests_properties(http2_e2e PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 400)
add_test(NAME causality_e2e
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/causality_e2e.py --bin ${CMAKE_BINARY_DIR}/bin
          --oracles ${CMAKE_SOURCE_DIR}/build/oracles -v)
set_tests_properties(causality_e2e PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 1500)
add_test(NAME runtime_hooks_e2e
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/runtime_hooks_e2e.py --bin ${CMAKE_BINARY_DIR}/bin -v)
set_tests_properties(runtime_hooks_e2e PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 400)
add_test(NAME database_e2e
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/database_e2e.py --bin ${CMAKE_BINARY_DIR}/bin -v)
set_tests_properties(database_e2e PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 400)
