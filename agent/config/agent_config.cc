#include "agent/config/agent_config.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "agent/base/file.h"
#include "agent/base/ip.h"
#include "agent/client/http_client.h"
#include "agent/config/diagnostic.h"
#include "agent/config/fields.h"
#include "agent/config/yaml.h"
#include "agent/model/identity.h"
#include "agent/model/snapshot.h"

namespace weir::config {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr std::size_t kMaxAgentConfigBytes = 1U << 20U;
constexpr std::size_t kMaxPathBytes = 4095;       // PATH_MAX of Linux, without the NUL
constexpr std::size_t kMaxSocketPathBytes = 107;  // sun_path of unix(7), without the NUL
constexpr std::uint64_t kMaxWorkers = 1024;
constexpr std::size_t kMaxWorkloads = 10000;

bool IsAbsolutePath(std::string_view path, std::size_t most) {
  return path.starts_with('/') && path.size() <= most && !path.contains('\0');
}

// True when a component of `path` leads upwards.
bool HasDotDot(std::string_view path) {
  while (!path.empty()) {
    const std::string_view part = path.substr(0, path.find('/'));
    if (part == "..") {
      return true;
    }
    path.remove_prefix(std::min(part.size() + 1, path.size()));
  }
  return false;
}

void ReadPath(Fields& fields, std::string_view name, std::string& path) {
  if (auto text = fields.String(name)) {
    if (!IsAbsolutePath(*text, kMaxPathBytes)) {
      fields.ErrorAt(name, "must be an absolute path");
      return;
    }
    path = std::move(*text);
  }
}

void ReadNode(Fields& root, AgentConfig& config) {
  if (auto name = root.String("node")) {
    config.node_name = std::move(*name);
  } else {
    std::array<char, 256> host{};
    (void)::gethostname(host.data(), host.size() - 1);  // fails only for a short buffer
    config.node_name = host.data();
  }
  if (!IsName(config.node_name)) {
    root.ErrorAt("node", "the name \"" + config.node_name +
                             "\" must be lower-case letters, digits, '-', '.' and '_'");
  }
  if (const Node* domain = root.Require("trustDomain")) {
    if (auto text = ReadString(*domain, "trustDomain", root.reader())) {
      if (auto id = model::SpiffeId::Make(*text, ""); !id || text->contains('/')) {
        root.ErrorAt("trustDomain", "must be 1 to 255 of a-z 0-9 . - _");
      }
      config.trust_domain = std::move(*text);
    }
  }
}

void ReadMeshRanges(Fields& root, AgentConfig& config) {
  root.ForEach("meshRanges", [&](const Node& item) {
    const auto text = ReadString(item, "meshRanges", root.reader());
    if (!text) {
      return;
    }
    auto range = base::Cidr::Parse(*text);
    if (!range) {
      root.reader().Error(item, range.error().message());
      return;
    }
    config.mesh_ranges.push_back(*range);
  });
  if (config.mesh_ranges.empty()) {
    root.reader().Warn(root.map(),
                       "no \"meshRanges\": connections to addresses that no document names leave "
                       "unencrypted");
  }
}

void ReadPlaces(Fields& root, AgentConfig& config) {
  ReadPath(root, "documents", config.documents_directory);
  ReadPath(root, "cgroupRoot", config.cgroup_root);
  ReadPath(root, "bpffs", config.bpffs_directory);
  ReadPath(root, "runDirectory", config.run_directory);
  ReadPath(root, "stateDirectory", config.state_directory);
  config.admin.socket_path = config.run_directory + "/admin.sock";
}

void ReadAdmin(Fields& root, AgentConfig& config) {
  const Node* node = root.Take("admin");
  if (node == nullptr) {
    return;
  }
  Fields fields(*node, "admin", root.reader());
  ReadPath(fields, "socket", config.admin.socket_path);
  if (config.admin.socket_path.size() > kMaxSocketPathBytes) {
    fields.ErrorAt("socket", "a socket's path has at most 107 bytes");
  }
  if (auto group = fields.String("group")) {
    config.admin.group = std::move(*group);
  }
  if (const auto mode = fields.String("mode")) {
    std::uint32_t bits = 0;
    const char* const last = mode->data() + mode->size();
    const auto [end, error] = std::from_chars(mode->data(), last, bits, 8);
    if (error != std::errc() || end != last || mode->size() < 3 || bits > 0777) {
      fields.ErrorAt("mode", "must be octal permissions such as \"0660\"");
    } else if ((bits & 7U) != 0) {
      fields.ErrorAt("mode", "must give others nothing: whoever opens the socket reads all flows");
    } else {
      config.admin.mode = bits;
    }
  }
  fields.Finish();
}

void ReadMetrics(Fields& root, AgentConfig& config) {
  const Node* node = root.Take("metrics");
  if (node == nullptr) {
    return;
  }
  Fields fields(*node, "metrics", root.reader());
  if (const auto text = fields.String("address"); text && !text->empty()) {
    auto endpoint = base::Endpoint::Parse(*text);
    if (!endpoint) {
      fields.ErrorAt("address", endpoint.error().message());
    } else {
      config.metrics_address = *endpoint;
    }
  }
  fields.Finish();
}

void ReadProcess(Fields& root, AgentConfig& config) {
  if (const auto workers = root.Unsigned("workers", {.least = 0, .most = kMaxWorkers})) {
    config.workers = static_cast<std::uint32_t>(*workers);
  }
  if (const Node* level = root.Take("logLevel")) {
    if (ReadChoice(*level, "logLevel", {"debug", "info", "warn", "error"}, root.reader())) {
      config.log_level = level->scalar;
    }
  }
}

void ReadCa(Fields& root, AgentConfig& config) {
  const Node* node = root.Take("ca");
  if (node == nullptr) {
    return;
  }
  Fields fields(*node, "ca", root.reader());
  ReadPath(fields, "rootBundle", config.ca.root_bundle);
  ReadPath(fields, "certificate", config.ca.certificate);
  ReadPath(fields, "key", config.ca.key);
  if (const auto lifetime = fields.Duration("svidLifetime", seconds(10), hours(24))) {
    config.ca.svid_lifetime = std::chrono::duration_cast<seconds>(*lifetime);
  }
  fields.Finish();
}

template <typename T>
void Store(const std::optional<std::uint64_t>& value, T& field) {
  if (value) {
    field = static_cast<T>(*value);
  }
}

void ReadLimits(Fields& root, AgentConfig& config) {
  const Node* node = root.Take("limits");
  if (node == nullptr) {
    return;
  }
  Fields fields(*node, "limits", root.reader());
  model::Limits& limits = config.limits;
  const auto duration = [&](std::string_view name, milliseconds least, milliseconds most,
                            milliseconds& field) {
    field = fields.Duration(name, least, most).value_or(field);
  };
  duration("connectTimeout", milliseconds(100), minutes(5), limits.connect_timeout);
  duration("tlsHandshakeTimeout", milliseconds(100), minutes(5), limits.tls_handshake_timeout);
  duration("requestHeaderTimeout", milliseconds(100), minutes(10), limits.request_header_timeout);
  duration("detectTimeoutHinted", milliseconds(1), seconds(10), limits.detect_timeout_hinted);
  duration("detectTimeout", milliseconds(1), seconds(60), limits.detect_timeout);
  duration("unknownDestinationWait", milliseconds(0), seconds(30), limits.unknown_destination_wait);
  duration("tunnelIdleTimeout", seconds(1), hours(24), limits.tunnel_idle_timeout);
  duration("tunnelPingInterval", seconds(1), hours(1), limits.tunnel_ping_interval);
  // The largest head must fit into the buffer of one connection.
  constexpr Range kHead{.least = 1024, .most = 1U << 20U};
  Store(fields.Size("maxRequestLine", kHead), limits.max_request_line_bytes);
  Store(fields.Size("maxHeaders", kHead), limits.max_header_bytes);
  Store(fields.Unsigned("maxHeaderCount", {.least = 8, .most = 10000}), limits.max_header_count);
  Store(fields.Unsigned("maxConnectionsPerWorkload", {.least = 1, .most = 10'000'000}),
        limits.max_connections_per_workload);
  Store(fields.Size("bufferBudget", {.least = 8ULL << 20U, .most = 64ULL << 30U}),
        limits.buffer_budget_bytes);
  if (limits.detect_timeout_hinted > limits.detect_timeout) {
    fields.ErrorAt("detectTimeoutHinted", "must not be longer than \"detectTimeout\"");
  }
  fields.Finish();
}

void ReadAlwaysSample(Fields& telemetry, model::TailSettings& tail) {
  const Node* node = telemetry.Take("alwaysSample");
  if (node == nullptr) {
    return;
  }
  Fields fields(*node, "alwaysSample", telemetry.reader());
  tail.errors = fields.Bool("errors").value_or(tail.errors);
  tail.slower_than =
      fields.Duration("slowerThan", milliseconds(0), hours(24)).value_or(milliseconds(0));
  fields.Finish();
}

void ReadAccessLog(Fields& telemetry, TelemetryConfig& config) {
  if (auto path = telemetry.String("accessLog"); path && !path->empty()) {
    if (!IsAbsolutePath(*path, kMaxPathBytes) || path->ends_with('/')) {
      telemetry.ErrorAt("accessLog", "must be the absolute path of a file");
    }
    config.access_log = std::move(*path);
  }
  ReadPath(telemetry, "accessLogDirectory", config.access_log_directory);
  Store(telemetry.Size("accessLogMaxSize", {.least = 0, .most = 1ULL << 40U}),
        config.access_log_max_bytes);
  Store(telemetry.Unsigned("accessLogKeep", {.least = 1, .most = 99}), config.access_log_keep);
}

void ReadTelemetry(Fields& root, AgentConfig& config) {
  const Node* node = root.Take("telemetry");
  if (node == nullptr) {
    return;
  }
  Fields fields(*node, "telemetry", root.reader());
  if (auto url = fields.String("otlpEndpoint"); url && !url->empty()) {
    const auto parsed = client::ParseHttpUrl(*url);
    if (!parsed || parsed->target.contains('?')) {
      fields.ErrorAt("otlpEndpoint", "must be a URL such as http://127.0.0.1:4318");
    }
    config.telemetry.otlp_endpoint = std::move(*url);
  }
  if (const Node* protocol = fields.Take("otlpProtocol")) {
    config.telemetry.otlp_protocol =
        ReadChoice(*protocol, "otlpProtocol", {"http/protobuf", "grpc"}, root.reader()) ==
                std::size_t{1}
            ? OtlpProtocol::kGrpc
            : OtlpProtocol::kHttp;
  }
  Store(fields.Size("queueSize", {.least = 1ULL << 20U, .most = 16ULL << 30U}),
        config.telemetry.queue_bytes);
  constexpr Range kRecords{.least = 0, .most = 10'000'000};
  Store(fields.Unsigned("traceStoreSpans", kRecords), config.telemetry.trace_store_spans);
  Store(fields.Unsigned("flowStoreRecords", kRecords), config.telemetry.flow_store_records);
  config.telemetry.keep_query_values =
      fields.Bool("keepQueryValues").value_or(config.telemetry.keep_query_values);
  ReadAccessLog(fields, config.telemetry);
  ReadAlwaysSample(fields, config.telemetry.tail);
  fields.Finish();
}

// Whether `text` can name what `kind` matches; the reason if it cannot.
std::string_view MatchFault(MatchKind kind, std::string_view text) {
  if (text.empty() || text.size() > kMaxPathBytes || text.contains('\0') || HasDotDot(text)) {
    return "must be a path or a name, without \"..\"";
  }
  switch (kind) {
    case MatchKind::kNetns:
      return text.starts_with('/') || (!text.contains('/') && text != ".")
                 ? ""
                 : "must be an absolute path, or a name below /run/netns";
    case MatchKind::kUnit:
      return !text.contains('/') && (text.ends_with(".service") || text.ends_with(".scope"))
                 ? ""
                 : "must be the whole name of a unit, such as payments.service";
    case MatchKind::kCgroup:
      return text == "/" ? "must not be the root: that is the whole machine" : "";
  }
  return "";
}

void ReadMatch(Fields& fields, WorkloadConfig& workload) {
  const Node* node = fields.Require("match");
  if (node == nullptr) {
    return;
  }
  Fields match(*node, "match", fields.reader());
  std::size_t given = 0;
  for (const MatchKind kind : {MatchKind::kNetns, MatchKind::kUnit, MatchKind::kCgroup}) {
    if (auto text = match.String(ToString(kind))) {
      if (const std::string_view fault = MatchFault(kind, *text); !fault.empty()) {
        match.ErrorAt(ToString(kind), std::string(fault));
      }
      workload.match_kind = kind;
      workload.match = std::move(*text);
      ++given;
    }
  }
  if (given != 1) {
    match.reader().Error(*node, "\"match\" must have exactly one of netns, unit and cgroup");
  }
  match.Finish();
}

void ReadWorkloadNames(Fields& fields, WorkloadConfig& workload) {
  const auto read = [&](std::string_view field, std::string& target) {
    if (auto text = fields.String(field)) {
      if (!IsName(*text)) {
        fields.ErrorAt(field, "must be lower-case letters, digits, '-', '.' and '_'");
      }
      target = std::move(*text);
    }
  };
  (void)fields.Require("name");  // its absence is reported here, its text read below
  read("name", workload.name);
  read("namespace", workload.ns);
  read("serviceAccount", workload.service_account);
  if (!workload.service_account.empty() && workload.ns.empty()) {
    fields.ErrorAt("serviceAccount", "needs a \"namespace\" beside it");
  }
}

void ReadTraces(Fields& fields, WorkloadConfig& workload) {
  const Node* node = fields.Take("traces");
  if (node == nullptr) {
    return;
  }
  Fields traces(*node, "traces", fields.reader());
  workload.trace_boundary = traces.Bool("boundary").value_or(false);
  traces.ForEach("formats", [&](const Node& item) {
    const auto choice =
        ReadChoice(item, "an item of formats", {"b3", "b3-multi", "jaeger"}, fields.reader());
    model::ExtraTraceFormats& formats = workload.trace_formats;
    formats.b3 = formats.b3 || choice == std::size_t{0};
    formats.b3_multi = formats.b3_multi || choice == std::size_t{1};
    formats.jaeger = formats.jaeger || choice == std::size_t{2};
  });
  traces.Finish();
}

void ReadCausality(Fields& fields, WorkloadConfig& workload) {
  if (const Node* causality = fields.Take("causality")) {
    if (const auto choice =
            ReadChoice(*causality, "causality", {"off", "headers", "inferred"}, fields.reader())) {
      workload.causality = static_cast<model::Causality>(*choice);
    }
  }
  model::RuntimeHooks& hooks = workload.runtime_hooks;
  fields.ForEach("runtimeHooks", [&](const Node& item) {
    const auto choice =
        ReadChoice(item, "an item of runtimeHooks", {"go", "node"}, fields.reader());
    hooks.go = hooks.go || choice == std::size_t{0};
    hooks.node = hooks.node || choice == std::size_t{1};
  });
  if (hooks != model::RuntimeHooks{} && workload.causality != model::Causality::kInferred) {
    fields.ErrorAt("runtimeHooks", "runtimeHooks needs causality: inferred");
  }
}

WorkloadConfig ReadWorkload(const Node& node, const Reader& reader) {
  WorkloadConfig workload;
  workload.place = reader.At(node);
  Fields fields(node, "a workload", reader);
  ReadWorkloadNames(fields, workload);
  ReadMatch(fields, workload);
  if (const Node* down = fields.Take("onAgentDown")) {
    if (const auto choice = ReadChoice(*down, "onAgentDown", {"closed", "open"}, reader)) {
      workload.on_agent_down =
          *choice == 0 ? model::OnAgentDown::kClosed : model::OnAgentDown::kOpen;
    }
  }
  ReadCausality(fields, workload);
  if (const Node* mode = fields.Take("mode")) {
    if (const auto choice = ReadChoice(*mode, "mode", {"Strict", "Permissive"}, reader)) {
      workload.mode = *choice == 0 ? model::TlsMode::kStrict : model::TlsMode::kPermissive;
    }
  }
  ReadTraces(fields, workload);
  fields.Finish();
  return workload;
}

void ReadWorkloads(Fields& root, AgentConfig& config) {
  std::map<std::string, int> lines_by_name;
  std::map<std::pair<MatchKind, std::string>, int> lines_by_match;
  root.ForEach("workloads", [&](const Node& node) {
    if (config.workloads.size() >= kMaxWorkloads) {
      return;
    }
    WorkloadConfig workload = ReadWorkload(node, root.reader());
    const auto [name, is_new] = lines_by_name.emplace(workload.display_name(), node.line);
    if (!is_new) {
      root.reader().Error(node, "workload \"" + workload.display_name() + "\" is also at line " +
                                    std::to_string(name->second));
    }
    const auto [match, is_own] =
        lines_by_match.emplace(std::pair(workload.match_kind, workload.match), node.line);
    if (!is_own && !workload.match.empty()) {
      root.reader().Error(node, "the workload at line " + std::to_string(match->second) +
                                    " matches the same " +
                                    std::string(ToString(workload.match_kind)));
    }
    config.workloads.push_back(std::move(workload));
  });
  if (config.workloads.size() >= kMaxWorkloads) {
    root.ErrorAt("workloads", "more than " + std::to_string(kMaxWorkloads - 1) + " workloads");
  }
}

}  // namespace

std::string_view ToString(MatchKind kind) {
  switch (kind) {
    case MatchKind::kNetns:
      return "netns";
    case MatchKind::kUnit:
      return "unit";
    case MatchKind::kCgroup:
      return "cgroup";
  }
  return "netns";
}

std::string WorkloadConfig::display_name() const {
  return ns.empty() ? name : ns + "/" + name;
}

AgentConfig ParseAgentConfig(std::string_view text, const std::string& file,
                             Diagnostics& diagnostics) {
  AgentConfig config;
  const auto documents = ParseYaml(text, file, diagnostics);
  const Reader reader{.file = &file, .diagnostics = &diagnostics};
  const Node nothing;
  if (documents.size() > 1) {
    reader.Error(*documents[1], "a second document; agent.yaml has one");
  }
  if (!diagnostics.ok()) {
    return config;
  }
  Fields root(documents.empty() ? nothing : *documents[0], "agent.yaml", reader);
  ReadNode(root, config);
  ReadMeshRanges(root, config);
  ReadPlaces(root, config);
  ReadAdmin(root, config);
  ReadMetrics(root, config);
  ReadProcess(root, config);
  ReadCa(root, config);
  ReadLimits(root, config);
  ReadTelemetry(root, config);
  ReadWorkloads(root, config);
  root.Finish();
  return config;
}

AgentConfig LoadAgentConfig(const std::string& path, Diagnostics& diagnostics) {
  const auto text = base::ReadFile(path, kMaxAgentConfigBytes);
  if (!text) {
    diagnostics.Error({.file = path}, text.error().ToString());
    return {};
  }
  return ParseAgentConfig(*text, path, diagnostics);
}

}  // namespace weir::config
