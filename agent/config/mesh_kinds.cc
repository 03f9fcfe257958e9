#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "agent/base/error.h"
#include "agent/config/document_readers.h"
#include "agent/config/documents.h"
#include "agent/config/fields.h"
#include "agent/config/yaml.h"
#include "agent/model/identity.h"
#include "agent/model/snapshot.h"

namespace weir::config {
namespace {

constexpr std::string_view kPemBegin = "-----BEGIN CERTIFICATE-----";
constexpr std::string_view kPemEnd = "-----END CERTIFICATE-----";

// The mode of one mtls backend, and whether it is the enabled one.
void ReadMtlsBackend(const Node& node, const Reader& reader, const std::string& enabled,
                     MeshDocument& mesh) {
  Fields backend(node, "an mtls backend", reader);
  (void)backend.Require("name");  // its absence is reported here
  const auto name = backend.String("name");
  auto mode = model::TlsMode::kStrict;
  if (const Node* text = backend.Take("mode")) {
    if (ReadChoice(*text, "mode", {"STRICT", "PERMISSIVE"}, reader) == std::size_t{1}) {
      mode = model::TlsMode::kPermissive;
    }
  }
  if (name && *name == enabled) {
    mesh.mtls_mode = mode;
  }
  backend.Accept({"type"});
  backend.NotActedOn({"dpCert", "rootChain", "conf"}, "the authority stands in agent.yaml");
  backend.Finish();
}

void ReadMtls(Fields& body, MeshDocument& mesh) {
  const Node* node = body.Take("mtls");
  if (node == nullptr) {
    return;
  }
  Fields mtls(*node, "mtls", body.reader());
  const std::string enabled = mtls.String("enabledBackend").value_or("");
  mtls.ForEach("backends",
               [&](const Node& item) { ReadMtlsBackend(item, body.reader(), enabled, mesh); });
  if (!enabled.empty() && !mesh.mtls_mode) {
    mtls.ErrorAt("enabledBackend", "no backend has the name \"" + enabled.substr(0, 64) + "\"");
  }
  mtls.NotActedOn({"skipValidation"});
  mtls.Finish();
}

// Takes "{{ ... }}" from the front of `text`: what is inside, trimmed.
std::optional<std::string_view> TakeAction(std::string_view& text) {
  const std::size_t end = text.find("}}");
  if (end == std::string_view::npos) {
    return std::nullopt;
  }
  std::string_view inside = text.substr(2, end - 2);
  text.remove_prefix(end + 2);
  inside.remove_prefix(std::min(inside.find_first_not_of(' '), inside.size()));
  return inside.substr(0, inside.find_last_not_of(' ') + 1);
}

std::optional<std::string> ActionValue(std::string_view action, const DataplaneDocument& workload) {
  const Envelope& envelope = workload.envelope;
  if (action == ".Mesh") {
    return envelope.mesh;
  }
  if (action == ".Zone") {
    return envelope.Label("kuma.io/zone");
  }
  if (action == ".Namespace") {
    return workload.ns;
  }
  if (action == ".ServiceAccount") {
    return workload.service_account;
  }
  if (action == ".Workload") {
    const std::string label = envelope.Label("kuma.io/workload");
    return label.empty() ? envelope.name : label;
  }
  constexpr std::string_view kLabel = "label \"";
  if (action.starts_with(kLabel) && action.ends_with('"') && action.size() > kLabel.size()) {
    return envelope.Label(
        std::string(action.substr(kLabel.size(), action.size() - kLabel.size() - 1)));
  }
  return std::nullopt;
}

// Whether and how environment variables of the agent change a backend.
void ReadEnvironmentUse(Fields& body, EnvironmentUse& env) {
  const Node* node = body.Take("env");
  if (node == nullptr) {
    return;
  }
  Fields fields(*node, "env", body.reader());
  if (const Node* mode = fields.Take("mode")) {
    if (const auto choice =
            ReadChoice(*mode, "mode", {"Disabled", "Optional", "Required"}, body.reader())) {
      env.mode = static_cast<EnvironmentUse::Mode>(*choice);
    }
  }
  if (const Node* precedence = fields.Take("precedence")) {
    env.is_first = ReadChoice(*precedence, "precedence", {"ExplicitFirst", "EnvFirst"},
                              body.reader()) != std::size_t{0};
  }
  env.allows_signals = fields.Bool("allowSignalOverrides").value_or(env.allows_signals);
  fields.Finish();
}

}  // namespace

void ReadMesh(Fields& body, const Envelope& envelope, DocumentSet& set) {
  MeshDocument mesh{.envelope = envelope, .mtls_mode = {}};
  ReadMtls(body, mesh);
  body.NotActedOn({"networking", "routing", "constraints", "skipCreatingInitialPolicies",
                   "meshServices", "tracing", "logging", "metrics"});
  set.meshes.push_back(std::move(mesh));
}

void ReadMeshIdentity(Fields& body, const Envelope& envelope, DocumentSet& set) {
  MeshIdentityDocument identity;
  identity.envelope = envelope;
  if (const Node* node = body.Take("selector")) {
    Fields selector(*node, "selector", body.reader());
    if (const Node* dataplane = selector.Take("dataplane")) {
      Fields fields(*dataplane, "dataplane", body.reader());
      identity.match_labels = fields.StringMap("matchLabels");
      fields.Finish();
    }
    selector.Finish();
  }
  if (!identity.match_labels) {
    body.reader().diagnostics->Warn(envelope.place, "MeshIdentity \"" + envelope.display_name() +
                                                        "\" has no selector: it selects nothing");
  }
  if (const Node* node = body.Take("spiffeID")) {
    Fields fields(*node, "spiffeID", body.reader());
    identity.trust_domain_template = fields.String("trustDomain").value_or("");
    identity.path_template = fields.String("path").value_or("");
    fields.Finish();
  }
  body.NotActedOn({"provider"}, "the authority stands in agent.yaml");
  set.identities.push_back(std::move(identity));
}

void ReadMeshTrust(Fields& body, const Envelope& envelope, DocumentSet& set) {
  MeshTrustDocument trust;
  trust.envelope = envelope;
  (void)body.Require("trustDomain");  // its absence is reported here
  trust.trust_domain = body.String("trustDomain").value_or("");
  if (!trust.trust_domain.empty() &&
      (!model::SpiffeId::Make(trust.trust_domain, "") || trust.trust_domain.contains('/'))) {
    body.ErrorAt("trustDomain", "must be 1 to 255 of a-z 0-9 . - _");
  }
  (void)body.Require("caBundles");  // its absence is reported here
  body.ForEach("caBundles", [&](const Node& item) {
    Fields bundle(item, "a CA bundle", body.reader());
    if (const Node* type = bundle.Require("type")) {
      (void)ReadChoice(*type, "type", {"Pem"}, body.reader());
    }
    if (const Node* pem = bundle.Require("pem")) {
      Fields fields(*pem, "pem", body.reader());
      (void)fields.Require("value");  // its absence is reported here
      const std::string value = fields.String("value").value_or("");
      if (!value.empty() && !LooksLikeCertificates(value)) {
        fields.ErrorAt("value", "must be one or more certificates in PEM");
      }
      trust.bundle_pem += value + (value.ends_with('\n') ? "" : "\n");
      fields.Finish();
    }
    bundle.Finish();
  });
  body.Accept({"origin"});
  set.trusts.push_back(std::move(trust));
}

void ReadTraceBackend(Fields& body, const Envelope& envelope, DocumentSet& set) {
  TraceBackendDocument backend;
  backend.envelope = envelope;
  if (const Node* node = body.Take("endpoint")) {
    Fields endpoint(*node, "endpoint", body.reader());
    backend.address = endpoint.String("address").value_or("");
    if (backend.address.find_first_of("/ ") != std::string::npos) {
      endpoint.ErrorAt("address", "must be a host name or an address");
    }
    backend.port = static_cast<std::uint16_t>(
        endpoint.Unsigned("port", {.least = 1, .most = 65535}).value_or(backend.port));
    backend.path = endpoint.String("path").value_or("");
    if (!backend.path.empty() && !backend.path.starts_with('/')) {
      backend.path.insert(0, 1, '/');
    }
    endpoint.Finish();
  }
  if (const Node* protocol = body.Take("protocol")) {
    const auto choice = ReadChoice(*protocol, "protocol", {"grpc", "http"}, body.reader());
    backend.protocol = choice == std::size_t{1} ? OtlpProtocol::kHttp : OtlpProtocol::kGrpc;
  }
  ReadEnvironmentUse(body, backend.env);
  set.trace_backends.push_back(std::move(backend));
}

bool LooksLikeCertificates(const std::string& pem) {
  std::size_t at = pem.find(kPemBegin);
  if (at == std::string::npos) {
    return false;
  }
  while (at != std::string::npos) {
    const std::size_t end = pem.find(kPemEnd, at);
    const std::size_t next = pem.find(kPemBegin, at + kPemBegin.size());
    if (end == std::string::npos || next < end) {
      return false;
    }
    at = next;
  }
  return true;
}

base::Result<std::string> ExpandTemplate(const std::string& template_text,
                                         const DataplaneDocument& workload) {
  std::string expanded;
  std::string_view rest = template_text;
  while (!rest.empty()) {
    if (!rest.starts_with("{{")) {
      const std::size_t literal = std::min(rest.find("{{"), rest.size());
      expanded += rest.substr(0, literal);
      rest.remove_prefix(literal);
      continue;
    }
    const auto action = TakeAction(rest);
    const auto value = action ? ActionValue(*action, workload) : std::nullopt;
    if (!value) {
      return base::MakeError(base::ErrorCode::kInvalidArgument,
                             "template \"" + template_text.substr(0, 128) +
                                 "\" has something else than .Mesh, .Zone, .Namespace, "
                                 ".ServiceAccount, .Workload and label \"KEY\"");
    }
    if (value->empty()) {
      return base::MakeError(base::ErrorCode::kInvalidArgument,
                             "template \"" + template_text.substr(0, 128) + "\" needs " +
                                 std::string(*action) + ", which \"" + workload.display_name() +
                                 "\" does not have");
    }
    expanded += *value;
  }
  return expanded;
}

}  // namespace weir::config
