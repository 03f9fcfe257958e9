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
// "other", and how much that is is a metric of its own. Each bucket of the durations shows
// the newest sampled request in it as its exemplar. A pair whose requests all end alike
// makes 12 series. Consume on the telemetry thread, Collect on any.
class RedMetrics final : public observe::RecordConsumer {
 public:
  explicit RedMetrics(std::size_t max_series = 2000) : max_series_(max_series) {}

  void Consume(const std::vector<observe::Record>& records) noexcept override;
  // weir_requests, weir_request_parents, weir_request_duration_seconds,
  // weir_tunnel_wait_seconds, weir_connections, weir_connection_sent_bytes,
  // weir_connection_received_bytes, weir_metrics_overflow.
  [[nodiscard]] std::vector<observe::MetricFamily> Collect() const;

 private:
  static constexpr std::array<double, 8> kBounds = {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5};
  static constexpr std::size_t kParentSources =
      static_cast<std::size_t>(observe::ParentSource::kSole) + 1;
  using Labels = std::vector<std::pair<std::string, std::string>>;
  struct Counter {
    Labels labels;
    std::uint64_t count = 0;
    std::uint64_t sent_bytes = 0;
    std::uint64_t received_bytes = 0;
  };
  struct Bucket {
    std::uint64_t count = 0;
    // The newest sampled request of it; a zero trace id is none.
    observe::TraceId trace_id{};
    observe::SpanId span_id{};
    base::Nanoseconds duration{0};
    base::WallTime end{};
  };
  struct Duration {
    Labels labels;
    std::array<Bucket, kBounds.size() + 1> buckets{};  // the last has no bound
    base::Nanoseconds sum{0};
  };
  // How long calls to other nodes waited for a tunnel, those that found one included.
  static constexpr std::array<double, 5> kWaitBounds = {0.001, 0.005, 0.05, 0.5, 5};
  struct Waits {
    std::array<std::uint64_t, kWaitBounds.size() + 1> counts{};  // the last has no bound
    base::Nanoseconds sum{0};
  };
  template <typename T>
  using Table = std::unordered_map<std::string, T, NameHash, std::equal_to<>>;

  void AddCount(const observe::Flow& flow);
  void AddDuration(const observe::Flow& flow);
  void AddWait(const observe::Flow& flow);
  // The entry of key_, made with `flow`'s labels, or the one for "other".
  template <typename T, typename MakeLabels>
  T& Entry(Table<T>& table, std::size_t limit, const observe::Flow& flow,
           const MakeLabels& make_labels);
  static void AppendBuckets(const Duration& duration, observe::MetricFamily& family);
  void AppendParents(std::vector<observe::MetricFamily>& families) const;
  void AppendDurations(std::vector<observe::MetricFamily>& families) const;
  void AppendWaits(std::vector<observe::MetricFamily>& families) const;

  mutable std::mutex mutex_;
  Table<Counter> requests_;
  Table<Counter> connections_;
  Table<Duration> durations_;
  Waits waits_;
  // By direction, then by parent source.
  std::array<std::array<std::uint64_t, kParentSources>, 2> parents_{};
  std::size_t max_series_;
  std::uint64_t overflow_ = 0;
  std::string key_;  // scratch
};

}  // namespace weir::telemetry
