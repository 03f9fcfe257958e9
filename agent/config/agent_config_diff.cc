#include <array>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "agent/config/agent_config.h"

namespace weir::config {
namespace {

// One field of agent.yaml: how to compare it and how to take it over.
struct FieldRule {
  std::string_view name;
  bool needs_restart = false;
  bool (*same)(const AgentConfig& left, const AgentConfig& right);
  void (*take)(AgentConfig& to, const AgentConfig& from);
};

// Makes a rule of an accessor that gives a reference to the field.
template <auto kGet>
constexpr FieldRule Rule(std::string_view name, bool needs_restart) {
  return {.name = name,
          .needs_restart = needs_restart,
          .same = [](const AgentConfig& left,
                     const AgentConfig& right) { return kGet(left) == kGet(right); },
          .take = [](AgentConfig& to, const AgentConfig& from) { kGet(to) = kGet(from); }};
}

constexpr bool kRestart = true;
constexpr bool kAtOnce = false;

constexpr std::array kRules{
    Rule<[](auto& c) -> auto& { return c.node_name; }>("node", kRestart),
    Rule<[](auto& c) -> auto& { return c.trust_domain; }>("trustDomain", kRestart),
    Rule<[](auto& c) -> auto& { return c.mesh_ranges; }>("meshRanges", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.documents_directory; }>("documents", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.cgroup_root; }>("cgroupRoot", kRestart),
    Rule<[](auto& c) -> auto& { return c.bpffs_directory; }>("bpffs", kRestart),
    Rule<[](auto& c) -> auto& { return c.run_directory; }>("runDirectory", kRestart),
    Rule<[](auto& c) -> auto& { return c.state_directory; }>("stateDirectory", kRestart),
    Rule<[](auto& c) -> auto& { return c.admin.socket_path; }>("admin.socket", kRestart),
    Rule<[](auto& c) -> auto& { return c.admin.group; }>("admin.group", kRestart),
    Rule<[](auto& c) -> auto& { return c.admin.mode; }>("admin.mode", kRestart),
    Rule<[](auto& c) -> auto& { return c.metrics_address; }>("metrics.address", kRestart),
    Rule<[](auto& c) -> auto& { return c.workers; }>("workers", kRestart),
    Rule<[](auto& c) -> auto& { return c.log_level; }>("logLevel", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.ca.root_bundle; }>("ca.rootBundle", kRestart),
    Rule<[](auto& c) -> auto& { return c.ca.certificate; }>("ca.certificate", kRestart),
    Rule<[](auto& c) -> auto& { return c.ca.key; }>("ca.key", kRestart),
    Rule<[](auto& c) -> auto& { return c.ca.svid_lifetime; }>("ca.svidLifetime", kRestart),
    Rule<[](auto& c) -> auto& { return c.limits.connect_timeout; }>("limits.connectTimeout",
                                                                    kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.tls_handshake_timeout; }>(
        "limits.tlsHandshakeTimeout", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.request_header_timeout; }>(
        "limits.requestHeaderTimeout", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.detect_timeout_hinted; }>(
        "limits.detectTimeoutHinted", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.detect_timeout; }>("limits.detectTimeout", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.unknown_destination_wait; }>(
        "limits.unknownDestinationWait", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.tunnel_idle_timeout; }>("limits.tunnelIdleTimeout",
                                                                        kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.tunnel_ping_interval; }>(
        "limits.tunnelPingInterval", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.max_request_line_bytes; }>("limits.maxRequestLine",
                                                                           kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.max_header_bytes; }>("limits.maxHeaders", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.max_header_count; }>("limits.maxHeaderCount",
                                                                     kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.max_connections_per_workload; }>(
        "limits.maxConnectionsPerWorkload", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.limits.buffer_budget_bytes; }>("limits.bufferBudget",
                                                                        kAtOnce),
    Rule<[](auto& c) -> auto& { return c.telemetry.otlp_endpoint; }>("telemetry.otlpEndpoint",
                                                                     kAtOnce),
    Rule<[](auto& c) -> auto& { return c.telemetry.otlp_protocol; }>("telemetry.otlpProtocol",
                                                                     kAtOnce),
    Rule<[](auto& c) -> auto& { return c.telemetry.queue_bytes; }>("telemetry.queueSize", kRestart),
    Rule<[](auto& c) -> auto& { return c.telemetry.trace_store_spans; }>(
        "telemetry.traceStoreSpans", kRestart),
    Rule<[](auto& c) -> auto& { return c.telemetry.flow_store_records; }>(
        "telemetry.flowStoreRecords", kRestart),
    Rule<[](auto& c) -> auto& { return c.telemetry.keep_query_values; }>(
        "telemetry.keepQueryValues", kRestart),
    Rule<[](auto& c) -> auto& { return c.telemetry.access_log; }>("telemetry.accessLog", kRestart),
    Rule<[](auto& c) -> auto& { return c.telemetry.access_log_directory; }>(
        "telemetry.accessLogDirectory", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.telemetry.access_log_max_bytes; }>(
        "telemetry.accessLogMaxSize", kRestart),
    Rule<[](auto& c) -> auto& { return c.telemetry.access_log_keep; }>("telemetry.accessLogKeep",
                                                                       kRestart),
    Rule<[](auto& c) -> auto& { return c.telemetry.tail; }>("telemetry.alwaysSample", kAtOnce),
    Rule<[](auto& c) -> auto& { return c.workloads; }>("workloads", kAtOnce),
};

}  // namespace

bool operator==(const WorkloadConfig& left, const WorkloadConfig& right) {
  const auto facts = [](const WorkloadConfig& one) {
    return std::tie(one.name, one.ns, one.service_account, one.match_kind, one.match,
                    one.on_agent_down, one.mode, one.causality, one.runtime_hooks.go,
                    one.runtime_hooks.node, one.trace_boundary, one.trace_formats);
  };
  return facts(left) == facts(right);
}

std::vector<ConfigChange> Diff(const AgentConfig& before, const AgentConfig& after) {
  std::vector<ConfigChange> changes;
  for (const FieldRule& rule : kRules) {
    if (!rule.same(before, after)) {
      changes.push_back({.field = std::string(rule.name), .needs_restart = rule.needs_restart});
    }
  }
  return changes;
}

AgentConfig Applicable(const AgentConfig& before, const AgentConfig& after) {
  AgentConfig applied = before;
  for (const FieldRule& rule : kRules) {
    if (!rule.needs_restart) {
      rule.take(applied, after);
    }
  }
  return applied;
}

}  // namespace weir::config
