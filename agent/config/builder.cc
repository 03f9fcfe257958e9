#include "agent/config/builder.h"

#include <algorithm>
#include <cstddef>
#include <expected>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/config/agent_config.h"
#include "agent/config/document_readers.h"
#include "agent/config/documents.h"
#include "agent/config/permissions.h"
#include "agent/config/resource.h"
#include "agent/config/target.h"
#include "agent/config/yaml.h"
#include "agent/model/identity.h"
#include "agent/model/snapshot.h"

namespace weir::config {
namespace {

using PolicyList = std::vector<const PolicyDocument*>;
using WorkloadPtr = std::shared_ptr<const model::Workload>;

PolicyList FromWeakToStrong(const std::vector<PolicyDocument>& policies) {
  PolicyList sorted;
  for (const PolicyDocument& policy : policies) {
    sorted.push_back(&policy);
  }
  std::ranges::stable_sort(sorted, [](const PolicyDocument* left, const PolicyDocument* right) {
    return IsWeaker(*left, *right);
  });
  return sorted;
}

// One build: reads agent.yaml's and the documents' structures, writes a result.
class Build {
 public:
  Build(const AgentConfig& agent, const DocumentSet& documents, BuildResult& result)
      : agent_(agent),
        documents_(documents),
        result_(result),
        tls_policies_(FromWeakToStrong(documents.tls_policies)),
        trace_policies_(FromWeakToStrong(documents.trace_policies)),
        metric_policies_(FromWeakToStrong(documents.metric_policies)),
        permissions_(documents) {
    for (const WorkloadConfig& workload : agent.workloads) {
      configured_.emplace(workload.display_name(), &workload);
    }
  }

  // The registry, in the order of the documents.
  std::vector<WorkloadPtr> MakeWorkloads();
  // The workload of agent.yaml as this node treats it; null after an error.
  std::shared_ptr<const model::LocalWorkload> MakeLocal(const WorkloadConfig& config,
                                                        model::LocalId id);
  // Warns of permissions without an effect; after MakeWorkloads.
  void CheckPermissions();
  void AddBundles();
  // What agent.yaml says takes the place of what documents say.
  void OverrideBackends();
  // Adds what MeshAccessLog documents say for the workload of agent.yaml.
  void AddLogs(const WorkloadConfig& config, model::LocalId id, model::AccessLogs& logs);
  // Adds what MeshMetric documents say for the workload of agent.yaml. There is one set of
  // metrics for a node, so the first of two that contradict each other counts.
  void AddMetrics(const WorkloadConfig& config);
  // Workloads of agent.yaml that no Dataplane document names, so that they are none of
  // MakeWorkloads'.
  WorkloadPtr MakeUnlisted(const WorkloadConfig& config);

 private:
  struct Entry {
    WorkloadPtr workload;
    const DataplaneDocument* document = nullptr;
  };

  [[nodiscard]] base::Result<model::SpiffeId> IdentityOf(const DataplaneDocument& document) const;
  [[nodiscard]] const MeshIdentityDocument* SelectIdentity(const DataplaneDocument& document) const;
  void CheckLocalEntry(const WorkloadConfig& config, const Entry& entry);
  model::TlsMode ModeOf(const DataplaneDocument& document);
  [[nodiscard]] model::TlsMode ModeOfInbound(const DataplaneDocument& document,
                                             const DataplaneInbound& inbound,
                                             model::TlsMode base) const;
  model::TraceSettings TraceOf(const DataplaneDocument& document, model::LocalId id);

  const AgentConfig& agent_;
  const DocumentSet& documents_;
  BuildResult& result_;
  PolicyList tls_policies_;
  PolicyList trace_policies_;
  PolicyList metric_policies_;
  PermissionCompiler permissions_;
  std::map<std::string, const WorkloadConfig*> configured_;  // by display name
  std::map<std::string, Entry> entries_;                     // by display name
};

// The best of several MeshIdentity: most labels, then the first name.
const MeshIdentityDocument* Build::SelectIdentity(const DataplaneDocument& document) const {
  const MeshIdentityDocument* best = nullptr;
  for (const MeshIdentityDocument& identity : documents_.identities) {
    if (!identity.match_labels || identity.envelope.mesh != document.envelope.mesh ||
        !std::ranges::all_of(*identity.match_labels, [&](const auto& label) {
          return document.envelope.Label(label.first) == label.second;
        })) {
      continue;
    }
    const auto more = [&] {
      return identity.match_labels->size() != best->match_labels->size()
                 ? identity.match_labels->size() > best->match_labels->size()
                 : identity.envelope.name < best->envelope.name;
    };
    if (best == nullptr || more()) {
      best = &identity;
    }
  }
  return best;
}

base::Result<model::SpiffeId> Build::IdentityOf(const DataplaneDocument& document) const {
  std::string domain;
  std::string path = document.service_account.empty() || document.ns.empty()
                         ? "/workload/{{ .Workload }}"
                         : "/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}";
  if (const MeshIdentityDocument* identity = SelectIdentity(document)) {
    domain = identity->trust_domain_template;
    path = identity->path_template.empty() ? path : identity->path_template;
  }
  auto expanded_domain = ExpandTemplate(domain.empty() ? agent_.trust_domain : domain, document);
  if (!expanded_domain) {
    return std::unexpected(expanded_domain.error());
  }
  auto expanded_path = ExpandTemplate(path, document);
  if (!expanded_path) {
    return std::unexpected(expanded_path.error());
  }
  return model::SpiffeId::Make(*expanded_domain, *expanded_path);
}

std::vector<WorkloadPtr> Build::MakeWorkloads() {
  std::vector<WorkloadPtr> workloads;
  for (const DataplaneDocument& document : documents_.dataplanes) {
    auto identity = IdentityOf(document);
    if (!identity) {
      result_.diagnostics.Error(document.envelope.place, identity.error().message());
      continue;
    }
    auto workload = std::make_shared<model::Workload>(
        model::Workload{.name = document.envelope.name,
                        .ns = document.ns,
                        .service_account = document.service_account,
                        .identity = std::move(*identity),
                        .node = document.node,
                        .addresses = document.addresses,
                        .inbounds = {},
                        .labels = document.envelope.labels,
                        .tunnel_port = document.tunnel_port});
    for (const DataplaneInbound& inbound : document.inbounds) {
      workload->inbounds.push_back(
          {.port = inbound.port, .name = inbound.name, .hint = inbound.hint});
    }
    const std::string name = document.display_name();
    if (workload->node.empty() && configured_.contains(name)) {
      workload->node = agent_.node_name;
    } else if (workload->node.empty()) {
      result_.diagnostics.Warn(document.envelope.place,
                               "Dataplane \"" + name +
                                   "\" has no label weir.io/node: no certificate can be checked "
                                   "against the node that it lives on");
    }
    const auto [at, is_new] =
        entries_.emplace(name, Entry{.workload = workload, .document = &document});
    if (!is_new) {
      result_.diagnostics.Error(
          document.envelope.place,
          "workload \"" + name + "\" is also at " + at->second.document->envelope.place.ToString());
    }
    workloads.push_back(std::move(workload));
  }
  return workloads;
}

// agent.yaml and the Dataplane document of the same name must mean the same workload.
void Build::CheckLocalEntry(const WorkloadConfig& config, const Entry& entry) {
  const model::Workload& workload = *entry.workload;
  const std::string at = entry.document->envelope.place.ToString();
  if (workload.node != agent_.node_name) {
    result_.diagnostics.Error(config.place, "workload \"" + config.display_name() +
                                                "\" lives on node \"" + workload.node + "\" (" +
                                                at + "), not on this one, \"" + agent_.node_name +
                                                "\"");
  }
  if (!config.service_account.empty() && config.service_account != workload.service_account) {
    result_.diagnostics.Error(config.place, "workload \"" + config.display_name() +
                                                "\" has the service account \"" +
                                                workload.service_account + "\" at " + at);
  }
  if (workload.identity.trust_domain() != agent_.trust_domain) {
    result_.diagnostics.Error(config.place, "workload \"" + config.display_name() +
                                                "\" has the identity " + workload.identity.uri() +
                                                ", but this node issues for \"" +
                                                agent_.trust_domain + "\"");
  }
}

model::TlsMode Build::ModeOfInbound(const DataplaneDocument& document,
                                    const DataplaneInbound& inbound, model::TlsMode base) const {
  NodePtr merged;
  for (const PolicyDocument* policy : tls_policies_) {
    const std::string& section = policy->target.section_name;
    if (Selects(*policy, document) &&
        (section.empty() || NamesInbound(section, inbound.port, inbound.name))) {
      merged = Merge(merged, policy->configuration);
    }
  }
  if (merged == nullptr) {
    return base;
  }
  Diagnostics known;  // each policy was checked when it was read
  const std::string file;
  return ReadTlsConfiguration(*merged, {.file = &file, .diagnostics = &known}).mode.value_or(base);
}

// Modes are per workload on the data path: where inbounds differ the strict one wins.
model::TlsMode Build::ModeOf(const DataplaneDocument& document) {
  auto base = model::TlsMode::kStrict;
  for (const MeshDocument& mesh : documents_.meshes) {
    if (mesh.envelope.name == document.envelope.mesh) {
      base = mesh.mtls_mode.value_or(base);
    }
  }
  // Without inbounds no sectionName matches: port 0 is nobody's.
  const DataplaneInbound none;
  if (document.inbounds.empty()) {
    return ModeOfInbound(document, none, base);
  }
  std::size_t strict = 0;
  for (const DataplaneInbound& inbound : document.inbounds) {
    strict += ModeOfInbound(document, inbound, base) == model::TlsMode::kStrict ? 1 : 0;
  }
  if (strict != 0 && strict != document.inbounds.size()) {
    result_.diagnostics.Warn(document.envelope.place,
                             "the inbounds of \"" + document.display_name() +
                                 "\" are partly Strict, partly Permissive: all are Strict, weir "
                                 "does not tell them apart yet");
  }
  return strict == 0 ? model::TlsMode::kPermissive : model::TlsMode::kStrict;
}

model::TraceSettings Build::TraceOf(const DataplaneDocument& document, model::LocalId id) {
  model::TraceSettings settings;
  NodePtr merged;
  const PolicyDocument* strongest = nullptr;
  for (const PolicyDocument* policy : trace_policies_) {
    if (Selects(*policy, document)) {
      merged = Merge(merged, policy->configuration);
      strongest = policy;
    }
  }
  if (merged == nullptr) {
    return settings;
  }
  Diagnostics known;  // each policy was checked when it was read
  const std::string file;
  const auto trace = ReadTraceConfiguration(*merged, {.file = &file, .diagnostics = &known});
  settings.enabled = !trace.off;
  settings.sample_ratio = trace.sample_ratio;
  settings.client_ratio = trace.client_ratio;
  settings.connections = trace.connections;
  settings.literal_tags = trace.literal_tags;
  settings.header_tags = trace.header_tags;
  if (settings.enabled) {
    auto backend =
        ResolveOtlpTarget(documents_, strongest->envelope, trace.target, result_.diagnostics);
    if (backend) {
      const std::size_t index = NoteBackend(strongest->envelope, std::move(*backend),
                                            result_.trace_backends, result_.diagnostics);
      if (id != model::LocalId::kNone) {
        result_.trace_routes[id] = index;
      }
    }
  }
  return settings;
}

WorkloadPtr Build::MakeUnlisted(const WorkloadConfig& config) {
  const std::string path = config.service_account.empty()
                               ? "/workload/" + config.name
                               : "/ns/" + config.ns + "/sa/" + config.service_account;
  auto identity = model::SpiffeId::Make(agent_.trust_domain, path);
  if (!identity) {
    result_.diagnostics.Error(config.place, identity.error().message());
    return nullptr;
  }
  result_.diagnostics.Warn(config.place, "no Dataplane document names workload \"" +
                                             config.display_name() +
                                             "\": other nodes do not know where it lives");
  return std::make_shared<model::Workload>(
      model::Workload{.name = config.name,
                      .ns = config.ns,
                      .service_account = config.service_account,
                      .identity = std::move(*identity),
                      .node = agent_.node_name,
                      .addresses = {},
                      .inbounds = {},
                      .labels = {}});
}

std::shared_ptr<const model::LocalWorkload> Build::MakeLocal(const WorkloadConfig& config,
                                                             model::LocalId id) {
  auto local = std::make_shared<model::LocalWorkload>();
  local->id = id;
  ResourceFacts facts{.name = config.name, .ns = config.ns, .node = agent_.node_name};
  if (config.match_kind == MatchKind::kUnit) {
    facts.unit = config.match;
  }
  const auto found = entries_.find(config.display_name());
  if (found != entries_.end()) {
    const DataplaneDocument& document = *found->second.document;
    CheckLocalEntry(config, found->second);
    local->workload = found->second.workload;
    local->tls_mode = ModeOf(document);
    local->trace = TraceOf(document, id);
    local->permissions = permissions_.PermissionsOf(document);
    local->on_agent_down = document.on_agent_down.value_or(local->on_agent_down);
    facts.labels = document.envelope.labels;
    facts.kubernetes = document.envelope.kubernetes;
    facts.pod = facts.kubernetes ? document.envelope.name : std::string();
  } else {
    local->workload = MakeUnlisted(config);
  }
  local->trace.tail = agent_.telemetry.tail;
  local->trace.is_boundary = config.trace_boundary;
  local->trace.formats = config.trace_formats;
  local->tls_mode = config.mode.value_or(local->tls_mode);
  local->on_agent_down = config.on_agent_down.value_or(local->on_agent_down);
  local->causality = config.causality;
  local->runtime_hooks = config.runtime_hooks;
  local->resource = MakeResource(facts);
  return local->workload == nullptr ? nullptr : local;
}

void Build::AddLogs(const WorkloadConfig& config, model::LocalId id, model::AccessLogs& logs) {
  const auto found = entries_.find(config.display_name());
  if (found != entries_.end()) {
    logs[id] = AccessLogsOf(documents_, *found->second.document, result_.log_backends,
                            result_.diagnostics);
  }
}

void Build::AddMetrics(const WorkloadConfig& config) {
  const auto found = entries_.find(config.display_name());
  NodePtr merged;
  const PolicyDocument* strongest = nullptr;
  for (const PolicyDocument* policy : metric_policies_) {
    if (found != entries_.end() && Selects(*policy, *found->second.document)) {
      merged = Merge(merged, policy->configuration);
      strongest = policy;
    }
  }
  if (merged == nullptr) {
    return;
  }
  Diagnostics known;  // each policy was checked when it was read
  const std::string file;
  auto metrics = ReadMetricConfiguration(*merged, {.file = &file, .diagnostics = &known});
  const Envelope& envelope = strongest->envelope;
  const auto contradicts = [&](const std::string& what) {
    result_.diagnostics.Warn(envelope.place,
                             what +
                                 " has another meaning for another workload of this node, which "
                                 "has one set of metrics: the first one counts");
  };
  for (PrometheusBackend& one : metrics.prometheus) {
    const auto at = std::ranges::find(result_.metrics_ports, one.port, &MetricsPort::port);
    if (at == result_.metrics_ports.end() && result_.metrics_ports.size() == kMaxMetricsPorts) {
      result_.diagnostics.Error(envelope.place,
                                "the MeshMetric documents of this node's workloads "
                                "have more than " +
                                    std::to_string(kMaxMetricsPorts) + " ports");
    } else if (at == result_.metrics_ports.end()) {
      result_.metrics_ports.push_back(
          {.port = one.port, .path = std::move(one.path), .filter = metrics.filter});
    } else if (at->path != one.path || at->filter.selection() != metrics.filter.selection()) {
      contradicts("port " + std::to_string(one.port) + " of MeshMetric");
    }
  }
  for (const OtlpMetrics& one : metrics.otlp) {
    auto backend = ResolveOtlpTarget(documents_, envelope, one.target, result_.diagnostics);
    if (!backend) {
      continue;
    }
    const auto at = std::ranges::find_if(result_.metrics_pushes, [&](const MetricsPush& push) {
      return push.backend.name == backend->name;
    });
    if (at == result_.metrics_pushes.end() && result_.metrics_pushes.size() == kMaxCollectors) {
      result_.diagnostics.Error(envelope.place,
                                "the MeshMetric documents of this node's workloads "
                                "have more than " +
                                    std::to_string(kMaxCollectors) + " collectors");
    } else if (at == result_.metrics_pushes.end()) {
      result_.metrics_pushes.push_back(
          {.backend = std::move(*backend), .interval = one.interval, .filter = metrics.filter});
    } else if (at->interval != one.interval ||
               at->filter.selection() != metrics.filter.selection()) {
      contradicts("the collector " + backend->name + " of MeshMetric");
    }
  }
}

void Build::CheckPermissions() {
  std::vector<std::string> identities;
  for (const auto& [name, entry] : entries_) {
    identities.push_back(entry.workload->identity.uri());
  }
  std::ranges::sort(identities);
  permissions_.Check(identities, result_.diagnostics);
}

void Build::AddBundles() {
  for (const MeshTrustDocument& trust : documents_.trusts) {
    result_.extra_bundles[trust.trust_domain] += trust.bundle_pem;
  }
  for (const auto& [name, entry] : entries_) {
    const std::string domain(entry.workload->identity.trust_domain());
    if (domain != agent_.trust_domain && !result_.extra_bundles.contains(domain)) {
      result_.diagnostics.Warn(entry.document->envelope.place,
                               "no MeshTrust has the trust domain \"" + domain + "\" of \"" + name +
                                   "\": its certificates cannot be checked");
    }
  }
}

void Build::OverrideBackends() {
  const TelemetryConfig& telemetry = agent_.telemetry;
  if (telemetry.otlp_endpoint.empty()) {
    return;
  }
  const bool is_http = telemetry.otlp_protocol == OtlpProtocol::kHttp;
  std::string url = telemetry.otlp_endpoint;
  while (url.ends_with('/')) {
    url.pop_back();
  }
  result_.trace_backends = {{.name = "agent.yaml",
                             .kind = is_http ? BackendKind::kOtlpHttp : BackendKind::kOtlpGrpc,
                             .url = url}};
  result_.trace_routes.clear();
  result_.trace_fallback = 0;
}

}  // namespace

BuildResult SnapshotBuilder::Build(const AgentConfig& agent, const DocumentSet& documents,
                                   const std::set<std::string>& present) {
  BuildResult result;
  config::Build build(agent, documents, result);
  model::Snapshot::Parts parts;
  parts.trust_domain = agent.trust_domain;
  parts.node_name = agent.node_name;
  parts.mesh_ranges = agent.mesh_ranges;
  parts.limits = agent.limits;
  parts.workloads = build.MakeWorkloads();
  model::AccessLogs logs;
  for (const WorkloadConfig& config : agent.workloads) {
    const std::string name = config.display_name();
    const bool exists = present.contains(name);
    auto local = build.MakeLocal(config, exists ? IdOf(name) : model::LocalId::kNone);
    if (local == nullptr || !exists) {
      continue;
    }
    if (std::ranges::find(parts.workloads, local->workload) == parts.workloads.end()) {
      parts.workloads.push_back(local->workload);
    }
    build.AddLogs(config, local->id, logs);
    build.AddMetrics(config);
    parts.locals.push_back(std::move(local));
  }
  CheckAccessLogs(documents, agent.telemetry.access_log_directory, result.diagnostics);
  result.access_logs = std::make_shared<const model::AccessLogs>(std::move(logs));
  build.CheckPermissions();
  build.AddBundles();
  build.OverrideBackends();
  if (!result.diagnostics.ok()) {
    return result;
  }
  parts.revision = ++revision_;
  result.snapshot = std::make_shared<const model::Snapshot>(std::move(parts));
  return result;
}

model::LocalId SnapshotBuilder::IdOf(const std::string& display_name) {
  const auto [at, is_new] = ids_.try_emplace(display_name, model::LocalId::kNone);
  if (is_new) {
    at->second = static_cast<model::LocalId>(++last_id_);
  }
  return at->second;
}

}  // namespace weir::config
