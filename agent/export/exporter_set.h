#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/base/error.h"
#include "agent/export/collector.h"
#include "agent/export/pipeline.h"
#include "agent/export/span_exporter.h"
#include "agent/observe/metrics.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

// A collector and the name of the backend that it stands for, which stays the same when
// the backend moves: "MeshOpenTelemetryBackend/main".
struct NamedExporter {
  std::string name;
  Collector collector;
};

// Which workload's spans go where. Indices are into `exporters`.
struct ExportRoutes {
  // Instead of an index: these spans stay in memory.
  static constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();

  std::vector<NamedExporter> exporters;
  std::unordered_map<model::LocalId, std::size_t> by_workload;
  std::optional<std::size_t> fallback;  // of all others; none: their spans stay in memory
};

// All exporters at one moment.
struct ExportStatus {
  std::vector<ExporterStatus> exporters{};  // in the order of the routes, then those that end
  // What exporters that have ended did: offered, exported, dropped, requests and the like.
  ExporterStatus retired{};
  std::uint64_t kept = 0;             // spans of workloads without a collector
  std::size_t queue_limit_bytes = 0;  // of all together

  [[nodiscard]] std::uint64_t queued() const;
  [[nodiscard]] std::uint64_t exported() const;
  [[nodiscard]] std::uint64_t dropped() const;
  [[nodiscard]] std::size_t queue_bytes() const;
};

// ExporterSet encodes the spans of finished records and hands them to the exporter of their
// workload. Collectors fail apart from each other: each has a queue and a thread of its
// own, and an equal share of the bytes that may wait in all of them.
class ExporterSet final : public observe::RecordConsumer {
 public:
  // How long an exporter that lost its last workload may take to send what it has.
  static constexpr std::chrono::milliseconds kRetireBound{10'000};

  // `options.queue_limit_bytes` is for all exporters together.
  explicit ExporterSet(const ExporterOptions& options) : options_(options) {}

  // Follows `routes` from now on. An exporter whose name is among the old ones and the new
  // ones goes on, with its queue, to the new collector; those that are not named any more
  // come to their end. Fails when a thread cannot be started: the workloads of that
  // exporter keep their spans in memory. Control thread.
  base::Result<void> SetRoutes(ExportRoutes routes);
  // Frees exporters that have come to their end. Control thread, from time to time.
  void Reap();
  // Ends all of them, together within `bound`. What comes later is kept.
  void Stop(std::chrono::milliseconds bound);

  void Consume(const std::vector<observe::Record>& records) noexcept override;
  [[nodiscard]] ExportStatus status() const;  // any thread

 private:
  using Exporters = std::vector<std::unique_ptr<SpanExporter>>;

  // With the mutex held.
  [[nodiscard]] SpanExporter* ExporterOf(const model::LocalWorkload* local) const;
  [[nodiscard]] std::unique_ptr<SpanExporter> Take(const std::string& name);
  void ShareQueue();
  void Fold(const ExporterStatus& status);

  const ExporterOptions options_;
  mutable std::mutex mutex_;  // guards what follows
  Exporters exporters_;       // in the order of the routes; null: it could not be started
  Exporters ending_;
  std::unordered_map<model::LocalId, std::size_t> by_workload_;
  std::optional<std::size_t> fallback_;
  ExporterStatus retired_;
  std::uint64_t kept_ = 0;
  SpanEncoder encoder_;  // of the telemetry thread
};

// Spans from the workers to the collectors, end to end:
// generated = exported + kept + dropped + queued in every copy.
struct SpanTotals {
  std::uint64_t generated = 0;
  std::uint64_t exported = 0;  // accepted by a collector
  std::uint64_t kept = 0;      // in memory only, as no collector was configured
  std::uint64_t dropped = 0;
  std::uint64_t queued = 0;
};

// Sums up the two halves of the way. Any thread.
SpanTotals TotalSpans(const ExporterSet& exporters, const Pipeline& pipeline);

// What /metrics shows of the way itself: weir_telemetry_*, weir_export_*. Any thread.
std::vector<observe::MetricFamily> TelemetryMetrics(const ExporterSet& exporters,
                                                    const Pipeline& pipeline);

}  // namespace weir::telemetry
