#pragma once

#include <cstdint>
#include <string>

#include "agent/daemon/facts.h"
#include "agent/daemon/workload_tally.h"
#include "agent/export/access_log.h"
#include "agent/export/exporter_set.h"
#include "agent/export/pipeline.h"
#include "agent/observe/metrics.h"

namespace weir::v1 {
class Status;
}

namespace weir::daemon {

// What `weir status` is made of, besides the control thread's facts.
struct StatusInput {
  std::shared_ptr<const ControlFacts> facts;
  // Of spans first, then of the other signals; never empty.
  std::vector<telemetry::ExportStatus> exports = std::vector<telemetry::ExportStatus>(1);
  telemetry::PipelineCounters pipeline;
  telemetry::SpanTotals spans;
  telemetry::LogTotals logs;
  std::vector<observe::MetricFamily> worker_metrics;
  std::map<model::LocalId, WorkloadFigures> figures;
  std::uint32_t workers = 0;
  std::string log_level;
};

v1::Status MakeStatus(const StatusInput& input);

// Whether the agent serves: configuration taken, every workload that is here enrolled and
// holding a certificate, every hook attached. `reasons` gets what is missing.
bool IsReady(const ControlFacts& facts, std::vector<std::string>& reasons);

// The kernel side and the control thread as metrics.
std::vector<observe::MetricFamily> ControlMetrics(const ControlFacts& facts);

// This process as metrics, by the names that other Prometheus clients use; what cannot be
// read is left out. Reads /proc: not for a worker.
std::vector<observe::MetricFamily> ProcessMetrics(base::WallTime started_at);

}  // namespace weir::daemon
