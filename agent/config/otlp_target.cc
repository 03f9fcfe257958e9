// Where OTLP goes by a document: the `openTelemetry` of a backend of MeshTrace, MeshAccessLog or
// MeshMetric.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/config/document_readers.h"
#include "agent/config/documents.h"
#include "agent/config/fields.h"

namespace weir::config {
namespace {

constexpr std::uint16_t kOtlpGrpcPort = 4317;  // OTLP specification, "Default port"
constexpr std::uint16_t kOtlpHttpPort = 4318;

void ReadBackendRef(Fields& fields, OtlpTarget& target) {
  const Node* node = fields.Take("backendRef");
  if (node == nullptr) {
    return;
  }
  Fields ref(*node, "backendRef", fields.reader());
  if (const Node* kind = ref.Require("kind")) {
    (void)ReadChoice(*kind, "kind", {"MeshOpenTelemetryBackend"}, fields.reader());
  }
  target.ref_name = ref.String("name").value_or("");
  target.ref_labels = ref.StringMap("labels");
  if (target.ref_name.empty() == target.ref_labels->empty()) {
    fields.reader().Error(*node, "backendRef must have either \"labels\" or a \"name\"");
  }
  ref.Finish();
}

}  // namespace

std::optional<HostPort> SplitHostPort(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  const bool has_port = colon != std::string::npos && text.find(']', colon) == std::string::npos &&
                        (text.front() == '[' || text.find(':') == colon);
  HostPort result{.host = text.substr(0, has_port ? colon : std::string::npos)};
  if (has_port) {
    const auto port = ParseUnsigned(std::string_view(text).substr(colon + 1));
    if (!port || *port == 0 || *port > 65535) {
      return std::nullopt;
    }
    result.port = static_cast<std::uint16_t>(*port);
  }
  if (result.host.empty() || result.host.find_first_of("/ ") != std::string::npos) {
    return std::nullopt;
  }
  return result;
}

OtlpTarget ReadOtlpTarget(Fields& fields) {
  OtlpTarget target;
  if (const auto text = fields.String("endpoint")) {
    const auto at = SplitHostPort(*text);
    if (at) {
      const std::uint16_t port = at->port.value_or(kOtlpGrpcPort);
      const std::string url = CollectorUrl(at->host, port, "");
      target.inline_backend = TelemetryBackend{
          .name = url,
          .kind = port == kOtlpHttpPort ? BackendKind::kOtlpHttp : BackendKind::kOtlpGrpc,
          .url = url};
    } else {
      fields.ErrorAt("endpoint", "must be HOST or HOST:PORT");
    }
  }
  ReadBackendRef(fields, target);
  if ((fields.map().Find("endpoint") != nullptr) == (fields.map().Find("backendRef") != nullptr)) {
    fields.reader().Error(fields.map(),
                          "openTelemetry must have either \"backendRef\" or \"endpoint\"");
  }
  return target;
}

std::string OtlpTarget::key() const {
  if (inline_backend) {
    return inline_backend->name;
  }
  std::string text = "ref " + ref_name;
  for (const auto& [label, value] : ref_labels.value_or(std::map<std::string, std::string>())) {
    text += " " + label + "=" + value;
  }
  return text;
}

std::optional<TelemetryBackend> ResolveOtlpTarget(const DocumentSet& documents,
                                                  const Envelope& envelope,
                                                  const OtlpTarget& target,
                                                  Diagnostics& diagnostics) {
  if (target.inline_backend || !target.ref_labels) {
    return target.inline_backend;
  }
  const auto& candidates = documents.trace_backends;
  const auto found = std::ranges::find_if(candidates, [&](const TraceBackendDocument& one) {
    return one.envelope.mesh == envelope.mesh &&
           (target.ref_name.empty() || one.envelope.name == target.ref_name) &&
           std::ranges::all_of(*target.ref_labels, [&](const auto& label) {
             return one.envelope.Label(label.first) == label.second;
           });
  });
  if (found == candidates.end()) {
    diagnostics.Error(envelope.place, "no MeshOpenTelemetryBackend is what \"backendRef\" of \"" +
                                          envelope.display_name() + "\" refers to");
    return std::nullopt;
  }
  const bool is_http = found->protocol == OtlpProtocol::kHttp;
  return TelemetryBackend{.name = "MeshOpenTelemetryBackend/" + found->envelope.display_name(),
                          .kind = is_http ? BackendKind::kOtlpHttp : BackendKind::kOtlpGrpc,
                          .url = CollectorUrl(found->address.empty() ? "127.0.0.1" : found->address,
                                              found->port, is_http ? found->path : ""),
                          .env = found->env};
}

std::size_t NoteBackend(const Envelope& envelope, TelemetryBackend backend,
                        std::vector<TelemetryBackend>& backends, Diagnostics& diagnostics) {
  const auto found = std::ranges::find(backends, backend.name, &TelemetryBackend::name);
  if (found != backends.end()) {
    return static_cast<std::size_t>(found - backends.begin());
  }
  if (backends.size() == kMaxCollectors) {
    diagnostics.Error(envelope.place, "the workloads of this node have more than " +
                                          std::to_string(kMaxCollectors) + " different backends");
    return 0;
  }
  backends.push_back(std::move(backend));
  return backends.size() - 1;
}

std::string CollectorUrl(const std::string& host, std::uint16_t port, const std::string& path) {
  const bool bare_v6 = host.contains(':') && !host.starts_with('[');
  std::string url = "http://";
  url += bare_v6 ? "[" + host + "]" : host;
  url += ":" + std::to_string(port) + path;
  while (url.ends_with('/')) {
    url.pop_back();
  }
  return url;
}

}  // namespace weir::config
