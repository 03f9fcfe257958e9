#include "agent/export/metrics_pusher.h"

#include <algorithm>
#include <utility>

#include "agent/export/metrics_encoder.h"

namespace weir::telemetry {
namespace {

std::shared_ptr<const model::LocalWorkload> ResourceOf(const std::string& node) {
  auto resource = std::make_shared<model::LocalWorkload>();
  resource->resource.service_name = "weir-agent";
  resource->resource.service_version = WEIR_VERSION;
  resource->resource.service_instance_id = node;
  resource->resource.attributes = {{"host.name", node}};
  return resource;
}

}  // namespace

MetricsPusher::MetricsPusher(const std::string& node, base::WallTime start,
                             const ExporterOptions& options)
    : pool_(Signal::kMetrics, options), resource_(ResourceOf(node)), start_(start) {}

base::Result<void> MetricsPusher::SetTargets(std::vector<MetricsTarget> targets) {
  std::vector<NamedExporter> exporters;
  std::vector<Target> next;
  for (MetricsTarget& one : targets) {
    const auto before = std::ranges::find(targets_, one.exporter.name, &Target::name);
    const bool goes_on = before != targets_.end() && before->interval == one.interval;
    next.push_back({.name = one.exporter.name,
                    .interval = one.interval,
                    .filter = std::move(one.filter),
                    .due = goes_on ? before->due : base::MonotonicTime{}});
    exporters.push_back(std::move(one.exporter));
  }
  targets_ = std::move(next);
  return pool_.SetExporters(std::move(exporters));
}

void MetricsPusher::Tick(base::MonotonicTime now,
                         const std::function<std::vector<observe::MetricFamily>()>& collect) {
  std::vector<observe::MetricFamily> families;
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    Target& target = targets_[i];
    if (now < target.due) {
      continue;
    }
    if (families.empty()) {
      families = collect();
    }
    // A tick that came late does not shift the later ones, unless it is later than they are.
    target.due += target.interval;
    target.due = target.due <= now ? now + target.interval : target.due;
    ExportChunk chunk{.local = resource_, .queued_at = now};
    chunk.count =
        AppendMetrics(families, target.filter, start_, base::SystemClock().WallNow(), chunk.items);
    if (chunk.count != 0) {
      std::vector<ExportChunk> chunks;
      chunks.push_back(std::move(chunk));
      pool_.Enqueue(i, std::move(chunks));
    }
  }
}

}  // namespace weir::telemetry
