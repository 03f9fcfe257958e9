#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "agent/config/agent_config.h"
#include "agent/config/diagnostic.h"
#include "agent/config/documents.h"
#include "agent/model/snapshot.h"

namespace weir::config {

// Where spans go, from MeshTrace and MeshOpenTelemetryBackend or agent.yaml.
struct TraceBackend {
  std::string url;  // the traces URL, used as it is: "http://198.18.0.9:4318/v1/traces"
  OtlpProtocol protocol = OtlpProtocol::kHttp;
  friend bool operator==(const TraceBackend&, const TraceBackend&) = default;
};

// Trust domain -> PEM roots that MeshTrust documents add to the agent's own bundle.
using ExtraBundles = std::map<std::string, std::string, std::less<>>;

// What one accepted configuration amounts to. `snapshot` is null when there were errors.
struct BuildResult {
  model::SnapshotPtr snapshot;
  std::optional<TraceBackend> trace_backend;  // empty: spans stay in memory
  ExtraBundles extra_bundles;
  Diagnostics diagnostics;

  [[nodiscard]] bool ok() const { return snapshot != nullptr; }
};

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
