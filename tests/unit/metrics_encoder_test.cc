#include "agent/export/metrics_encoder.h"

#include <gtest/gtest.h>
#include <otlp/metrics_service.pb.h>

#include "agent/export/metrics_pusher.h"
#include "agent/export/red_metrics.h"
#include "tests/support/scripted_http_server.h"
#include "tests/unit/export_support.h"

namespace weir::telemetry {
namespace {

namespace otlp = opentelemetry::proto::metrics::v1;
using observe::MetricFamily;
using observe::MetricType;
using opentelemetry::proto::collector::metrics::v1::ExportMetricsServiceRequest;
using std::chrono::seconds;

constexpr base::WallTime kStart{seconds(1'800'000'000)};
constexpr base::WallTime kNow{seconds(1'800'000'060)};

otlp::ScopeMetrics Encode(const std::vector<MetricFamily>& families, std::size_t expected_points,
                          const model::MetricFilter& filter = {}) {
  std::string bytes;
  EXPECT_EQ(AppendMetrics(families, filter, kStart, kNow, bytes), expected_points);
  otlp::ScopeMetrics metrics;
  EXPECT_TRUE(metrics.ParseFromString(bytes));
  EXPECT_EQ(metrics.ByteSizeLong(), bytes.size());
  return metrics;
}

TEST(MetricsEncoderTest, EncodesCountersAndGauges) {
  const auto metrics = Encode(
      {{"weir_things", "Things.", MetricType::kCounter, {{.labels = {{"a", "x"}}, .value = 5}}},
       {"weir_nothing", "Without samples.", MetricType::kCounter, {}},
       {"weir_size_bytes", "Size.", MetricType::kGauge, {{.labels = {}, .value = 0.5}}}},
      2);
  ASSERT_EQ(metrics.metrics_size(), 2);
  EXPECT_EQ(metrics.metrics(0).name(), "weir_things");
  EXPECT_EQ(metrics.metrics(0).description(), "Things.");
  const otlp::Sum& sum = metrics.metrics(0).sum();
  EXPECT_TRUE(sum.is_monotonic());
  EXPECT_EQ(sum.aggregation_temporality(), otlp::AGGREGATION_TEMPORALITY_CUMULATIVE);
  EXPECT_EQ(sum.data_points(0).as_double(), 5);
  EXPECT_EQ(sum.data_points(0).start_time_unix_nano(), 1'800'000'000'000'000'000U);
  EXPECT_EQ(sum.data_points(0).time_unix_nano(), 1'800'000'060'000'000'000U);
  EXPECT_EQ(sum.data_points(0).attributes(0).key(), "a");
  EXPECT_EQ(sum.data_points(0).attributes(0).value().string_value(), "x");
  EXPECT_EQ(metrics.metrics(1).unit(), "By");
  EXPECT_EQ(metrics.metrics(1).gauge().data_points(0).as_double(), 0.5);
}

TEST(MetricsEncoderTest, EncodesHistogramsWithExemplars) {
  RedMetrics red;
  observe::Record fast = test::MakeRequest(/*is_client=*/true, /*trace=*/9, /*span=*/8);
  fast.flow.sampled = true;
  observe::Record slow = test::MakeRequest(/*is_client=*/true);
  slow.flow.timing.total = seconds(60);
  observe::Record other = test::MakeRequest(/*is_client=*/false);
  red.Consume({fast, fast, slow, other});
  auto families = red.Collect();
  std::erase_if(families, [](const MetricFamily& family) {
    return family.name != "weir_request_duration_seconds";
  });
  const auto metrics = Encode(families, 2);
  EXPECT_EQ(metrics.metrics(0).unit(), "s");
  const otlp::Histogram& histogram = metrics.metrics(0).histogram();
  EXPECT_EQ(histogram.aggregation_temporality(), otlp::AGGREGATION_TEMPORALITY_CUMULATIVE);
  ASSERT_EQ(histogram.data_points_size(), 2);
  const auto& first = histogram.data_points(0);
  const auto& point = first.count() == 3 ? first : histogram.data_points(1);
  EXPECT_EQ(point.count(), 3U);
  EXPECT_NEAR(point.sum(), 60.006, 1e-9);
  ASSERT_EQ(point.explicit_bounds_size(), 8);
  EXPECT_EQ(point.explicit_bounds(0), 0.001);
  ASSERT_EQ(point.bucket_counts_size(), 9);
  EXPECT_EQ(point.bucket_counts(1), 2U);  // up to 5 ms
  EXPECT_EQ(point.bucket_counts(8), 1U);
  ASSERT_EQ(point.exemplars_size(), 1);
  EXPECT_EQ(point.exemplars(0).trace_id(), std::string(15, '\0') + "\x09");
  EXPECT_EQ(point.exemplars(0).span_id(), std::string(7, '\0') + "\x08");
  EXPECT_NEAR(point.exemplars(0).as_double(), 0.003, 1e-9);
  EXPECT_EQ(point.attributes_size(), 3);  // direction, source, destination, and no "le"
}

TEST(MetricsEncoderTest, EncodesAHistogramWithoutMeasurements) {
  auto families = RedMetrics().Collect();
  std::erase_if(families, [](const MetricFamily& family) {
    return family.name != "weir_tunnel_wait_seconds";
  });
  const auto point = Encode(families, 1).metrics(0).histogram().data_points(0);
  EXPECT_EQ(point.count(), 0U);
  EXPECT_TRUE(point.has_sum());
  EXPECT_EQ(point.bucket_counts_size(), 6);
}

TEST(MetricsEncoderTest, LeavesOutWhatTheFilterDoesNotAdmit) {
  const auto filter = model::MetricFilter::Make(
      {.profiles = {model::MetricProfile::kNone},
       .include = {{.type = model::MetricSelector::Type::kExact, .match = "weir_b"}}});
  const auto metrics = Encode({{"weir_a", "A.", MetricType::kGauge, {{.labels = {}, .value = 1}}},
                               {"weir_b", "B.", MetricType::kGauge, {{.labels = {}, .value = 1}}}},
                              1, *filter);
  ASSERT_EQ(metrics.metrics_size(), 1);
  EXPECT_EQ(metrics.metrics(0).name(), "weir_b");
}

TEST(MetricsPusherTest, SendsWhenTheIntervalHasPassed) {
  const test::ScriptedHttpServer server(
      [](const test::ServedRequest&) { return test::Respond(200); });
  auto collector = CollectorAt(server.url());
  collector.signal = Signal::kMetrics;
  MetricsPusher pusher("node-a", kStart, kQuick);
  ASSERT_TRUE(pusher
                  .SetTargets({{.exporter = {.name = "c", .collector = collector},
                                .interval = seconds(10)}})
                  .has_value());
  int collected = 0;
  const auto collect = [&] {
    ++collected;
    return std::vector<MetricFamily>{
        {"weir_a", "A.", MetricType::kGauge, {{.labels = {}, .value = 1.0 * collected}}}};
  };
  const base::MonotonicTime begin{std::chrono::hours(1)};
  for (int second = 0; second <= 20; ++second) {
    pusher.Tick(begin + seconds(second), collect);
  }
  pusher.Tick(begin + seconds(100), collect);  // late, and the next is an interval later
  pusher.Tick(begin + seconds(109), collect);
  EXPECT_EQ(collected, 4);
  pusher.Stop(seconds(10));
  EXPECT_EQ(pusher.status().exported(), 4U);
  ExportMetricsServiceRequest message;
  ASSERT_TRUE(message.ParseFromString(server.requests().at(0).body));
  const auto& attributes = message.resource_metrics(0).resource().attributes();
  EXPECT_EQ(attributes.at(0).value().string_value(), "weir-agent");
  EXPECT_EQ(message.resource_metrics(0).scope_metrics(0).metrics(0).name(), "weir_a");
}

}  // namespace
}  // namespace weir::telemetry
