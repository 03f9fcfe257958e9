#include "agent/export/exporter_set.h"

#include <algorithm>
#include <utility>

#include "agent/base/clock.h"

namespace weir::telemetry {
namespace {

using std::chrono::milliseconds;
using Lock = std::lock_guard<std::mutex>;

// The chunk of `local` that has room, or a new one.
SpanChunk& ChunkOf(const std::shared_ptr<const model::LocalWorkload>& local,
                   std::size_t batch_bytes, std::vector<SpanChunk>& chunks) {
  const auto found = std::ranges::find_if(chunks, [&](const SpanChunk& chunk) {
    return chunk.local == local && chunk.spans.size() < batch_bytes;
  });
  if (found != chunks.end()) {
    return *found;
  }
  return chunks.emplace_back(SpanChunk{.local = local, .queued_at = base::SystemClock().Now()});
}

template <typename T>
T Sum(const ExportStatus& status, T ExporterStatus::* field) {
  T sum = status.retired.*field;
  for (const ExporterStatus& exporter : status.exporters) {
    sum += exporter.*field;
  }
  return sum;
}

}  // namespace

std::uint64_t ExportStatus::queued() const {
  return Sum(*this, &ExporterStatus::queued);
}

std::uint64_t ExportStatus::exported() const {
  return Sum(*this, &ExporterStatus::exported);
}

std::uint64_t ExportStatus::dropped() const {
  std::uint64_t sum = retired.dropped_total();
  for (const ExporterStatus& exporter : exporters) {
    sum += exporter.dropped_total();
  }
  return sum;
}

std::size_t ExportStatus::queue_bytes() const {
  return Sum(*this, &ExporterStatus::queue_bytes);
}

base::Result<void> ExporterSet::SetRoutes(ExportRoutes routes) {
  const Lock lock(mutex_);
  base::Result<void> result;
  Exporters wanted;
  for (NamedExporter& named : routes.exporters) {
    std::unique_ptr<SpanExporter> exporter = Take(named.name);
    if (exporter != nullptr) {
      exporter->SetCollector(std::move(named.collector));
    } else {
      exporter = std::make_unique<SpanExporter>(named.name, options_, std::move(named.collector));
      if (auto started = exporter->Start(); !started) {
        result = std::move(started);
        exporter.reset();
      }
    }
    wanted.push_back(std::move(exporter));
  }
  for (std::unique_ptr<SpanExporter>& left : exporters_) {
    if (left != nullptr) {
      left->BeginStop(kRetireBound);
      ending_.push_back(std::move(left));
    }
  }
  exporters_ = std::move(wanted);
  by_workload_ = std::move(routes.by_workload);
  fallback_ = routes.fallback;
  ShareQueue();
  return result;
}

std::unique_ptr<SpanExporter> ExporterSet::Take(const std::string& name) {
  for (std::unique_ptr<SpanExporter>& exporter : exporters_) {
    if (exporter != nullptr && exporter->name() == name) {
      return std::move(exporter);
    }
  }
  return nullptr;
}

void ExporterSet::ShareQueue() {
  for (const std::unique_ptr<SpanExporter>& exporter : exporters_) {
    if (exporter != nullptr) {
      exporter->SetQueueLimit(options_.queue_limit_bytes / exporters_.size());
    }
  }
}

void ExporterSet::Fold(const ExporterStatus& status) {
  retired_.offered += status.offered;
  retired_.exported += status.exported;
  for (std::size_t i = 0; i < status.dropped.size(); ++i) {
    retired_.dropped[i] += status.dropped[i];
  }
  retired_.requests += status.requests;
  retired_.failures += status.failures;
  retired_.retries += status.retries;
}

void ExporterSet::Reap() {
  const Lock lock(mutex_);
  std::erase_if(ending_, [this](const std::unique_ptr<SpanExporter>& exporter) {
    if (!exporter->IsStopped()) {
      return false;
    }
    exporter->Stop(milliseconds(0));
    Fold(exporter->status());
    return true;
  });
}

void ExporterSet::Stop(milliseconds bound) {
  Exporters all;
  {
    const Lock lock(mutex_);
    all.swap(exporters_);
    std::ranges::move(ending_, std::back_inserter(all));
    ending_.clear();
    by_workload_.clear();
    fallback_.reset();
  }
  std::erase(all, nullptr);
  for (const std::unique_ptr<SpanExporter>& exporter : all) {
    exporter->BeginStop(bound);
  }
  for (const std::unique_ptr<SpanExporter>& exporter : all) {
    exporter->Stop(bound);
    const Lock lock(mutex_);
    Fold(exporter->status());
  }
}

SpanExporter* ExporterSet::ExporterOf(const model::LocalWorkload* local) const {
  const auto found = local == nullptr ? by_workload_.end() : by_workload_.find(local->id);
  const auto index = found != by_workload_.end() ? std::optional(found->second) : fallback_;
  return index && *index < exporters_.size() ? exporters_[*index].get() : nullptr;
}

void ExporterSet::Consume(const std::vector<observe::Record>& records) noexcept {
  const Lock lock(mutex_);
  std::vector<SpanChunk> chunks;
  for (const observe::Record& record : records) {
    if (!record.span) {
      continue;
    }
    if (ExporterOf(record.local.get()) == nullptr) {
      ++kept_;
      continue;
    }
    SpanChunk& chunk = ChunkOf(record.local, options_.batch_bytes, chunks);
    encoder_.AppendSpan(record, chunk.spans);
    ++chunk.count;
  }
  for (const std::unique_ptr<SpanExporter>& exporter : exporters_) {
    std::vector<SpanChunk> own;
    for (SpanChunk& chunk : chunks) {
      if (chunk.count != 0 && ExporterOf(chunk.local.get()) == exporter.get()) {
        own.push_back(std::move(chunk));
        chunk.count = 0;
      }
    }
    if (!own.empty()) {
      exporter->Enqueue(std::move(own));
    }
  }
}

ExportStatus ExporterSet::status() const {
  const Lock lock(mutex_);
  ExportStatus status{
      .retired = retired_, .kept = kept_, .queue_limit_bytes = options_.queue_limit_bytes};
  for (const Exporters* some : {&exporters_, &ending_}) {
    for (const std::unique_ptr<SpanExporter>& exporter : *some) {
      if (exporter != nullptr) {
        status.exporters.push_back(exporter->status());
      }
    }
  }
  return status;
}

}  // namespace weir::telemetry
