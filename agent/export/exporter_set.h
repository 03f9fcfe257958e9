#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "agent/base/error.h"
#include "agent/export/exporter_pool.h"
#include "agent/export/pipeline.h"
#include "agent/export/span_encoder.h"
#include "agent/observe/metrics.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

// Which workload's spans go where. Indices are into `exporters`.
struct ExportRoutes {
  // Instead of an index: these spans stay in memory.
  static constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();

  std::vector<NamedExporter> exporters;
  std::unordered_map<model::LocalId, std::size_t> by_workload;
  std::optional<std::size_t> fallback;  // of all others; none: their spans stay in memory
};

// ExporterSet encodes the spans of finished records and hands them to the exporter of their
// workload.
class ExporterSet final : public observe::RecordConsumer {
 public:
  // `options.queue_limit_bytes` is for all exporters together.
  explicit ExporterSet(const ExporterOptions& options) : pool_(Signal::kTraces, options) {}

  // Follows `routes` from now on, as ExporterPool::SetExporters. Workloads whose exporter
  // cannot be started keep their spans in memory. Control thread.
  base::Result<void> SetRoutes(ExportRoutes routes);
  // Frees exporters that have come to their end. Control thread, from time to time.
  void Reap() { pool_.Reap(); }
  // Ends all of them, together within `bound`. What comes later is kept.
  void Stop(std::chrono::milliseconds bound);

  void Consume(const std::vector<observe::Record>& records) noexcept override;
  [[nodiscard]] ExportStatus status() const;  // any thread

 private:
  // With the mutex held: the index of the exporter, or kNowhere.
  [[nodiscard]] std::size_t ExporterOf(const model::LocalWorkload* local) const;

  ExporterPool pool_;
  mutable std::mutex mutex_;  // guards what follows
  std::unordered_map<model::LocalId, std::size_t> by_workload_;
  std::optional<std::size_t> fallback_;
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

// What /metrics shows of the pipeline: weir_telemetry_*. Any thread.
std::vector<observe::MetricFamily> PipelineMetrics(const Pipeline& pipeline);

// What /metrics shows of exporters of all signals: weir_export_*. Pure.
std::vector<observe::MetricFamily> ExportMetrics(const std::vector<ExportStatus>& signals);

}  // namespace weir::telemetry
