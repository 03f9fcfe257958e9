#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/export/party_name.h"
#include "agent/observe/metrics.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

// RedMetrics counts requests and connections (rate, errors, duration) for /metrics. Label
// values are display names of workloads, "outside" for everybody else, and enumerations.
// Beyond `max_series` label sets (an eighth of it for durations) the rest counts under
// "other", and how much that is is a metric of its own. Consume on the telemetry thread,
// Collect on any.
class RedMetrics final : public observe::RecordConsumer {
 public:
  explicit RedMetrics(std::size_t max_series = 2000) : max_series_(max_series) {}

  void Consume(const std::vector<observe::Record>& records) noexcept override;
  // weir_requests, weir_request_duration_seconds, weir_connections,
  // weir_connection_sent_bytes, weir_connection_received_bytes, weir_metrics_overflow.
  [[nodiscard]] std::vector<observe::MetricFamily> Collect() const;

 private:
  static constexpr std::array<double, 11> kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                     0.1,   0.25,   0.5,   1,    5};
  using Labels = std::vector<std::pair<std::string, std::string>>;
  struct Counter {
    Labels labels;
    std::uint64_t count = 0;
    std::uint64_t sent_bytes = 0;
    std::uint64_t received_bytes = 0;
  };
  struct Duration {
    Labels labels;
    std::array<std::uint64_t, kBounds.size() + 1> buckets{};  // the last has no bound
    base::Nanoseconds sum{0};
  };
  template <typename T>
  using Table = std::unordered_map<std::string, T, NameHash, std::equal_to<>>;

  void AddCount(const observe::Flow& flow);
  void AddDuration(const observe::Flow& flow);
  // The entry of key_, made with `flow`'s labels, or the one for "other".
  template <typename T, typename MakeLabels>
  T& Entry(Table<T>& table, std::size_t limit, const observe::Flow& flow,
           const MakeLabels& make_labels);
  void AppendDurations(std::vector<observe::MetricFamily>& families) const;

  mutable std::mutex mutex_;
  Table<Counter> requests_;
  Table<Counter> connections_;
  Table<Duration> durations_;
  std::size_t max_series_;
  std::uint64_t overflow_ = 0;
  std::string key_;  // scratch
};

}  // namespace weir::telemetry
