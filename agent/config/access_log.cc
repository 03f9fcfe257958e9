// MeshAccessLog, in the forms of 2.x (`from`, `to`) and 3.0 (`rules`, `to`).
#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/config/document_readers.h"
#include "agent/config/documents.h"
#include "agent/config/fields.h"
#include "agent/model/access_logs.h"

namespace weir::config {
namespace {

constexpr std::size_t kMaxBackends = 16;
constexpr std::size_t kMaxRules = 64;
constexpr std::size_t kMaxMatches = 64;

model::LogText Compile(const Node& node, const std::string& text, const std::string& mesh,
                       const Reader& reader) {
  auto compiled = model::CompileLogText(text, mesh);
  if (!compiled) {
    reader.Error(node, "format: " + compiled.error().message());
    return {};
  }
  for (const std::string& header : compiled->unrecorded) {
    reader.Warn(node,
                "format: weir does not record the header \"" + header + "\", it is always absent");
  }
  return std::move(*compiled);
}

void ReadJson(Fields& fields, const std::string& mesh, model::LogFormat& format) {
  fields.ForEach("json", [&](const Node& item) {
    Fields field(item, "a field", fields.reader());
    (void)field.Require("key");  // its absence is reported here
    (void)field.Require("value");
    auto key = field.String("key").value_or("");
    const auto value = field.String("value").value_or("");
    format.fields.emplace_back(std::move(key), Compile(item, value, mesh, fields.reader()));
    field.Finish();
  });
  if (format.fields.empty() || format.fields.size() > model::kMaxLogFields) {
    fields.ErrorAt("json", "must have 1 to " + std::to_string(model::kMaxLogFields) + " fields");
  }
}

// The `format` of a backend; nothing when it has none.
std::optional<model::LogFormat> ReadFormat(Fields& backend, const std::string& mesh) {
  const Node* node = backend.Take("format");
  if (node == nullptr) {
    return std::nullopt;
  }
  Fields fields(*node, "format", backend.reader());
  model::LogFormat format;
  const Node* type = fields.Require("type");
  const auto choice = type == nullptr
                          ? std::nullopt
                          : ReadChoice(*type, "type", {"Plain", "Json"}, backend.reader());
  format.is_json = choice == std::size_t{1};
  format.omit_empty = fields.Bool("omitEmptyValues").value_or(false);
  if (format.is_json) {
    ReadJson(fields, mesh, format);
  } else if (const Node* plain = fields.Require("plain")) {
    const auto text = ReadString(*plain, "plain", backend.reader());
    format.plain = Compile(*plain, text.value_or(""), mesh, backend.reader());
  }
  fields.Finish();
  return format;
}

model::LogFormat DefaultFormat(std::string_view text, const std::string& mesh) {
  return {.plain = *model::CompileLogText(text, mesh)};
}

void ReadFile(Fields& backend, const std::string& mesh, std::vector<model::LogBackend>& backends) {
  const Node* node = backend.Require("file");
  if (node == nullptr) {
    return;
  }
  Fields file(*node, "file", backend.reader());
  (void)file.Require("path");  // its absence is reported here
  model::LogBackend result{
      .path = file.String("path").value_or(""), .request = {}, .connection = {}};
  if (!result.path.starts_with('/') || result.path.ends_with('/') || result.path.size() > 1024 ||
      result.path.contains('\0') || (result.path + "/").contains("/../")) {
    file.ErrorAt("path", "must be the absolute path of a file, without \"..\"");
  }
  if (auto format = ReadFormat(file, mesh)) {
    result.request = *format;
    result.connection = std::move(*format);
  } else {
    result.request = DefaultFormat(model::kDefaultHttpLogText, mesh);
    result.connection = DefaultFormat(model::kDefaultTcpLogText, mesh);
  }
  file.Finish();
  backends.push_back(std::move(result));
}

// `default: {backends}` of an item.
std::vector<model::LogBackend> ReadBackends(Fields& item, const std::string& mesh) {
  std::vector<model::LogBackend> backends;
  const Node* node = item.Require("default");
  if (node == nullptr) {
    return backends;
  }
  Fields fields(*node, "default", item.reader());
  if (fields.map().Find("backends") == nullptr) {
    (void)fields.Require("backends");
  }
  fields.ForEach("backends", [&](const Node& one) {
    Fields backend(one, "a backend", item.reader());
    const Node* type = backend.Require("type");
    const auto choice =
        type == nullptr
            ? std::nullopt
            : ReadChoice(*type, "type", {"File", "Tcp", "OpenTelemetry"}, item.reader());
    if (choice == std::size_t{0}) {
      ReadFile(backend, mesh, backends);
    } else if (choice) {
      item.reader().Warn(
          one, "a " + type->scalar + " backend is not acted on yet: access logs go to files only");
      backend.Accept({"tcp", "openTelemetry"});
    }
    backend.Finish();
  });
  if (backends.size() > kMaxBackends) {
    fields.ErrorAt("backends", "at most " + std::to_string(kMaxBackends) + " backends");
  }
  fields.Finish();
  return backends;
}

// One alternative of `matches`; nothing when it is not acted on.
std::optional<model::LogMatch> ReadMatch(const Node& node, const Reader& reader) {
  Fields match(node, "a match", reader);
  const bool by_name = match.map().Find("sni") != nullptr;
  match.Accept({"sni"});
  std::optional<model::LogMatch> result;
  if (const Node* id = match.Take("spiffeID")) {
    Fields fields(*id, "spiffeID", reader);
    const Node* type = fields.Require("type");
    const auto choice =
        type == nullptr ? std::nullopt : ReadChoice(*type, "type", {"Exact", "Prefix"}, reader);
    (void)fields.Require("value");  // its absence is reported here
    result = model::LogMatch{.is_prefix = choice == std::size_t{1},
                             .spiffe_id = fields.String("value").value_or("")};
    if (!result->spiffe_id.starts_with("spiffe://")) {
      fields.ErrorAt("value", "must begin with \"spiffe://\"");
    }
    fields.Finish();
  } else if (!by_name) {
    reader.Error(node, "a match must have \"spiffeID\" or \"sni\"");
  }
  if (by_name) {
    reader.Warn(node, "a match by \"sni\" is not acted on: tunnels have none; it matches nobody");
    result.reset();
  }
  match.Finish();
  return result;
}

void ReadRules(Fields& body, const std::string& mesh, AccessLogDocument& document) {
  body.ForEach("rules", [&](const Node& item) {
    Fields fields(item, "an item of rules", body.reader());
    model::LogRule rule;
    std::size_t alternatives = 0;
    fields.ForEach("matches", [&](const Node& node) {
      ++alternatives;
      if (auto match = ReadMatch(node, body.reader())) {
        rule.matches.push_back(std::move(*match));
      }
    });
    if (alternatives > kMaxMatches) {
      fields.ErrorAt("matches", "at most " + std::to_string(kMaxMatches) + " alternatives");
    }
    rule.backends = ReadBackends(fields, mesh);
    fields.Finish();
    // A rule of alternatives that match nobody is not the one for everybody.
    if (alternatives == 0 || !rule.matches.empty()) {
      document.rules.push_back(std::move(rule));
    }
  });
  if (document.rules.size() > kMaxRules) {
    body.ErrorAt("rules", "at most " + std::to_string(kMaxRules) + " rules");
  }
}

// The backends for the kind Mesh in `list` (`from` or `to`); nothing without such an item.
void ReadPeers(Fields& body, std::string_view list, const std::string& mesh,
               std::optional<std::vector<model::LogBackend>>& result) {
  body.ForEach(list, [&](const Node& item) {
    Fields fields(item, "an item of " + std::string(list), body.reader());
    bool is_mesh = true;
    if (const Node* ref = fields.Take("targetRef")) {
      Fields target(*ref, "targetRef", body.reader());
      const Node* kind = target.Require("kind");
      is_mesh = kind != nullptr && kind->scalar == "Mesh";
      if (kind != nullptr && !is_mesh &&
          ReadChoice(*kind, "kind",
                     {"Mesh", "MeshService", "MeshExternalService", "MeshMultiZoneService",
                      "MeshHTTPRoute"},
                     body.reader())) {
        body.reader().Warn(*ref, "weir knows workloads only: this item is not acted on");
      }
      target.Accept({"name", "namespace", "labels", "sectionName"});
      target.Finish();
    }
    auto backends = ReadBackends(fields, mesh);
    if (is_mesh) {
      result = std::move(backends);
    }
    fields.Finish();
  });
}

}  // namespace

void ReadMeshAccessLog(Fields& body, const Envelope& envelope, DocumentSet& set) {
  AccessLogDocument document{
      .policy = {.envelope = envelope, .target = ReadTargetRef(body), .configuration = {}},
      .rules = {},
      .from = {},
      .to = {}};
  const auto has = [&](std::string_view list) { return body.map().Find(list) != nullptr; };
  if (has("rules") && has("from")) {
    body.ErrorAt("rules", "cannot stand beside \"from\"");
  }
  if (!has("rules") && !has("from") && !has("to")) {
    body.reader().Error(body.map(), "MeshAccessLog needs \"rules\", \"to\" or \"from\"");
  }
  if (!document.policy.target.section_name.empty()) {
    body.reader().Warn(body.map(),
                       "\"sectionName\" is not acted on in MeshAccessLog: all inbounds are logged");
  }
  ReadRules(body, envelope.mesh, document);
  ReadPeers(body, "from", envelope.mesh, document.from);
  ReadPeers(body, "to", envelope.mesh, document.to);
  set.access_logs.push_back(std::move(document));
}

model::WorkloadLogs AccessLogsOf(const DocumentSet& documents, const DataplaneDocument& workload) {
  std::vector<const AccessLogDocument*> selected;
  for (const AccessLogDocument& document : documents.access_logs) {
    if (Selects(document.policy, workload)) {
      selected.push_back(&document);
    }
  }
  std::ranges::stable_sort(selected, [](const auto* left, const auto* right) {
    return IsWeaker(left->policy, right->policy);
  });
  model::WorkloadLogs logs;
  const std::vector<model::LogBackend>* from = nullptr;
  const std::vector<model::LogBackend>* to = nullptr;
  for (const AccessLogDocument* document : selected) {
    logs.inbound.insert(logs.inbound.end(), document->rules.begin(), document->rules.end());
    from = document->from ? &*document->from : from;
    to = document->to ? &*document->to : to;
  }
  if (from != nullptr) {
    logs.inbound.push_back({.matches = {}, .backends = *from});
  }
  if (to != nullptr) {
    logs.outbound.push_back({.matches = {}, .backends = *to});
  }
  return logs;
}

void CheckAccessLogs(const DocumentSet& documents, const std::string& directory,
                     Diagnostics& diagnostics) {
  std::set<std::string> paths;
  for (const AccessLogDocument& document : documents.access_logs) {
    const auto check = [&](const std::vector<model::LogBackend>& backends) {
      for (const auto& backend : backends) {
        const std::string& path = backend.path;
        if (path != "/dev/stdout" && path != "/dev/stderr" && path != "/dev/null" &&
            !path.starts_with(directory + "/")) {
          diagnostics.Error(document.policy.envelope.place,
                            "the file \"" + path + "\" must be below " + directory +
                                " (telemetry.accessLogDirectory), /dev/stdout or /dev/stderr");
        }
        if (paths.insert(path).second && paths.size() == model::kMaxLogFiles + 1) {
          diagnostics.Error(document.policy.envelope.place,
                            "at most " + std::to_string(model::kMaxLogFiles) +
                                " files in all MeshAccessLog documents");
        }
      }
    };
    for (const model::LogRule& rule : document.rules) {
      check(rule.backends);
    }
    check(document.from.value_or(std::vector<model::LogBackend>()));
    check(document.to.value_or(std::vector<model::LogBackend>()));
  }
}

}  // namespace weir::config
