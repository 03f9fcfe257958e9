# With WEIR_TEST_FULL=1 these take about half an hour.
add_test(NAME telemetry_faults_e2e
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/telemetry_faults_e2e.py --bin ${CMAKE_BINARY_DIR}/bin
          --oracles ${CMAKE_SOURCE_DIR}/build/oracles -v)
set_tests_properties(telemetry_faults_e2e PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 2700)
add_test(NAME http2_faults_e2e
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/http2_faults_e2e.py --bin ${CMAKE_BINARY_DIR}/bin -v)
set_tests_properties(http2_faults_e2e PROPERTIES LABELS "e2e" RUN_SERIAL ON TIMEOUT 600)
