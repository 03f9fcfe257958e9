#include "agent/export/access_log.h"

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/export/access_log_line.h"

namespace weir::telemetry {

base::Result<std::unique_ptr<AccessLog>> AccessLog::Start(std::string node,
                                                          LogWriterOptions options) {
  auto writer = LogWriter::Start(std::move(options));
  if (!writer) {
    return std::unexpected(std::move(writer).error());
  }
  return std::unique_ptr<AccessLog>(new AccessLog(std::move(node), std::move(*writer)));
}

void AccessLog::Consume(const std::vector<observe::Record>& records) noexcept {
  std::string lines;
  std::size_t count = 0;
  for (const observe::Record& record : records) {
    if (IsLogged(record.flow)) {
      AppendEcsLine(record, node_, lines);
      ++count;
    }
  }
  writer_->Write(std::move(lines), count);
}

std::vector<observe::MetricFamily> AccessLog::Metrics() const {
  using observe::MetricType;
  const LogWriterStatus status = writer_->status();
  const std::pair<std::string, std::string> file{"file", writer_->path()};
  const auto sample = [&](std::uint64_t value) {
    return observe::MetricSample{.labels = {file}, .value = static_cast<double>(value)};
  };
  std::vector<observe::MetricFamily> families;
  families.push_back({"weir_access_log_lines",
                      "Lines of access logs that were written.",
                      MetricType::kCounter,
                      {sample(status.written)}});
  families.push_back({"weir_access_log_rotations",
                      "Files that were put aside for their size.",
                      MetricType::kCounter,
                      {sample(status.rotations)}});
  families.push_back({"weir_access_log_queued",
                      "Lines that wait to be written.",
                      MetricType::kGauge,
                      {sample(status.queued)}});
  observe::MetricFamily dropped{
      "weir_access_log_dropped", "Lines that were not written.", MetricType::kCounter, {}};
  for (std::size_t i = 0; i < kLogDropCount; ++i) {
    dropped.samples.push_back(sample(status.dropped[i]));
    dropped.samples.back().labels.emplace_back("reason", ToString(static_cast<LogDrop>(i)));
  }
  families.push_back(std::move(dropped));
  return families;
}

}  // namespace weir::telemetry
