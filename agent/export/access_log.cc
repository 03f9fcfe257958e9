#include "agent/export/access_log.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/export/access_log_line.h"
#include "agent/export/log_encoder.h"

namespace weir::telemetry {
namespace {

constexpr auto kStopLimit = std::chrono::milliseconds(200);

// Whether the peer of an inbound flow is one of `matches`. Without mutual TLS it is nobody.
bool Matches(const std::vector<model::LogMatch>& matches, const observe::Flow& flow) {
  if (matches.empty()) {
    return true;
  }
  if (flow.source.workload == nullptr || flow.mtls == observe::MtlsState::kOff) {
    return false;
  }
  const std::string& id = flow.source.workload->identity.uri();
  return std::ranges::any_of(matches, [&](const model::LogMatch& match) {
    return match.is_prefix ? id.starts_with(match.spiffe_id) : id == match.spiffe_id;
  });
}

}  // namespace

base::Result<std::shared_ptr<LogWriter>> AccessLog::StartWriter(const std::string& path) const {
  LogWriterOptions options = options_.file;
  options.path = path;
  auto writer = LogWriter::Start(std::move(options));
  if (!writer) {
    return std::unexpected(std::move(writer).error());
  }
  return std::shared_ptr<LogWriter>(std::move(*writer));
}

base::Result<std::unique_ptr<AccessLog>> AccessLog::Start(AccessLogOptions options) {
  std::unique_ptr<AccessLog> self(new AccessLog(std::move(options)));
  if (auto done = self->SetRules(nullptr); !done) {
    return std::unexpected(std::move(done).error());
  }
  return self;
}

base::Result<AccessLog::Writers> AccessLog::WritersFor(const model::AccessLogs* rules) const {
  const Writers before = writers();
  Writers next;
  const auto need = [&](const std::string& path) -> base::Result<void> {
    if (next.contains(path)) {
      return {};
    }
    const auto found = before.find(path);
    auto writer = found != before.end() ? base::Result<std::shared_ptr<LogWriter>>(found->second)
                                        : StartWriter(path);
    if (!writer) {
      return std::unexpected(std::move(writer).error());
    }
    next.emplace(path, std::move(*writer));
    return {};
  };
  std::vector<std::string> paths;
  if (!options_.file.path.empty()) {
    paths.push_back(options_.file.path);
  }
  for (const auto& [id, logs] : rules != nullptr ? *rules : model::AccessLogs()) {
    for (const auto* list : {&logs.inbound, &logs.outbound}) {
      for (const model::LogRule& rule : *list) {
        for (const model::LogBackend& backend : rule.backends) {
          if (backend.sink != model::LogSink::kOtlp) {
            paths.push_back(backend.target);
          }
        }
      }
    }
  }
  for (const std::string& path : paths) {
    if (auto done = need(path); !done) {
      return std::unexpected(std::move(done).error());
    }
  }
  return next;
}

base::Result<void> AccessLog::SetRules(Rules rules, std::vector<NamedExporter> exporters) {
  const Writers before = writers();
  auto next = WritersFor(rules.get());
  if (!next) {
    return std::unexpected(std::move(next).error());
  }
  Indices indices;
  for (std::size_t i = 0; i < exporters.size(); ++i) {
    indices.emplace(exporters[i].name, i);
  }
  base::Result<void> done;
  {
    const std::lock_guard lock(mutex_);
    rules_ = std::move(rules);
    writers_ = *next;
    exporters_ = std::move(indices);
    done = pool_.SetExporters(std::move(exporters));
  }
  for (const auto& [path, writer] : before) {
    if (next->contains(path)) {
      continue;
    }
    writer->Stop(kStopLimit);
    const LogWriterStatus last = writer->status();
    const std::lock_guard lock(mutex_);
    retired_.written += last.written;
    for (std::size_t i = 0; i < kLogDropCount; ++i) {
      retired_.dropped[i] += last.dropped[i];
    }
    // A disk that hangs has them still: nobody will count them when it gives them back.
    retired_.dropped[static_cast<std::size_t>(LogDrop::kStopped)] += last.queued;
  }
  return done;
}

AccessLog::Writers AccessLog::writers() const {
  const std::lock_guard lock(mutex_);
  return writers_;
}

void AccessLog::AppendByRules(const model::AccessLogs& rules, const observe::Record& record,
                              Batches& batches) const {
  const auto found =
      record.local != nullptr ? rules.find(record.local->id) : model::AccessLogs::const_iterator();
  if (record.local == nullptr || found == rules.end()) {
    return;
  }
  const bool is_inbound = record.flow.direction == observe::Direction::kInbound;
  for (const auto& rule : is_inbound ? found->second.inbound : found->second.outbound) {
    if (is_inbound && !Matches(rule.matches, record.flow)) {
      continue;
    }
    for (const model::LogBackend& backend : rule.backends) {
      AppendTo(backend, record, batches);
    }
  }
}

void AccessLog::AppendTo(const model::LogBackend& backend, const observe::Record& record,
                         Batches& batches) const {
  ++batches.count;
  if (backend.sink == model::LogSink::kOtlp) {
    ExportChunk& chunk =
        ChunkOf(record.local, options_.exporter.batch_bytes, batches.log_records[backend.target]);
    AppendLogRecord(backend, record, options_.node, base::SystemClock().WallNow(), chunk.items);
    ++chunk.count;
    return;
  }
  Lines& lines = batches.lines[backend.target];
  AppendLogLine(record.flow.http ? backend.request : backend.connection, record, options_.node,
                lines.text);
  ++lines.count;
}

void AccessLog::Consume(const std::vector<observe::Record>& records) noexcept {
  // Held for the whole batch: a rule and the exporter that it names belong together.
  const std::lock_guard lock(mutex_);
  Batches batches;
  for (const observe::Record& record : records) {
    if (!IsLogged(record.flow)) {
      continue;
    }
    if (!options_.file.path.empty()) {
      Lines& own = batches.lines[options_.file.path];
      AppendEcsLine(record, options_.node, own.text);
      ++own.count;
      ++batches.count;
    }
    if (rules_ != nullptr) {
      AppendByRules(*rules_, record, batches);
    }
  }
  generated_ += batches.count;
  for (auto& [path, lines] : batches.lines) {
    writers_.find(path)->second->Write(std::move(lines.text), lines.count);
  }
  for (auto& [name, chunks] : batches.log_records) {
    const auto found = exporters_.find(name);
    pool_.Enqueue(found != exporters_.end() ? found->second : exporters_.size(), std::move(chunks));
  }
}

void AccessLog::Reopen() noexcept {
  for (const auto& [path, writer] : writers()) {
    writer->Reopen();
  }
}

void AccessLog::Stop(std::chrono::milliseconds limit) noexcept {
  for (const auto& [path, writer] : writers()) {
    writer->Stop(limit);
  }
  pool_.Stop(limit);
}

LogTotals AccessLog::totals() const {
  const std::lock_guard lock(mutex_);
  const ExportStatus exports = pool_.status();
  LogTotals totals{.generated = generated_,
                   .exported = exports.exported() + retired_.written,
                   .dropped = exports.dropped() + retired_.dropped_total(),
                   .queued = exports.queued(),
                   .queued_bytes = exports.queue_bytes(),
                   .limit_bytes = exports.exporters.empty() ? 0 : exports.queue_limit_bytes};
  for (const auto& [path, writer] : writers_) {
    const LogWriterStatus status = writer->status();
    totals.exported += status.written;
    totals.dropped += status.dropped_total();
    totals.queued += status.queued;
    totals.queued_bytes += status.queued_bytes;
    totals.limit_bytes += options_.file.queue_limit_bytes;
  }
  return totals;
}

std::map<std::string, LogWriterStatus> AccessLog::status() const {
  std::map<std::string, LogWriterStatus> all;
  for (const auto& [path, writer] : writers()) {
    all.emplace(path, writer->status());
  }
  return all;
}

std::vector<observe::MetricFamily> AccessLog::Metrics() const {
  using observe::MetricType;
  observe::MetricFamily lines{
      "weir_access_log_lines", "Lines of access logs that were written.", MetricType::kCounter, {}};
  observe::MetricFamily rotations{"weir_access_log_rotations",
                                  "Files that were put aside for their size.",
                                  MetricType::kCounter,
                                  {}};
  observe::MetricFamily queued{
      "weir_access_log_queued", "Lines that wait to be written.", MetricType::kGauge, {}};
  observe::MetricFamily dropped{
      "weir_access_log_dropped", "Lines that were not written.", MetricType::kCounter, {}};
  for (const auto& [path, status] : status()) {
    const auto add = [&log = path](observe::MetricFamily& family, std::uint64_t value) {
      family.samples.push_back({.labels = {{"log", log}}, .value = static_cast<double>(value)});
    };
    add(lines, status.written);
    add(rotations, status.rotations);
    add(queued, status.queued);
    for (std::size_t i = 0; i < kLogDropCount; ++i) {
      add(dropped, status.dropped[i]);
      dropped.samples.back().labels.emplace_back("reason", ToString(static_cast<LogDrop>(i)));
    }
  }
  if (lines.samples.empty()) {
    return {};
  }
  return {std::move(lines), std::move(rotations), std::move(queued), std::move(dropped)};
}

}  // namespace weir::telemetry
