#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/config/agent_config.h"
#include "agent/config/diagnostic.h"
#include "agent/config/documents.h"
#include "agent/model/access_logs.h"
#include "agent/model/metric_filter.h"
#include "agent/model/snapshot.h"

namespace weir::config {

// Trust domain -> PEM roots that MeshTrust documents add to the agent's own bundle.
using ExtraBundles = std::map<std::string, std::string, std::less<>>;

// A port of this node that answers with its metrics, by MeshMetric documents.
struct MetricsPort {
  std::uint16_t port = 0;
  std::string path;
  model::MetricFilter filter;
};

// A collector that gets this node's metrics, by MeshMetric documents.
struct MetricsPush {
  TelemetryBackend backend;
  std::chrono::milliseconds interval{0};
  model::MetricFilter filter;
};

// What one accepted configuration amounts to. `snapshot` is null when there were errors.
struct BuildResult {
  model::SnapshotPtr snapshot;
  std::vector<TelemetryBackend> trace_backends;        // distinct names
  std::map<model::LocalId, std::size_t> trace_routes;  // whose spans go to which
  std::optional<std::size_t> trace_fallback;           // of all others
  ExtraBundles extra_bundles;
  std::shared_ptr<const model::AccessLogs> access_logs;  // of the local workloads
  std::vector<TelemetryBackend> log_backends;            // that access_logs name
  std::vector<MetricsPort> metrics_ports;                // distinct ports
  std::vector<MetricsPush> metrics_pushes;               // distinct names of backends
  Diagnostics diagnostics;

  [[nodiscard]] bool ok() const { return snapshot != nullptr; }
};

// More different backends of one signal on one node are an error.
inline constexpr std::size_t kMaxCollectors = 32;
inline constexpr std::size_t kMaxMetricsPorts = 8;

// SnapshotBuilder turns agent.yaml, documents and the workloads that exist here into a
// Snapshot, whole or not at all. It hands out LocalIds: one per workload name, the same in
// every later snapshot, never reused. Control thread.
class SnapshotBuilder {
 public:
  // `present` holds the display names of the workloads of `agent` that discovery found;
  // only they become local workloads, but all of them are validated.
  BuildResult Build(const AgentConfig& agent, const DocumentSet& documents,
                    const std::set<std::string>& present);

  // The id of a workload by display name, handed out on first use.
  model::LocalId IdOf(const std::string& display_name);

 private:
  std::map<std::string, model::LocalId> ids_;
  std::uint32_t last_id_ = 0;
  std::uint64_t revision_ = 0;
};

}  // namespace weir::config
