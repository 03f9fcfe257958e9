weir_test(observe_test
  SOURCES metrics_test.cc span_event_test.cc
  LIBRARIES weir_observe)
