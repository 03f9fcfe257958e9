#include "agent/export/exporter_set.h"

#include <map>
#include <utility>

namespace weir::telemetry {
namespace {

using Lock = std::lock_guard<std::mutex>;

}  // namespace

base::Result<void> ExporterSet::SetRoutes(ExportRoutes routes) {
  const Lock lock(mutex_);
  auto result = pool_.SetExporters(std::move(routes.exporters));
  by_workload_ = std::move(routes.by_workload);
  fallback_ = routes.fallback;
  return result;
}

void ExporterSet::Stop(std::chrono::milliseconds bound) {
  {
    const Lock lock(mutex_);
    by_workload_.clear();
    fallback_.reset();
  }
  pool_.Stop(bound);
}

std::size_t ExporterSet::ExporterOf(const model::LocalWorkload* local) const {
  const auto found = local == nullptr ? by_workload_.end() : by_workload_.find(local->id);
  const auto index = found != by_workload_.end() ? std::optional(found->second) : fallback_;
  return index && pool_.Has(*index) ? *index : ExportRoutes::kNowhere;
}

void ExporterSet::Consume(const std::vector<observe::Record>& records) noexcept {
  const Lock lock(mutex_);
  std::map<std::size_t, std::vector<ExportChunk>> chunks;  // by exporter
  for (const observe::Record& record : records) {
    if (!record.span) {
      continue;
    }
    const std::size_t exporter = ExporterOf(record.local.get());
    if (exporter == ExportRoutes::kNowhere) {
      ++kept_;
      continue;
    }
    ExportChunk& chunk = ChunkOf(record.local, pool_.options().batch_bytes, chunks[exporter]);
    encoder_.AppendSpan(record, chunk.items);
    ++chunk.count;
  }
  for (auto& [exporter, own] : chunks) {
    pool_.Enqueue(exporter, std::move(own));
  }
}

ExportStatus ExporterSet::status() const {
  const Lock lock(mutex_);
  ExportStatus status = pool_.status();
  status.kept = kept_;
  return status;
}

}  // namespace weir::telemetry
