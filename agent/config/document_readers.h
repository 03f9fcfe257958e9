#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/config/builder.h"
#include "agent/config/documents.h"
#include "agent/config/fields.h"
#include "agent/model/metric_filter.h"

// The readers of single kinds, for documents.cc and builder.cc only. Each takes the fields
// of a document's body and adds what it says to `set`; the caller finishes the body.
namespace weir::config {

void ReadDataplane(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMesh(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshIdentity(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshTrust(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshTls(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshTrace(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshMetric(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshAccessLog(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshTrafficPermission(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadTraceBackend(Fields& body, const Envelope& envelope, DocumentSet& set);

// The `targetRef` of a policy; the whole mesh when absent.
TargetRef ReadTargetRef(Fields& body);

// A PEM text of one or more certificates, by its frame only; certificates are parsed
// where they are used.
bool LooksLikeCertificates(const std::string& pem);

// What a (merged) MeshTLS configuration says.
struct TlsConfiguration {
  std::optional<model::TlsMode> mode;
};
TlsConfiguration ReadTlsConfiguration(const Node& node, const Reader& reader);

// What a (merged) MeshTrace configuration says.
struct TraceConfiguration {
  bool off = false;   // `backends: []`
  OtlpTarget target;  // or, in `inline_backend`, a Zipkin
  double sample_ratio = 1.0;
  double client_ratio = 1.0;  // of requests with x-client-trace-id
  bool connections = false;   // spans of opaque connections
  std::vector<std::pair<std::string, std::string>> literal_tags;
  std::vector<model::HeaderTag> header_tags;
};
TraceConfiguration ReadTraceConfiguration(const Node& node, const Reader& reader);

// What a (merged) MeshMetric configuration says.
struct PrometheusBackend {
  std::uint16_t port = 5670;
  std::string path = "/metrics";
};
struct OtlpMetrics {
  OtlpTarget target;
  std::chrono::milliseconds interval{0};
};
struct MetricConfiguration {
  model::MetricFilter filter;
  std::vector<PrometheusBackend> prometheus;
  std::vector<OtlpMetrics> otlp;
};
MetricConfiguration ReadMetricConfiguration(const Node& node, const Reader& reader);

// What the MeshAccessLog documents say for `workload`, as CheckAccessLogs found it good. OTLP
// backends are resolved: each new one is added to `backends`, errors go to `diagnostics`.
model::WorkloadLogs AccessLogsOf(const DocumentSet& documents, const DataplaneDocument& workload,
                                 std::vector<TelemetryBackend>& backends, Diagnostics& diagnostics);

// Reports backends whose file is neither /dev/stdout, /dev/stderr or /dev/null nor below
// `directory`, and more files than a node may have.
void CheckAccessLogs(const DocumentSet& documents, const std::string& directory,
                     Diagnostics& diagnostics);

// "HOST" or "HOST:PORT", an IPv6 address with a port in brackets. Nothing for anything else.
struct HostPort {
  std::string host;
  std::optional<std::uint16_t> port{};
};
std::optional<HostPort> SplitHostPort(const std::string& text);

// The "endpoint" or "backendRef" of `openTelemetry`; errors are reported. The caller finishes
// `fields`.
OtlpTarget ReadOtlpTarget(Fields& fields);
// The backend that `target` of the policy `envelope` means; nothing after an error, or when it
// names none.
std::optional<TelemetryBackend> ResolveOtlpTarget(const DocumentSet& documents,
                                                  const Envelope& envelope,
                                                  const OtlpTarget& target,
                                                  Diagnostics& diagnostics);

// The place of `backend`, by its name, in `backends`, where it is added if it is new. More than
// kMaxCollectors of them are an error at the place of the policy `envelope`.
std::size_t NoteBackend(const Envelope& envelope, TelemetryBackend backend,
                        std::vector<TelemetryBackend>& backends, Diagnostics& diagnostics);

// "http://HOST:PORT[/PATH]", without a slash at its end.
std::string CollectorUrl(const std::string& host, std::uint16_t port, const std::string& path);

// Fills in `template_text` of a MeshIdentity for `workload`: {{ .Mesh }}, {{ .Zone }},
// {{ .Namespace }}, {{ .ServiceAccount }}, {{ .Workload }} and {{ label "KEY" }}. Nothing
// when it has anything else, or names what the workload lacks.
base::Result<std::string> ExpandTemplate(const std::string& template_text,
                                         const DataplaneDocument& workload);

}  // namespace weir::config
