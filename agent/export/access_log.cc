#include "agent/export/access_log.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/export/access_log_line.h"

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

base::Result<void> AccessLog::SetRules(std::shared_ptr<const model::AccessLogs> rules) {
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
          paths.push_back(backend.path);
        }
      }
    }
  }
  for (const std::string& path : paths) {
    if (auto done = need(path); !done) {
      return done;
    }
  }
  {
    const std::lock_guard lock(mutex_);
    rules_ = std::move(rules);
    writers_ = next;
  }
  for (const auto& [path, writer] : before) {
    if (!next.contains(path)) {
      writer->Stop(kStopLimit);
    }
  }
  return {};
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
      Batch& batch = batches[backend.path];
      AppendLogLine(record.flow.http ? backend.request : backend.connection, record, options_.node,
                    batch.lines);
      ++batch.count;
    }
  }
}

void AccessLog::Consume(const std::vector<observe::Record>& records) noexcept {
  std::unique_lock lock(mutex_);
  const auto rules = rules_;
  const Writers writers = writers_;
  lock.unlock();
  Batches batches;
  for (const observe::Record& record : records) {
    if (!IsLogged(record.flow)) {
      continue;
    }
    if (!options_.file.path.empty()) {
      Batch& own = batches[options_.file.path];
      AppendEcsLine(record, options_.node, own.lines);
      ++own.count;
    }
    if (rules != nullptr) {
      AppendByRules(*rules, record, batches);
    }
  }
  for (auto& [path, batch] : batches) {
    writers.find(path)->second->Write(std::move(batch.lines), batch.count);
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
    const auto add = [&path = path](observe::MetricFamily& family, std::uint64_t value) {
      family.samples.push_back({.labels = {{"file", path}}, .value = static_cast<double>(value)});
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
