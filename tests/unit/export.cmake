weir_test(export_test
  SOURCES pipeline_test.cc red_metrics_test.cc service_graph_test.cc span_encoder_test.cc
          trace_store_test.cc
  LIBRARIES weir_export)
