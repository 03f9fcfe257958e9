#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "agent/export/exporter_pool.h"
#include "agent/export/log_writer.h"
#include "agent/model/access_logs.h"
#include "agent/observe/metrics.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

struct AccessLogOptions {
  std::string node;  // what lines name as their host
  // Of every file and TCP sink; `path` is weir's own log, in the names of the Elastic Common
  // Schema, and may be empty.
  LogWriterOptions file{};
  ExporterOptions exporter{};  // of those of OTLP
};

// Lines and log records together: generated = exported + dropped + queued in every copy.
struct LogTotals {
  std::uint64_t generated = 0;
  std::uint64_t exported = 0;  // written, or accepted by a collector
  std::uint64_t dropped = 0;
  std::uint64_t queued = 0;
  std::size_t queued_bytes = 0;
  std::size_t limit_bytes = 0;  // of all queues together
};

// AccessLog makes a line of each record that is one (IsLogged): in weir's own log, and where
// MeshAccessLog documents say: in files, over TCP, as log records of OTLP. Each file and TCP
// sink has a writer of its own, each collector an exporter.
class AccessLog final : public observe::RecordConsumer {
 public:
  static base::Result<std::unique_ptr<AccessLog>> Start(AccessLogOptions options);

  // Telemetry thread. Never waits for a file.
  void Consume(const std::vector<observe::Record>& records) noexcept override;
  // Control thread: what documents say from now on; null is nothing. `exporters` are those that
  // rules name; records for one that is missing are dropped and counted. Writers and exporters
  // that nobody names any more are stopped. After an error the rules before stay in force.
  base::Result<void> SetRules(std::shared_ptr<const model::AccessLogs> rules,
                              std::vector<NamedExporter> exporters = {});
  // Frees exporters that have come to their end. Control thread, from time to time.
  void Reap() { pool_.Reap(); }
  // Any thread.
  void Reopen() noexcept;
  [[nodiscard]] std::map<std::string, LogWriterStatus> status() const;  // by path
  [[nodiscard]] ExportStatus exports() const { return pool_.status(); }
  [[nodiscard]] LogTotals totals() const;
  // Of files and TCP sinks; ExportMetrics shows the rest.
  [[nodiscard]] std::vector<observe::MetricFamily> Metrics() const;
  // After the pipeline's end; as LogWriter's, for each sink.
  void Stop(std::chrono::milliseconds limit) noexcept;

 private:
  using Writers = std::map<std::string, std::shared_ptr<LogWriter>, std::less<>>;
  using Rules = std::shared_ptr<const model::AccessLogs>;
  using Indices = std::map<std::string, std::size_t, std::less<>>;
  // Lines of one batch for one file or TCP sink.
  struct Lines {
    std::string text;
    std::size_t count = 0;
  };
  struct Batches {
    std::map<std::string_view, Lines> lines;                           // by the writer's path
    std::map<std::string_view, std::vector<ExportChunk>> log_records;  // by the exporter's name
    std::size_t count = 0;                                             // of all together
  };

  explicit AccessLog(AccessLogOptions options)
      : options_(std::move(options)), pool_(Signal::kLogs, options_.exporter) {}
  base::Result<Writers> WritersFor(const model::AccessLogs* rules) const;
  base::Result<std::shared_ptr<LogWriter>> StartWriter(const std::string& path) const;
  void AppendByRules(const model::AccessLogs& rules, const observe::Record& record,
                     Batches& batches) const;
  void AppendTo(const model::LogBackend& backend, const observe::Record& record,
                Batches& batches) const;
  [[nodiscard]] Writers writers() const;

  const AccessLogOptions options_;
  ExporterPool pool_;
  mutable std::mutex mutex_;  // guards what follows
  Rules rules_;
  Writers writers_;
  Indices exporters_;        // in the pool, by name
  LogWriterStatus retired_;  // of writers that have ended
  std::uint64_t generated_ = 0;
};

}  // namespace weir::telemetry
