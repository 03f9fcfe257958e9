#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace weir::observe {

enum class MetricType : std::uint8_t { kCounter, kGauge };

// One sample of a family: its label pairs and value.
struct MetricSample {
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;
};

// A metric as /metrics shows it (OpenMetrics 1.0). `name` without the _total suffix
// that counters get; `help` is one sentence; label sets are bounded by whoever makes them.
struct MetricFamily {
  std::string name;
  std::string help;
  MetricType type = MetricType::kCounter;
  std::vector<MetricSample> samples;
};

}  // namespace weir::observe
