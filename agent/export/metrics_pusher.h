#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/export/exporter_pool.h"
#include "agent/model/metric_filter.h"
#include "agent/observe/metrics.h"

namespace weir::telemetry {

// A collector that gets metrics every `interval`.
struct MetricsTarget {
  NamedExporter exporter;
  std::chrono::milliseconds interval{60'000};
  model::MetricFilter filter{};
};

// MetricsPusher sends the node's metrics to collectors by OTLP. What a collector does not take
// waits in a bounded queue, as spans do; the node is the resource. Control thread, but for
// status.
class MetricsPusher {
 public:
  // `node` is what the resource names; counters run since `start`.
  MetricsPusher(const std::string& node, base::WallTime start, const ExporterOptions& options);

  // These from now on; a new one gets its first metrics at the next Tick.
  base::Result<void> SetTargets(std::vector<MetricsTarget> targets);
  // Collects once and sends to each target whose time has come.
  void Tick(base::MonotonicTime now,
            const std::function<std::vector<observe::MetricFamily>()>& collect);
  void Reap() { pool_.Reap(); }
  // Ends all exporters, together within `bound`.
  void Stop(std::chrono::milliseconds bound) { pool_.Stop(bound); }
  [[nodiscard]] ExportStatus status() const { return pool_.status(); }  // any thread

 private:
  struct Target {
    std::string name;
    std::chrono::milliseconds interval{0};
    model::MetricFilter filter;
    base::MonotonicTime due{};
  };

  ExporterPool pool_;
  std::shared_ptr<const model::LocalWorkload> resource_;
  base::WallTime start_;
  std::vector<Target> targets_;  // in the order of the pool's exporters
};

}  // namespace weir::telemetry
