weir_test(export_plan_test SOURCES export_plan_test.cc LIBRARIES weir_daemon)
