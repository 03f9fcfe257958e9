#pragma once

#include <string>
#include <vector>

#include "agent/config/builder.h"
#include "agent/export/exporter_set.h"
#include "agent/export/metrics_pusher.h"

namespace weir::daemon {

// Whose spans go where, the collectors of access logs and of metrics, and what of the
// configuration cannot be followed: the workloads of such a backend keep their spans in memory,
// log records for it are dropped and counted.
struct ExportPlan {
  telemetry::ExportRoutes routes;
  std::vector<telemetry::NamedExporter> logs;
  std::vector<telemetry::MetricsTarget> metrics;
  std::vector<std::string> problems;
};

// Puts together the backends of an accepted configuration and OTEL_EXPORTER_OTLP_*
// variables. Precedence, field by field: agent.yaml's otlpEndpoint; a
// MeshOpenTelemetryBackend and the environment as its `env` says (by default the
// environment first); another backend of MeshTrace, with the environment filling its gaps.
// Workloads without a backend go to the environment's endpoint, if it names one. agent.yaml and
// that last rule are for spans alone.
ExportPlan PlanExport(const config::BuildResult& result,
                      const telemetry::GetEnvironment& environment);

}  // namespace weir::daemon
