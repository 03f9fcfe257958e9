weir_test(proxy_stats_test SOURCES proxy_stats_test.cc LIBRARIES weir_proxy)
