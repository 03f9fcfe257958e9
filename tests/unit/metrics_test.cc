#include "agent/observe/metrics.h"

#include <gtest/gtest.h>

#include <limits>

namespace weir::observe {
namespace {

TEST(OpenMetricsTest, RendersCountersGaugesAndHistograms) {
  const std::vector<MetricFamily> families = {
      {"weir_requests",
       "Requests.",
       MetricType::kCounter,
       {{{{"code", "2xx"}, {"verdict", "allow"}}, 12}, {{}, 0.5}}},
      {"weir_queue_bytes", "Bytes that wait.", MetricType::kGauge, {{{}, 1048576}}},
      {"weir_latency_seconds",
       "Time.",
       MetricType::kHistogram,
       {{{{"le", "+Inf"}}, 3, "_bucket"}, {{}, 3, "_count"}, {{}, 0.25, "_sum"}}},
  };
  EXPECT_EQ(RenderOpenMetrics(families),
            "# TYPE weir_requests counter\n"
            "# HELP weir_requests Requests.\n"
            "weir_requests_total{code=\"2xx\",verdict=\"allow\"} 12\n"
            "weir_requests_total 0.5\n"
            "# TYPE weir_queue_bytes gauge\n"
            "# HELP weir_queue_bytes Bytes that wait.\n"
            "weir_queue_bytes 1048576\n"
            "# TYPE weir_latency_seconds histogram\n"
            "# HELP weir_latency_seconds Time.\n"
            "weir_latency_seconds_bucket{le=\"+Inf\"} 3\n"
            "weir_latency_seconds_count 3\n"
            "weir_latency_seconds_sum 0.25\n"
            "# EOF\n");
}

TEST(OpenMetricsTest, RendersAnExemplarBehindItsBucket) {
  const std::vector<MetricFamily> families = {
      {"a",
       "b",
       MetricType::kHistogram,
       {{{{"le", "0.5"}},
         3,
         "_bucket",
         Exemplar{{{"trace_id", "ab"}, {"span_id", "c"}}, 0.25, 7.5}},
        {{{"le", "+Inf"}}, 3, "_bucket"}}}};
  EXPECT_EQ(RenderOpenMetrics(families),
            "# TYPE a histogram\n# HELP a b\n"
            "a_bucket{le=\"0.5\"} 3 # {trace_id=\"ab\",span_id=\"c\"} 0.25 7.5\n"
            "a_bucket{le=\"+Inf\"} 3\n# EOF\n");
}

TEST(OpenMetricsTest, EscapesLabelValuesAndHelp) {
  const std::vector<MetricFamily> families = {
      {"a", "one\ntwo", MetricType::kGauge, {{{{"l", "q\"b\\n\n"}}, 1}}}};
  EXPECT_EQ(RenderOpenMetrics(families),
            "# TYPE a gauge\n# HELP a one\\ntwo\na{l=\"q\\\"b\\\\n\\n\"} 1\n# EOF\n");
}

TEST(OpenMetricsTest, NamesInfinityAndNotANumber) {
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<MetricFamily> families = {
      {"a",
       "b",
       MetricType::kGauge,
       {{{}, infinity}, {{}, -infinity}, {{}, std::numeric_limits<double>::quiet_NaN()}}}};
  EXPECT_EQ(RenderOpenMetrics(families),
            "# TYPE a gauge\n# HELP a b\na +Inf\na -Inf\na NaN\n# EOF\n");
}

}  // namespace
}  // namespace weir::observe
