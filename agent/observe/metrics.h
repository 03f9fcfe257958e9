#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weir::observe {

enum class MetricType : std::uint8_t { kCounter, kGauge, kHistogram };

// One of the measurements behind a bucket (OpenMetrics 1.0, "Exemplars"): what tells which,
// such as its trace id (names and values of at most 128 characters together), the measured
// value, and when, in seconds since 1970.
struct Exemplar {
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;
  double time = 0;
};

// One sample of a family: its label pairs and value. `suffix` is for histograms alone:
// "_bucket" (with the label "le"), "_count" or "_sum"; `exemplar` for "_bucket" alone.
struct MetricSample {
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;
  std::string suffix{};
  std::optional<Exemplar> exemplar{};
};

// A metric as /metrics shows it (OpenMetrics 1.0). `name` without the _total suffix
// that counters get; `help` is one sentence; label sets are bounded by whoever makes them.
struct MetricFamily {
  std::string name;
  std::string help;
  MetricType type = MetricType::kCounter;
  std::vector<MetricSample> samples;
};

// The bound of a histogram's bucket as the label "le" shows it: "0.005", "1.0".
std::string BoundText(double bound);

// Renders `families` as OpenMetrics 1.0 text (content type kOpenMetricsContentType), with
// the end mark. Families of one name must be merged before. Pure.
std::string RenderOpenMetrics(const std::vector<MetricFamily>& families);
inline constexpr std::string_view kOpenMetricsContentType =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

}  // namespace weir::observe
