weir_test(database_test
  SOURCES database_detect_test.cc mysql_tap_test.cc postgresql_tap_test.cc redis_tap_test.cc
    sql_summary_test.cc statement_table_test.cc
  LIBRARIES weir_database)
