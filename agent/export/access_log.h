#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "agent/export/log_writer.h"
#include "agent/observe/metrics.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

// AccessLog makes weir's own log: a line in the names of the Elastic Common Schema for each
// record that is one (IsLogged), in a file of agent.yaml.
class AccessLog final : public observe::RecordConsumer {
 public:
  // `node` is what lines name as their host.
  static base::Result<std::unique_ptr<AccessLog>> Start(std::string node, LogWriterOptions options);

  // Telemetry thread. Never waits for the file.
  void Consume(const std::vector<observe::Record>& records) noexcept override;
  // Any thread.
  void Reopen() noexcept { writer_->Reopen(); }
  [[nodiscard]] LogWriterStatus status() const { return writer_->status(); }
  [[nodiscard]] std::vector<observe::MetricFamily> Metrics() const;
  // After the pipeline's end; as LogWriter's.
  void Stop(std::chrono::milliseconds limit) noexcept { writer_->Stop(limit); }

 private:
  AccessLog(std::string node, std::unique_ptr<LogWriter> writer)
      : node_(std::move(node)), writer_(std::move(writer)) {}

  const std::string node_;
  std::unique_ptr<LogWriter> writer_;
};

}  // namespace weir::telemetry
