#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/export/batch_exporter.h"
#include "agent/export/collector.h"

namespace weir::telemetry {

// A collector and the name of the backend that it stands for, which stays the same when
// the backend moves: "MeshOpenTelemetryBackend/main".
struct NamedExporter {
  std::string name;
  Collector collector;
};

// All exporters of one signal at one moment.
struct ExportStatus {
  std::vector<ExporterStatus> exporters{};  // in the order they were set, then those that end
  // What exporters that have ended did: offered, exported, dropped, requests and the like.
  ExporterStatus retired{};
  std::uint64_t kept = 0;             // spans of workloads without a collector
  std::size_t queue_limit_bytes = 0;  // of all together

  [[nodiscard]] std::uint64_t offered() const;
  [[nodiscard]] std::uint64_t queued() const;
  [[nodiscard]] std::uint64_t exported() const;
  [[nodiscard]] std::uint64_t dropped() const;
  [[nodiscard]] std::size_t queue_bytes() const;
};

// ExporterPool holds the exporters of one signal. Collectors fail apart from each other: each
// has a queue and a thread of its own, and an equal share of the bytes that may wait in all of
// them.
class ExporterPool {
 public:
  // How long an exporter that is not wanted any more may take to send what it has.
  static constexpr std::chrono::milliseconds kRetireBound{10'000};

  // `options.queue_limit_bytes` is for all exporters together.
  ExporterPool(Signal signal, const ExporterOptions& options);

  // These from now on. An exporter whose name is among the old ones and the new ones goes on,
  // with its queue, to the new collector; those that are not named any more come to their end.
  // Fails when a thread cannot be started: there is no exporter at that index then. Control
  // thread.
  base::Result<void> SetExporters(std::vector<NamedExporter> wanted);
  // Frees exporters that have come to their end. Control thread, from time to time.
  void Reap();
  // Ends all of them, together within `bound`.
  void Stop(std::chrono::milliseconds bound);

  // Whether there is an exporter at `index` of what was set last. Any thread.
  [[nodiscard]] bool Has(std::size_t index) const;
  // Hands `chunks` to it; without one they are dropped and counted. Any thread.
  void Enqueue(std::size_t index, std::vector<ExportChunk> chunks);
  [[nodiscard]] ExportStatus status() const;  // any thread
  [[nodiscard]] const ExporterOptions& options() const { return options_; }

 private:
  using Exporters = std::vector<std::unique_ptr<BatchExporter>>;

  // With the mutex held.
  [[nodiscard]] std::unique_ptr<BatchExporter> Take(const std::string& name);
  void Fold(const ExporterStatus& status);

  const ExporterOptions options_;
  mutable std::mutex mutex_;  // guards what follows
  Exporters exporters_;       // in the order they were set; null: it could not be started
  Exporters ending_;
  ExporterStatus retired_;
};

}  // namespace weir::telemetry
