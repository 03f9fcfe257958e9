#include "agent/config/documents.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/file.h"
#include "agent/base/ip.h"
#include "agent/config/diagnostic.h"
#include "agent/config/document_readers.h"
#include "agent/config/fields.h"
#include "agent/config/yaml.h"

namespace weir::config {
namespace {

constexpr std::string_view kApiVersion = "kuma.io/v1alpha1";
constexpr std::size_t kMaxLabelKeyBytes = 317;  // prefix 253, '/', name 63

using BodyReader = void (*)(Fields& body, const Envelope& envelope, DocumentSet& set);

// A kind that weir acts on. `flat`: on Universal its fields stand beside `type`, not
// below `spec`.
struct KindRule {
  std::string_view kind;
  BodyReader read;
  bool flat = false;
};

constexpr std::array<KindRule, 10> kActedOn{{
    {.kind = "Dataplane", .read = ReadDataplane, .flat = true},
    {.kind = "Mesh", .read = ReadMesh, .flat = true},
    {.kind = "MeshIdentity", .read = ReadMeshIdentity},
    {.kind = "MeshTrust", .read = ReadMeshTrust},
    {.kind = "MeshTLS", .read = ReadMeshTls},
    {.kind = "MeshTrace", .read = ReadMeshTrace},
    {.kind = "MeshTrafficPermission", .read = ReadMeshTrafficPermission},
    {.kind = "MeshAccessLog", .read = ReadMeshAccessLog},
    {.kind = "MeshMetric", .read = ReadMeshMetric},
    {.kind = "MeshOpenTelemetryBackend", .read = ReadTraceBackend},
}};

// Kuma's other kinds, 2.x and 3.0: valid, without effect here.
constexpr std::array<std::string_view, 51> kNotActedOn{"AccessRole",
                                                       "AccessRoleBinding",
                                                       "CircuitBreaker",
                                                       "Config",
                                                       "ContainerPatch",
                                                       "DataplaneInsight",
                                                       "ExternalService",
                                                       "FaultInjection",
                                                       "GlobalSecret",
                                                       "HealthCheck",
                                                       "HostnameGenerator",
                                                       "MeshCircuitBreaker",
                                                       "MeshExternalService",
                                                       "MeshFaultInjection",
                                                       "MeshGateway",
                                                       "MeshGatewayConfig",
                                                       "MeshGatewayInstance",
                                                       "MeshGatewayRoute",
                                                       "MeshGlobalRateLimit",
                                                       "MeshHTTPRoute",
                                                       "MeshHealthCheck",
                                                       "MeshInsight",
                                                       "MeshLoadBalancingStrategy",
                                                       "MeshMultiZoneService",
                                                       "MeshOPA",
                                                       "MeshPassthrough",
                                                       "MeshProxyPatch",
                                                       "MeshRateLimit",
                                                       "MeshRetry",
                                                       "MeshService",
                                                       "MeshTCPRoute",
                                                       "MeshTimeout",
                                                       "OPAPolicy",
                                                       "ProxyTemplate",
                                                       "RateLimit",
                                                       "Retry",
                                                       "Secret",
                                                       "ServiceInsight",
                                                       "Timeout",
                                                       "TrafficLog",
                                                       "TrafficPermission",
                                                       "TrafficRoute",
                                                       "TrafficTrace",
                                                       "VirtualOutbound",
                                                       "Workload",
                                                       "Zone",
                                                       "ZoneEgress",
                                                       "ZoneEgressInsight",
                                                       "ZoneIngress",
                                                       "ZoneIngressInsight",
                                                       "ZoneInsight"};

// Labels of weir's own; any other below weir.io/ is a spelling mistake.
const std::vector<std::string_view> kWeirLabels{
    "weir.io/node", "weir.io/tunnel", "weir.io/addresses", "weir.io/on-agent-down", "weir.io/mesh"};

bool IsLabelKey(std::string_view key) {
  return !key.empty() && key.size() <= kMaxLabelKeyBytes && std::ranges::all_of(key, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '/';
  });
}

void CheckLabels(const std::map<std::string, std::string>& labels, const Fields& fields,
                 std::string_view field) {
  for (const auto& [key, value] : labels) {
    if (!IsLabelKey(key)) {
      fields.ErrorAt(field, "\"" + key.substr(0, 64) + "\" is not a label's key");
    } else if (key.starts_with("weir.io/") &&
               std::ranges::find(kWeirLabels, key) == kWeirLabels.end()) {
      fields.ErrorAt(field, "unknown label \"" + key + "\"" + DidYouMean(key, kWeirLabels));
    }
    if (value.size() > 1024) {
      fields.ErrorAt(field, "the value of \"" + key.substr(0, 64) + "\" is longer than 1024 bytes");
    }
  }
}

void CheckName(Fields& fields, const Envelope& envelope) {
  (void)fields.Require("name");  // its absence is reported here
  if (!envelope.name.empty() && !IsName(envelope.name)) {
    fields.ErrorAt("name", "must be lower-case letters, digits, '-', '.' and '_'");
  }
}

// metadata of the Kubernetes envelope; what the API server writes into it has no meaning
// in a file and is passed over.
void ReadMetadata(Fields& root, Envelope& envelope) {
  const Node* node = root.Require("metadata");
  if (node == nullptr) {
    return;
  }
  Fields metadata(*node, "metadata", root.reader());
  envelope.name = metadata.String("name").value_or("");
  CheckName(metadata, envelope);
  envelope.ns = metadata.String("namespace").value_or("");
  envelope.labels = metadata.StringMap("labels");
  CheckLabels(envelope.labels, metadata, "labels");
  for (auto& [key, value] : metadata.StringMap("annotations")) {
    if (key.starts_with("weir.io/") || key.starts_with("resource.opentelemetry.io/")) {
      CheckLabels({{key, value}}, metadata, "annotations");
      envelope.labels.emplace(key, value);
    }
  }
  metadata.Accept({"creationTimestamp", "finalizers", "generation", "managedFields",
                   "ownerReferences", "resourceVersion", "selfLink", "uid", "generateName",
                   "deletionTimestamp", "deletionGracePeriodSeconds"});
  metadata.Finish();
  envelope.mesh = envelope.Label("kuma.io/mesh");
}

bool ReadKubernetesEnvelope(Fields& root, Envelope& envelope) {
  envelope.kubernetes = true;
  const auto version = root.String("apiVersion");
  envelope.kind = root.String("kind").value_or("");
  if (version != kApiVersion) {
    root.ErrorAt("apiVersion",
                 "must be " + std::string(kApiVersion) + ": weir reads Kuma's " + "documents only");
    return false;
  }
  ReadMetadata(root, envelope);
  root.Accept({"status"});
  if (auto mesh = root.String("mesh")) {
    envelope.mesh = std::move(*mesh);
  }
  return true;
}

bool ReadUniversalEnvelope(Fields& root, Envelope& envelope) {
  envelope.kind = root.String("type").value_or("");
  envelope.name = root.String("name").value_or("");
  CheckName(root, envelope);
  envelope.mesh = root.String("mesh").value_or("");
  envelope.labels = root.StringMap("labels");
  CheckLabels(envelope.labels, root, "labels");
  root.Accept({"creationTime", "modificationTime", "kri", "status"});
  return true;
}

bool ReadEnvelope(Fields& root, Envelope& envelope) {
  envelope.place = root.reader().At(root.map());
  const bool universal = root.map().Find("type") != nullptr;
  const bool kubernetes =
      root.map().Find("kind") != nullptr || root.map().Find("apiVersion") != nullptr;
  if (universal == kubernetes) {
    root.reader().Error(root.map(), universal
                                        ? "both \"type\" (Universal) and \"kind\" (Kubernetes)"
                                        : "neither \"type\" (Universal) nor \"apiVersion\" and "
                                          "\"kind\" (Kubernetes): not a document of Kuma's");
    return false;
  }
  if (universal ? !ReadUniversalEnvelope(root, envelope)
                : !ReadKubernetesEnvelope(root, envelope)) {
    return false;
  }
  if (envelope.kind == "Mesh") {
    envelope.mesh = envelope.name;
  } else if (envelope.mesh.empty()) {
    envelope.mesh = "default";
  }
  return true;
}

void ReportUnknownKind(const Fields& root, const Envelope& envelope) {
  std::vector<std::string_view> kinds(kNotActedOn.begin(), kNotActedOn.end());
  for (const KindRule& rule : kActedOn) {
    kinds.push_back(rule.kind);
  }
  root.ErrorAt(envelope.kubernetes ? "kind" : "type", "\"" + envelope.kind.substr(0, 64) +
                                                          "\" is not a kind of Kuma's" +
                                                          DidYouMean(envelope.kind, kinds));
}

void WarnNotActedOn(const Envelope& envelope, Diagnostics& diagnostics) {
  std::string text = envelope.kind + " \"" + envelope.display_name() + "\" is not acted on";
  if (envelope.kind == "TrafficPermission") {
    text += ": who may call whom is said by MeshTrafficPermission";
  }
  diagnostics.Warn(envelope.place, std::move(text));
}

// Reads documents one after the other and knows which names were taken.
class SetReader {
 public:
  SetReader(DocumentSet& set, Diagnostics& diagnostics) : set_(set), diagnostics_(diagnostics) {}

  void Read(const Node& document, const std::string& file) {
    const Reader reader{.file = &file, .diagnostics = &diagnostics_};
    Fields root(document, "the document", reader);
    Envelope envelope;
    if (document.kind != NodeKind::kMap || !ReadEnvelope(root, envelope)) {
      return;
    }
    ++set_.document_count;
    CheckUnique(envelope);
    const auto* const rule = std::ranges::find(kActedOn, envelope.kind, &KindRule::kind);
    if (rule != kActedOn.end()) {
      ReadBody(root, envelope, *rule);
    } else if (std::ranges::find(kNotActedOn, envelope.kind) != kNotActedOn.end()) {
      WarnNotActedOn(envelope, diagnostics_);
      // Without `spec` (the older kinds on Universal) the body's fields are not known here.
      if (root.Take("spec") != nullptr) {
        root.Finish();
      }
    } else {
      ReportUnknownKind(root, envelope);
    }
  }

 private:
  void ReadBody(Fields& root, const Envelope& envelope, const KindRule& rule) {
    const Node* spec = root.Take("spec");
    if (spec != nullptr) {
      Fields body(*spec, "spec of " + envelope.kind, root.reader());
      rule.read(body, envelope, set_);
      body.Finish();
    } else if (rule.flat && !envelope.kubernetes) {
      rule.read(root, envelope, set_);
    } else if (rule.kind != "Mesh") {
      root.reader().Error(root.map(), envelope.kind + " has no \"spec\"");
    }
    root.Finish();
  }

  void CheckUnique(const Envelope& envelope) {
    const auto [at, is_new] = places_.emplace(
        std::tuple(envelope.kind, envelope.mesh, envelope.ns, envelope.name), envelope.place);
    if (!is_new) {
      diagnostics_.Error(envelope.place, envelope.kind + " \"" + envelope.display_name() +
                                             "\" of mesh \"" + envelope.mesh + "\" is also at " +
                                             at->second.ToString());
    }
  }

  DocumentSet& set_;
  Diagnostics& diagnostics_;
  std::map<std::tuple<std::string, std::string, std::string, std::string>, Place> places_;
};

// Two workloads at one address are told apart by their inbounds' ports, so these must differ.
void CheckAddresses(const DocumentSet& set, Diagnostics& diagnostics) {
  std::map<std::pair<base::IpAddress, std::uint16_t>, const DataplaneDocument*> owners;
  for (const DataplaneDocument& workload : set.dataplanes) {
    for (const base::IpAddress& address : workload.addresses) {
      for (const DataplaneInbound& inbound : workload.inbounds) {
        const auto [at, is_new] = owners.emplace(std::pair(address, inbound.port), &workload);
        if (is_new || at->second == &workload) {
          continue;
        }
        diagnostics.Error(inbound.place,
                          base::Endpoint{.address = address, .port = inbound.port}.ToString() +
                              " of \"" + workload.display_name() + "\" belongs to \"" +
                              at->second->display_name() + "\" already, at " +
                              at->second->envelope.place.ToString());
      }
    }
  }
}

void CheckMeshes(const DocumentSet& set, Diagnostics& diagnostics) {
  for (const DataplaneDocument& workload : set.dataplanes) {
    if (workload.envelope.mesh != set.dataplanes.front().envelope.mesh) {
      diagnostics.Warn(workload.envelope.place,
                       "workloads of several meshes: weir does not keep meshes apart, all are one "
                       "trust domain");
      return;
    }
  }
}

struct DirectoryCloser {
  void operator()(DIR* directory) const { (void)::closedir(directory); }  // cannot fail usefully
};

std::vector<std::string> ListFiles(const std::string& directory, Diagnostics& diagnostics) {
  const std::unique_ptr<DIR, DirectoryCloser> listing(::opendir(directory.c_str()));
  if (listing == nullptr) {
    const auto error = base::SystemError("open the documents directory");
    diagnostics.Error({.file = directory}, error.error().message());
    return {};
  }
  std::vector<std::string> names;
  errno = 0;
  for (const dirent* entry = ::readdir(listing.get()); entry != nullptr;
       entry = ::readdir(listing.get())) {
    const std::string_view name = entry->d_name;
    struct stat status{};
    if (name.starts_with('.') || !(name.ends_with(".yaml") || name.ends_with(".yml")) ||
        (::stat((directory + "/" + std::string(name)).c_str(), &status) == 0 &&
         S_ISDIR(status.st_mode))) {
      continue;
    }
    if (names.size() >= kMaxFiles) {
      diagnostics.Error({.file = directory}, "more than " + std::to_string(kMaxFiles) + " files");
      break;
    }
    names.emplace_back(name);
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace

std::string Envelope::Label(const std::string& key) const {
  const auto found = labels.find(key);
  return found == labels.end() ? std::string() : found->second;
}

std::string Envelope::display_name() const {
  return ns.empty() ? name : ns + "/" + name;
}

std::string DataplaneDocument::display_name() const {
  return ns.empty() ? envelope.name : ns + "/" + envelope.name;
}

std::vector<SourceFile> ReadDocumentFiles(const std::string& directory, Diagnostics& diagnostics) {
  std::vector<SourceFile> files;
  std::size_t total_bytes = 0;
  for (const std::string& name : ListFiles(directory, diagnostics)) {
    const std::string path = directory + "/" + name;
    auto content = base::ReadFile(path, kMaxFileBytes);
    if (!content) {
      // A file that was removed since the directory was listed is not there: no fault.
      struct stat status{};
      if (::lstat(path.c_str(), &status) == 0) {
        diagnostics.Error({.file = name}, content.error().message());
      }
      continue;
    }
    total_bytes += content->size();
    if (total_bytes > kMaxTotalBytes) {
      diagnostics.Error({.file = name}, "the documents together are larger than " +
                                            std::to_string(kMaxTotalBytes) + " bytes");
      break;
    }
    files.push_back({.name = name, .content = std::move(*content)});
  }
  return files;
}

DocumentSet ParseDocuments(const std::vector<SourceFile>& files, Diagnostics& diagnostics) {
  return DocumentParser().Parse(files, diagnostics);
}

DocumentSet DocumentParser::Parse(const std::vector<SourceFile>& files, Diagnostics& diagnostics) {
  std::map<std::string, ParsedFile> before = std::exchange(parsed_, {});
  DocumentSet set;
  SetReader reader(set, diagnostics);
  for (const SourceFile& file : files) {
    ParsedFile& parsed = parsed_[file.name];
    if (auto known = before.find(file.name);
        known != before.end() && known->second.content == file.content) {
      parsed = std::move(known->second);
    } else {
      parsed.content = file.content;
      parsed.trees = ParseYaml(file.content, file.name, parsed.diagnostics);
    }
    diagnostics.Append(parsed.diagnostics);
    for (const NodePtr& document : parsed.trees) {
      if (set.document_count >= kMaxDocuments) {
        diagnostics.Error({.file = file.name, .line = document->line},
                          "more than " + std::to_string(kMaxDocuments) + " documents");
        return set;
      }
      reader.Read(*document, file.name);
    }
  }
  CheckAddresses(set, diagnostics);
  CheckMeshes(set, diagnostics);
  return set;
}

}  // namespace weir::config
