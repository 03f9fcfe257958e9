weir_test(export_plan_test
  SOURCES export_plan_test.cc ${CMAKE_SOURCE_DIR}/agent/daemon/export_plan.cc
  LIBRARIES weir_config weir_export)
