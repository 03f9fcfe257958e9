#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/ip.h"
#include "agent/config/diagnostic.h"
#include "agent/config/documents.h"
#include "agent/model/snapshot.h"

namespace weir::config {

// What makes a local process or pod a given workload: a fact of the kernel.
enum class MatchKind : std::uint8_t {
  kNetns,  // a network namespace: absolute path, or a name below /run/netns
  kUnit,   // a systemd unit, by its cgroup
  kCgroup  // a cgroup directory: absolute, or below the cgroup2 root
};
std::string_view ToString(MatchKind kind);

// One entry of `workloads`: a workload that may run on this node, and how to find it.
struct WorkloadConfig {
  std::string name;
  std::string ns;               // "namespace"; empty on VMs
  std::string service_account;  // empty where there is none
  MatchKind match_kind = MatchKind::kNetns;
  std::string match;  // the path or name as written
  std::optional<model::OnAgentDown> on_agent_down;
  std::optional<model::TlsMode> mode;  // overrides MeshTLS on this node
  bool trace_boundary = false;         // traces from outside the mesh are restarted here
  model::ExtraTraceFormats trace_formats;
  model::Causality causality = model::Causality::kInferred;
  model::RuntimeHooks runtime_hooks;
  Place place;

  [[nodiscard]] std::string display_name() const;  // "ns/name" or "name"
  // Equal but for the place.
  friend bool operator==(const WorkloadConfig& left, const WorkloadConfig& right);
};

struct AdminConfig {
  std::string socket_path = "/run/weir/admin.sock";
  std::string group;          // empty: the agent's own group
  std::uint32_t mode = 0660;  // of the socket
};

// Files of the embedded certificate authority, as `weir ca node` writes them.
struct CaConfig {
  std::string root_bundle = "/etc/weir/ca/root.pem";
  std::string certificate = "/etc/weir/ca/node.pem";
  std::string key = "/etc/weir/ca/node.key";
  std::chrono::seconds svid_lifetime = std::chrono::hours(24);
};

struct TelemetryConfig {
  std::string otlp_endpoint;  // base URL; overrides what MeshTrace says; empty: MeshTrace decides
  OtlpProtocol otlp_protocol = OtlpProtocol::kHttp;  // of otlp_endpoint
  std::uint64_t queue_bytes = 64ULL << 20U;
  std::uint32_t trace_store_spans = 10000;  // newest spans kept in memory
  std::uint32_t flow_store_records = 10000;
  bool keep_query_values = false;
  std::string access_log;  // weir's own log: an absolute path; empty: none
  std::string access_log_directory = "/var/log/weir";  // of MeshAccessLog documents' files
  std::uint64_t access_log_max_bytes = 100ULL << 20U;  // then it is put aside; 0: never
  std::uint32_t access_log_keep = 4;                   // of those put aside
  model::TailSettings tail;  // spans of unsampled requests that are exported all the same
};

// AgentConfig is /etc/weir/agent.yaml: this node, as opposed to the mesh. Every field has
// the documented default; deploy/systemd/agent.yaml shows all of them.
struct AgentConfig {
  std::string node_name;  // the machine's host name unless given
  std::string trust_domain;
  std::vector<base::Cidr> mesh_ranges;
  std::string documents_directory = "/etc/weir/mesh.d";
  std::string cgroup_root;  // empty: the cgroup2 mount of this machine
  std::string bpffs_directory = "/sys/fs/bpf/weir";
  std::string run_directory = "/run/weir";
  std::string state_directory = "/var/lib/weir";
  AdminConfig admin;
  std::optional<base::Endpoint> metrics_address;  // metrics and readiness; empty: off
  std::uint32_t workers = 0;                      // 0: one per core
  std::string log_level = "info";
  CaConfig ca;
  model::Limits limits;
  TelemetryConfig telemetry;
  std::vector<WorkloadConfig> workloads;
};

// Reads agent.yaml from `text`; `file` names it in findings. Every problem is reported,
// not only the first; the result is meaningful only when diagnostics.ok(). Any thread.
AgentConfig ParseAgentConfig(std::string_view text, const std::string& file,
                             Diagnostics& diagnostics);

// The same from a file of at most 1 MiB. Blocks.
AgentConfig LoadAgentConfig(const std::string& path, Diagnostics& diagnostics);

// One field that differs between two versions of agent.yaml.
struct ConfigChange {
  std::string field;           // as written in the file, for example "limits.connectTimeout"
  bool needs_restart = false;  // false: takes effect when the new version is applied
};

// What changed from `before` to `after`, in the order of the file.
std::vector<ConfigChange> Diff(const AgentConfig& before, const AgentConfig& after);

// `before` with the fields of `after` that need no restart: what a running agent applies.
AgentConfig Applicable(const AgentConfig& before, const AgentConfig& after);

}  // namespace weir::config
