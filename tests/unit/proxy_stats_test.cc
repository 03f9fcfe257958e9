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

}  // namespace
}  // namespace weir::proxy
