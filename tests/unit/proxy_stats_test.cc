#include <gtest/gtest.h>

#include <array>
#include <map>
#include <string>

#include "agent/proxy/stats.h"

namespace weir::proxy {
namespace {

TEST(TurnHistogramTest, AddsUpTheTurnsOfAllWorkers) {
  WorkerStats first;
  WorkerStats second;
  first.turns.Add(std::chrono::microseconds(1000));  // a bound belongs to its bucket
  first.turns.Add(std::chrono::milliseconds(30));
  second.turns.Add(std::chrono::seconds(2));
  const std::array<const WorkerStats*, 2> workers = {&first, &second};
  std::map<std::string, double> samples;
  for (const auto& family : CollectMetrics(workers)) {
    if (family.name == "weir_loop_turn_seconds") {
      for (const auto& sample : family.samples) {
        samples[sample.suffix + (sample.labels.empty() ? "" : sample.labels[0].second)] =
            sample.value;
      }
    }
  }
  EXPECT_EQ(samples.size(), 9U);
  EXPECT_EQ(samples["_bucket0.001"], 1);
  EXPECT_EQ(samples["_bucket0.02"], 1);
  EXPECT_EQ(samples["_bucket0.05"], 2);
  EXPECT_EQ(samples["_bucket+Inf"], 3);
  EXPECT_EQ(samples["_count"], 3);
  EXPECT_DOUBLE_EQ(samples["_sum"], 2.031);
}

TEST(CollectMetricsTest, LeavesOutReasonsAndKindsThatWereNeverCounted) {
  WorkerStats idle;
  WorkerStats busy;
  busy.reasons[static_cast<std::size_t>(observe::Reason::kUpstreamRefused)].Add();
  const std::array<const WorkerStats*, 2> workers = {&idle, &busy};
  std::map<std::string, std::size_t> series;
  for (const auto& family : CollectMetrics(workers)) {
    series[family.name] = family.samples.size();
    if (family.name == "weir_connection_failures") {
      ASSERT_EQ(family.samples.size(), 1U);
      EXPECT_EQ(family.samples[0].labels[0].second, "upstream-refused");
      EXPECT_EQ(family.samples[0].value, 1);
    }
  }
  for (const char* name : {"weir_tunnel_failures", "weir_tunnel_violations",
                           "weir_http2_violations", "weir_database_unfollowed"}) {
    ASSERT_TRUE(series.contains(name)) << name;  // its type is told all the same
    EXPECT_EQ(series[name], 0U) << name;
  }
  EXPECT_EQ(series["weir_policy_decisions"], 8U);
}

}  // namespace
}  // namespace weir::proxy
