#include "agent/export/exporter_pool.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace weir::telemetry {
namespace {

using std::chrono::milliseconds;
using Lock = std::lock_guard<std::mutex>;

template <typename T>
T Sum(const ExportStatus& status, T ExporterStatus::* field) {
  T sum = status.retired.*field;
  for (const ExporterStatus& exporter : status.exporters) {
    sum += exporter.*field;
  }
  return sum;
}

}  // namespace

std::uint64_t ExportStatus::offered() const {
  return Sum(*this, &ExporterStatus::offered);
}

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

ExporterPool::ExporterPool(Signal signal, const ExporterOptions& options) : options_(options) {
  retired_.signal = signal;
}

base::Result<void> ExporterPool::SetExporters(std::vector<NamedExporter> wanted) {
  const Lock lock(mutex_);
  base::Result<void> result;
  Exporters next;
  for (NamedExporter& named : wanted) {
    std::unique_ptr<BatchExporter> exporter = Take(named.name);
    if (exporter != nullptr) {
      exporter->SetCollector(std::move(named.collector));
    } else {
      exporter = std::make_unique<BatchExporter>(named.name, options_, std::move(named.collector));
      if (auto started = exporter->Start(); !started) {
        result = std::move(started);
        exporter.reset();
      }
    }
    next.push_back(std::move(exporter));
  }
  for (std::unique_ptr<BatchExporter>& left : exporters_) {
    if (left != nullptr) {
      left->BeginStop(kRetireBound);
      ending_.push_back(std::move(left));
    }
  }
  exporters_ = std::move(next);
  for (const std::unique_ptr<BatchExporter>& exporter : exporters_) {
    if (exporter != nullptr) {
      exporter->SetQueueLimit(options_.queue_limit_bytes / exporters_.size());
    }
  }
  return result;
}

std::unique_ptr<BatchExporter> ExporterPool::Take(const std::string& name) {
  for (std::unique_ptr<BatchExporter>& exporter : exporters_) {
    if (exporter != nullptr && exporter->name() == name) {
      return std::move(exporter);
    }
  }
  return nullptr;
}

void ExporterPool::Fold(const ExporterStatus& status) {
  retired_.offered += status.offered;
  retired_.exported += status.exported;
  for (std::size_t i = 0; i < status.dropped.size(); ++i) {
    retired_.dropped[i] += status.dropped[i];
  }
  retired_.requests += status.requests;
  retired_.failures += status.failures;
  retired_.retries += status.retries;
}

void ExporterPool::Reap() {
  const Lock lock(mutex_);
  std::erase_if(ending_, [this](const std::unique_ptr<BatchExporter>& exporter) {
    if (!exporter->IsStopped()) {
      return false;
    }
    exporter->Stop(milliseconds(0));
    Fold(exporter->status());
    return true;
  });
}

void ExporterPool::Stop(milliseconds bound) {
  Exporters all;
  {
    const Lock lock(mutex_);
    all.swap(exporters_);
    std::ranges::move(ending_, std::back_inserter(all));
    ending_.clear();
  }
  std::erase(all, nullptr);
  for (const std::unique_ptr<BatchExporter>& exporter : all) {
    exporter->BeginStop(bound);
  }
  for (const std::unique_ptr<BatchExporter>& exporter : all) {
    exporter->Stop(bound);
    const Lock lock(mutex_);
    Fold(exporter->status());
  }
}

bool ExporterPool::Has(std::size_t index) const {
  const Lock lock(mutex_);
  return index < exporters_.size() && exporters_[index] != nullptr;
}

void ExporterPool::Enqueue(std::size_t index, std::vector<ExportChunk> chunks) {
  const Lock lock(mutex_);
  if (index < exporters_.size() && exporters_[index] != nullptr) {
    exporters_[index]->Enqueue(std::move(chunks));
    return;
  }
  for (const ExportChunk& chunk : chunks) {
    retired_.offered += chunk.count;
    retired_.dropped[static_cast<std::size_t>(ExportDrop::kNoExporter)] += chunk.count;
  }
}

ExportStatus ExporterPool::status() const {
  const Lock lock(mutex_);
  ExportStatus status{.retired = retired_, .queue_limit_bytes = options_.queue_limit_bytes};
  for (const Exporters* some : {&exporters_, &ending_}) {
    for (const std::unique_ptr<BatchExporter>& exporter : *some) {
      if (exporter != nullptr) {
        status.exporters.push_back(exporter->status());
      }
    }
  }
  return status;
}

}  // namespace weir::telemetry
