#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/config/builder.h"
#include "agent/config/documents.h"
#include "agent/config/fields.h"

// The readers of single kinds, for documents.cc and builder.cc only. Each takes the fields
// of a document's body and adds what it says to `set`; the caller finishes the body.
namespace weir::config {

void ReadDataplane(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMesh(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshIdentity(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshTrust(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshTls(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshTrace(Fields& body, const Envelope& envelope, DocumentSet& set);
void ReadMeshAccessLog(Fields& body, const Envelope& envelope, DocumentSet& set);
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
  bool off = false;  // `backends: []`
  std::optional<TraceBackend> inline_backend;
  // Of the MeshOpenTelemetryBackend that is referred to: labels, or a name.
  std::optional<std::map<std::string, std::string>> backend_labels;
  std::string backend_name;
  double sample_ratio = 1.0;
  double client_ratio = 1.0;  // of requests with x-client-trace-id
  std::vector<std::pair<std::string, std::string>> literal_tags;
  std::vector<model::HeaderTag> header_tags;
};
TraceConfiguration ReadTraceConfiguration(const Node& node, const Reader& reader);

// What the MeshAccessLog documents say for `workload`, as CheckAccessLogs found it good.
model::WorkloadLogs AccessLogsOf(const DocumentSet& documents, const DataplaneDocument& workload);

// Reports backends whose file is neither /dev/stdout, /dev/stderr or /dev/null nor below
// `directory`, and more files than a node may have.
void CheckAccessLogs(const DocumentSet& documents, const std::string& directory,
                     Diagnostics& diagnostics);

// "http://HOST:PORT".
std::string CollectorUrl(const std::string& host, std::uint16_t port);
// "http://HOST:PORT[/PATH]/v1/traces" of an OTLP collector.
std::string TracesUrl(const std::string& host, std::uint16_t port, const std::string& path);

// Fills in `template_text` of a MeshIdentity for `workload`: {{ .Mesh }}, {{ .Zone }},
// {{ .Namespace }}, {{ .ServiceAccount }}, {{ .Workload }} and {{ label "KEY" }}. Nothing
// when it has anything else, or names what the workload lacks.
base::Result<std::string> ExpandTemplate(const std::string& template_text,
                                         const DataplaneDocument& workload);

}  // namespace weir::config
