weir_test(export_test
  SOURCES otlp_endpoint_test.cc otlp_exporter_test.cc pipeline_test.cc red_metrics_test.cc
          service_graph_test.cc span_encoder_test.cc trace_store_test.cc
          ${CMAKE_SOURCE_DIR}/tests/support/scripted_http_server.cc
  LIBRARIES weir_export)
