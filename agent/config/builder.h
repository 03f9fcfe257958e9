#pragma once

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
#include "agent/model/snapshot.h"

namespace weir::config {

enum class TraceBackendKind : std::uint8_t { kOtlpHttp, kOtlpGrpc, kZipkin };

// Where spans go, from MeshTrace and MeshOpenTelemetryBackend or agent.yaml.
struct TraceBackend {
  // The same as long as it is the same backend: "MeshOpenTelemetryBackend/main",
  // "agent.yaml", or the URL of one that has no name.
  std::string name;
  TraceBackendKind kind = TraceBackendKind::kOtlpHttp;
  // Used as it is: "http://198.18.0.9:4318/v1/traces"; of gRPC "http://198.18.0.9:4317".
  std::string url;
  bool short_trace_ids = false;  // Zipkin: traceId128bit is not set
  EnvironmentUse env{};
  friend bool operator==(const TraceBackend&, const TraceBackend&) = default;
};

// Trust domain -> PEM roots that MeshTrust documents add to the agent's own bundle.
using ExtraBundles = std::map<std::string, std::string, std::less<>>;

// What one accepted configuration amounts to. `snapshot` is null when there were errors.
struct BuildResult {
  model::SnapshotPtr snapshot;
  std::vector<TraceBackend> trace_backends;            // distinct names
  std::map<model::LocalId, std::size_t> trace_routes;  // whose spans go to which
  std::optional<std::size_t> trace_fallback;           // of all others
  ExtraBundles extra_bundles;
  std::shared_ptr<const model::AccessLogs> access_logs;  // of the local workloads
  Diagnostics diagnostics;

  [[nodiscard]] bool ok() const { return snapshot != nullptr; }
};

// More different backends on one node are an error.
inline constexpr std::size_t kMaxTraceBackends = 32;

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
