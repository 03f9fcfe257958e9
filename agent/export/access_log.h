#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "agent/export/log_writer.h"
#include "agent/model/access_logs.h"
#include "agent/observe/metrics.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

struct AccessLogOptions {
  std::string node;  // what lines name as their host
  // Of every file; `path` is weir's own log, in the names of the Elastic Common Schema, and
  // may be empty.
  LogWriterOptions file;
};

// AccessLog makes a line of each record that is one (IsLogged): in weir's own log, and in the
// files that MeshAccessLog documents name. Each file has a writer of its own.
class AccessLog final : public observe::RecordConsumer {
 public:
  static base::Result<std::unique_ptr<AccessLog>> Start(AccessLogOptions options);

  // Telemetry thread. Never waits for a file.
  void Consume(const std::vector<observe::Record>& records) noexcept override;
  // Control thread: what documents say from now on; null is nothing. Writers of files that
  // nobody names any more are stopped. After an error the rules before stay in force.
  base::Result<void> SetRules(std::shared_ptr<const model::AccessLogs> rules);
  // Any thread.
  void Reopen() noexcept;
  [[nodiscard]] std::map<std::string, LogWriterStatus> status() const;  // by path
  [[nodiscard]] std::vector<observe::MetricFamily> Metrics() const;
  // After the pipeline's end; as LogWriter's, for each file.
  void Stop(std::chrono::milliseconds limit) noexcept;

 private:
  using Writers = std::map<std::string, std::shared_ptr<LogWriter>, std::less<>>;
  // Lines of one batch for one file.
  struct Batch {
    std::string lines;
    std::size_t count = 0;
  };
  using Batches = std::map<std::string_view, Batch>;

  explicit AccessLog(AccessLogOptions options) : options_(std::move(options)) {}
  base::Result<std::shared_ptr<LogWriter>> StartWriter(const std::string& path) const;
  void AppendByRules(const model::AccessLogs& rules, const observe::Record& record,
                     Batches& batches) const;
  [[nodiscard]] Writers writers() const;

  const AccessLogOptions options_;
  mutable std::mutex mutex_;
  std::shared_ptr<const model::AccessLogs> rules_;
  Writers writers_;
};

}  // namespace weir::telemetry
