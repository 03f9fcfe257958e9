#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/ip.h"
#include "agent/config/diagnostic.h"
#include "agent/config/target.h"
#include "agent/model/access_logs.h"
#include "agent/model/permissions.h"
#include "agent/model/snapshot.h"

namespace weir::config {

struct Node;

// What the two envelopes (Kubernetes and Universal) say alike.
struct Envelope {
  std::string kind;
  std::string name;
  std::string ns;  // metadata.namespace; empty on Universal
  std::string mesh = "default";
  std::map<std::string, std::string> labels;
  bool kubernetes = false;
  Place place;

  [[nodiscard]] std::string Label(const std::string& key) const;  // empty if absent
  [[nodiscard]] std::string display_name() const;                 // "ns/name" or "name"
};

struct DataplaneInbound {
  std::uint16_t port = 0;
  std::string name;
  model::ProtocolHint hint = model::ProtocolHint::kNone;
  std::map<std::string, std::string> tags;
  Place place;
};

// Who lives where: one workload of the mesh.
struct DataplaneDocument {
  Envelope envelope;
  std::string ns;               // label k8s.kuma.io/namespace, else metadata.namespace
  std::string service_account;  // label k8s.kuma.io/service-account
  std::string node;             // label weir.io/node
  std::vector<base::IpAddress> addresses;
  std::vector<DataplaneInbound> inbounds;
  model::TunnelPort tunnel_port = model::TunnelPort::kOriginal;
  std::optional<model::OnAgentDown> on_agent_down;  // label weir.io/on-agent-down
  bool gateway = false;

  [[nodiscard]] std::string display_name() const;
};

// A MeshTLS, MeshTrace or MeshMetric: whom it is for and its configuration as a tree, which is
// merged over those of other policies before it is read.
struct PolicyDocument {
  Envelope envelope;
  TargetRef target;
  std::shared_ptr<const Node> configuration;  // the `default` map
};

// How OTEL_EXPORTER_OTLP_* variables and a backend go together (its `env`).
struct EnvironmentUse {
  enum class Mode : std::uint8_t { kDisabled, kOptional, kRequired };
  Mode mode = Mode::kOptional;
  bool is_first = false;       // else what the document says comes first
  bool allows_signals = true;  // variables of one signal count
  friend bool operator==(const EnvironmentUse&, const EnvironmentUse&) = default;
};

enum class BackendKind : std::uint8_t { kOtlpHttp, kOtlpGrpc, kZipkin };

// Where telemetry goes, from a policy and MeshOpenTelemetryBackend or agent.yaml.
struct TelemetryBackend {
  // The same as long as it is the same backend: "MeshOpenTelemetryBackend/main",
  // "agent.yaml", or the URL of one that has no name.
  std::string name;
  BackendKind kind = BackendKind::kOtlpHttp;
  // Of OTLP by HTTP the base, to which the signal's path is added: "http://198.18.0.9:4318"; of
  // gRPC "http://198.18.0.9:4317"; of Zipkin used as it is.
  std::string url;
  bool short_trace_ids = false;  // Zipkin: traceId128bit is not set
  EnvironmentUse env{};
  friend bool operator==(const TelemetryBackend&, const TelemetryBackend&) = default;
};

// What a policy's `openTelemetry` names: an endpoint, or a MeshOpenTelemetryBackend by labels or
// by name.
struct OtlpTarget {
  std::optional<TelemetryBackend> inline_backend;
  std::optional<std::map<std::string, std::string>> ref_labels;
  std::string ref_name;

  [[nodiscard]] std::string key() const;  // equal for equal targets
};

// A MeshAccessLog, in the forms of both generations.
struct AccessLogDocument {
  PolicyDocument policy;              // whom it is for; without a configuration
  std::vector<model::LogRule> rules;  // inbound; each logs by itself
  // Backends for the kind Mesh; the strongest document's count.
  std::optional<std::vector<model::LogBackend>> from;
  std::optional<std::vector<model::LogBackend>> to;
  // By its key, which is what `target` of an OTLP backend says until it is resolved.
  std::map<std::string, OtlpTarget> otlp;
};

// One entry of a MeshTrafficPermission's `deny`, `allowWithShadowDeny` or `allow`.
struct PermissionEntry {
  model::PermissionMatch match;
  model::PermissionRulePtr rule;
  Place place;
};

// One item of a MeshTrafficPermission's `from` (2.x).
struct PermissionFrom {
  TargetRef peer;
  model::PermissionRulePtr rule;
  Place place;
};

// A MeshTrafficPermission, in the form of one of the generations.
struct PermissionDocument {
  PolicyDocument policy;                 // whom it is for; without a configuration
  std::vector<PermissionEntry> entries;  // of all its `rules`
  std::vector<PermissionFrom> from;
};

struct MeshDocument {
  Envelope envelope;
  std::optional<model::TlsMode> mtls_mode;  // of the enabled backend (2.x)
};

struct MeshIdentityDocument {
  Envelope envelope;
  std::optional<std::map<std::string, std::string>> match_labels;  // empty: selects nothing
  std::string trust_domain_template;                               // empty: agent.yaml's
  std::string path_template;                                       // empty: the default one
};

struct MeshTrustDocument {
  Envelope envelope;
  std::string trust_domain;
  std::string bundle_pem;  // all bundles, one after the other
};

enum class OtlpProtocol : std::uint8_t { kHttp, kGrpc };

struct TraceBackendDocument {  // MeshOpenTelemetryBackend
  Envelope envelope;
  std::string address;  // empty: the node itself
  std::uint16_t port = 4317;
  std::string path;
  OtlpProtocol protocol = OtlpProtocol::kGrpc;
  EnvironmentUse env{.is_first = true};
};

// DocumentSet is everything that a directory of documents says. Plain data.
struct DocumentSet {
  std::vector<MeshDocument> meshes;
  std::vector<DataplaneDocument> dataplanes;
  std::vector<PolicyDocument> tls_policies;
  std::vector<PolicyDocument> trace_policies;
  std::vector<PolicyDocument> metric_policies;
  std::vector<AccessLogDocument> access_logs;
  std::vector<PermissionDocument> permissions;
  std::vector<MeshIdentityDocument> identities;
  std::vector<MeshTrustDocument> trusts;
  std::vector<TraceBackendDocument> trace_backends;
  std::size_t document_count = 0;
};

// Bounds on what is read; beyond each is an error that names the file.
inline constexpr std::size_t kMaxFileBytes = 1U << 20U;
inline constexpr std::size_t kMaxTotalBytes = 64U << 20U;
inline constexpr std::size_t kMaxFiles = 10000;
inline constexpr std::size_t kMaxDocuments = 100000;

struct SourceFile {
  std::string name;  // as findings show it
  std::string content;
};

// Reads the *.yaml and *.yml files of `directory` in the order of their names; hidden
// files and subdirectories are left out. What cannot be read is an error in
// `diagnostics`. Blocks.
std::vector<SourceFile> ReadDocumentFiles(const std::string& directory, Diagnostics& diagnostics);

// Parses documents of both envelopes. Unknown fields, and kinds that are not Kuma's, are
// errors; Kuma's kinds and fields that weir does not act on are warnings. The set is
// meaningful only when diagnostics.ok(). Any thread.
DocumentSet ParseDocuments(const std::vector<SourceFile>& files, Diagnostics& diagnostics);

// DocumentParser does the same, and keeps the trees of files that did not change since the
// call before, so that one file that flaps among many costs little. One thread.
class DocumentParser {
 public:
  DocumentSet Parse(const std::vector<SourceFile>& files, Diagnostics& diagnostics);

 private:
  struct ParsedFile {
    std::string content;
    std::vector<std::shared_ptr<const Node>> trees;
    Diagnostics diagnostics;
  };
  std::map<std::string, ParsedFile> parsed_;  // by file name
};

}  // namespace weir::config
