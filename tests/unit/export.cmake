weir_test(export_test
  SOURCES collector_test.cc export_faults_test.cc exporter_set_test.cc otlp_grpc_test.cc
          metrics_encoder_test.cc pipeline_test.cc red_metrics_test.cc service_graph_test.cc span_encoder_test.cc
          batch_exporter_test.cc top_table_test.cc trace_store_test.cc zipkin_test.cc
          ${CMAKE_SOURCE_DIR}/tests/support/flow_records.cc
          ${CMAKE_SOURCE_DIR}/tests/support/scripted_http_server.cc
          ${CMAKE_SOURCE_DIR}/tests/support/scripted_http2_server.cc
  LIBRARIES weir_export Boost::json)
