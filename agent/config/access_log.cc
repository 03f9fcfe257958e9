// MeshAccessLog, in the forms of 2.x (`from`, `to`) and 3.0 (`rules`, `to`).
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
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

// What files and TCP sinks have in common.
void ReadLineFormat(Fields& fields, const std::string& mesh, model::LogBackend& backend) {
  if (auto format = ReadFormat(fields, mesh)) {
    backend.request = *format;
    backend.connection = std::move(*format);
  } else {
    backend.request = DefaultFormat(model::kDefaultHttpLogText, mesh);
    backend.connection = DefaultFormat(model::kDefaultTcpLogText, mesh);
  }
}

model::LogBackend ReadFile(Fields& backend, const std::string& mesh) {
  model::LogBackend result;
  const Node* node = backend.Require("file");
  if (node == nullptr) {
    return result;
  }
  Fields file(*node, "file", backend.reader());
  (void)file.Require("path");  // its absence is reported here
  result.target = file.String("path").value_or("");
  const std::string& path = result.target;
  if (!path.starts_with('/') || path.ends_with('/') || path.size() > 1024 || path.contains('\0') ||
      (path + "/").contains("/../")) {
    file.ErrorAt("path", "must be the absolute path of a file, without \"..\"");
  }
  ReadLineFormat(file, mesh, result);
  file.Finish();
  return result;
}

model::LogBackend ReadTcp(Fields& backend, const std::string& mesh) {
  model::LogBackend result{.sink = model::LogSink::kTcp, .target = {}};
  const Node* node = backend.Require("tcp");
  if (node == nullptr) {
    return result;
  }
  Fields tcp(*node, "tcp", backend.reader());
  (void)tcp.Require("address");  // its absence is reported here
  const std::string address = tcp.String("address").value_or("");
  const auto at = SplitHostPort(address);
  if (!at || !at->port) {
    tcp.ErrorAt("address", "must be HOST:PORT");
  }
  result.target = "tcp://" + address;
  ReadLineFormat(tcp, mesh, result);
  tcp.Finish();
  return result;
}

// Letters and digits, with single '.' or '_' between them, a letter first.
bool IsAttributeKey(std::string_view key) {
  const auto is_letter = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto is_separator = [](char c) { return c == '.' || c == '_'; };
  if (key.empty() || key.size() > 128 || !is_letter(key.front()) || is_separator(key.back())) {
    return false;
  }
  for (std::size_t i = 1; i < key.size(); ++i) {
    const bool is_digit = key[i] >= '0' && key[i] <= '9';
    if (!is_letter(key[i]) && !is_digit && (!is_separator(key[i]) || is_separator(key[i - 1]))) {
      return false;
    }
  }
  return true;
}

// Reads a value of OTLP's type AnyValue in the form that Protobuf's JSON has, for one body.
class BodyReader {
 public:
  BodyReader(const std::string& mesh, const Reader& reader) : mesh_(mesh), reader_(reader) {}

  // Nesting ends at kMaxLogValueDepth. NOLINTNEXTLINE(misc-no-recursion)
  model::LogValue Read(const Node& node, std::size_t depth) {
    model::LogValue value;
    if (node.kind != NodeKind::kMap || node.entries.size() != 1 ||
        depth > model::kMaxLogValueDepth || ++count_ > model::kMaxLogValues) {
      reader_.Error(node,
                    "a value must be one of stringValue, boolValue, intValue, doubleValue, "
                    "arrayValue and kvlistValue, nested at most " +
                        std::to_string(model::kMaxLogValueDepth) + " deep, at most " +
                        std::to_string(model::kMaxLogValues) + " of them");
      return value;
    }
    Fields fields(node, "a value", reader_);
    ReadScalar(fields, value);
    if (const Node* list = fields.Take("arrayValue")) {
      value.kind = model::LogValue::Kind::kList;
      Fields items(*list, "arrayValue", reader_);
      items.ForEach("values",
                    [&](const Node& item) { value.values.push_back(Read(item, depth + 1)); });
      items.Finish();
    }
    if (const Node* map = fields.Take("kvlistValue")) {
      value.kind = model::LogValue::Kind::kMap;
      Fields items(*map, "kvlistValue", reader_);
      items.ForEach("values", [&](const Node& item) { ReadMember(item, depth, value); });
      items.Finish();
    }
    fields.Finish();
    return value;
  }

 private:
  void ReadScalar(Fields& fields, model::LogValue& value) {
    if (const auto text = fields.String("stringValue")) {
      value.text = Compile(fields.map(), *text, mesh_, reader_);
    }
    if (const auto flag = fields.Bool("boolValue")) {
      value.kind = model::LogValue::Kind::kBool;
      value.flag = *flag;
    }
    if (const Node* number = fields.Take("intValue")) {
      value.kind = model::LogValue::Kind::kInt;
      ReadNumber(*number, value.number);
    }
    if (const Node* number = fields.Take("doubleValue")) {
      value.kind = model::LogValue::Kind::kDouble;
      ReadNumber(*number, value.real);
    }
  }

  template <typename Number>
  void ReadNumber(const Node& node, Number& number) {
    const std::string& text = node.scalar;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (node.kind != NodeKind::kScalar || error != std::errc() ||
        end != text.data() + text.size()) {
      reader_.Error(node, "must be a number");
    }
  }

  // NOLINTNEXTLINE(misc-no-recursion)
  void ReadMember(const Node& item, std::size_t depth, model::LogValue& value) {
    Fields member(item, "an item of values", reader_);
    (void)member.Require("key");  // its absence is reported here
    value.keys.push_back(member.String("key").value_or(""));
    const Node* one = member.Require("value");
    value.values.push_back(one != nullptr ? Read(*one, depth + 1) : model::LogValue());
    member.Finish();
  }

  const std::string& mesh_;
  const Reader& reader_;
  std::size_t count_ = 0;
};

// `body` is a text, or a value of OTLP; without it Kuma's default format is the text.
void ReadBody(Fields& fields, const std::string& mesh, model::LogBackend& backend) {
  const Node* node = fields.Take("body");
  if (node == nullptr) {
    backend.request_body.text = *model::CompileLogText(model::kDefaultHttpLogText, mesh);
    backend.connection_body.text = *model::CompileLogText(model::kDefaultTcpLogText, mesh);
    return;
  }
  if (node->kind == NodeKind::kScalar) {
    backend.request_body.text = Compile(*node, node->scalar, mesh, fields.reader());
  } else {
    backend.request_body = BodyReader(mesh, fields.reader()).Read(*node, /*depth=*/1);
  }
  backend.connection_body = backend.request_body;
}

model::LogBackend ReadOtlp(Fields& backend, AccessLogDocument& document) {
  model::LogBackend result{.sink = model::LogSink::kOtlp, .target = {}};
  const Node* node = backend.Require("openTelemetry");
  if (node == nullptr) {
    return result;
  }
  const std::string& mesh = document.policy.envelope.mesh;
  Fields fields(*node, "openTelemetry", backend.reader());
  OtlpTarget target = ReadOtlpTarget(fields);
  result.target = target.key();
  document.otlp.emplace(result.target, std::move(target));
  fields.ForEach("attributes", [&](const Node& item) {
    Fields attribute(item, "an attribute", backend.reader());
    (void)attribute.Require("key");  // its absence is reported here
    (void)attribute.Require("value");
    const std::string key = attribute.String("key").value_or("");
    if (!IsAttributeKey(key)) {
      attribute.ErrorAt("key", "must be lower-case letters and digits with '.' or '_' between");
    }
    result.attributes.emplace_back(
        key, Compile(item, attribute.String("value").value_or(""), mesh, backend.reader()));
    attribute.Finish();
  });
  if (result.attributes.size() > model::kMaxLogFields) {
    fields.ErrorAt("attributes", "at most " + std::to_string(model::kMaxLogFields) + " attributes");
  }
  ReadBody(fields, mesh, result);
  fields.Finish();
  return result;
}

// `default: {backends}` of an item.
std::vector<model::LogBackend> ReadBackends(Fields& item, AccessLogDocument& document) {
  std::vector<model::LogBackend> backends;
  const Node* node = item.Require("default");
  if (node == nullptr) {
    return backends;
  }
  Fields fields(*node, "default", item.reader());
  if (fields.map().Find("backends") == nullptr) {
    (void)fields.Require("backends");
  }
  const std::string& mesh = document.policy.envelope.mesh;
  fields.ForEach("backends", [&](const Node& one) {
    Fields backend(one, "a backend", item.reader());
    const Node* type = backend.Require("type");
    const auto choice =
        type == nullptr
            ? std::nullopt
            : ReadChoice(*type, "type", {"File", "Tcp", "OpenTelemetry"}, item.reader());
    if (choice == std::size_t{0}) {
      backends.push_back(ReadFile(backend, mesh));
    } else if (choice == std::size_t{1}) {
      backends.push_back(ReadTcp(backend, mesh));
    } else if (choice) {
      backends.push_back(ReadOtlp(backend, document));
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

void ReadRules(Fields& body, AccessLogDocument& document) {
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
    rule.backends = ReadBackends(fields, document);
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
void ReadPeers(Fields& body, std::string_view list, AccessLogDocument& document,
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
    auto backends = ReadBackends(fields, document);
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
      .to = {},
      .otlp = {}};
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
  ReadRules(body, document);
  ReadPeers(body, "from", document, document.from);
  ReadPeers(body, "to", document, document.to);
  set.access_logs.push_back(std::move(document));
}

model::WorkloadLogs AccessLogsOf(const DocumentSet& documents, const DataplaneDocument& workload,
                                 std::vector<TelemetryBackend>& collectors,
                                 Diagnostics& diagnostics) {
  std::vector<const AccessLogDocument*> selected;
  for (const AccessLogDocument& document : documents.access_logs) {
    if (Selects(document.policy, workload)) {
      selected.push_back(&document);
    }
  }
  std::ranges::stable_sort(selected, [](const auto* left, const auto* right) {
    return IsWeaker(left->policy, right->policy);
  });
  // A rule's backends of `document`, those of OTLP by the names of their collectors.
  const auto resolved = [&](const AccessLogDocument& document,
                            std::vector<model::LogBackend> backends) {
    for (model::LogBackend& backend : backends) {
      const auto target = document.otlp.find(backend.target);
      if (backend.sink != model::LogSink::kOtlp || target == document.otlp.end()) {
        continue;
      }
      const Envelope& envelope = document.policy.envelope;
      if (auto collector = ResolveOtlpTarget(documents, envelope, target->second, diagnostics)) {
        backend.target = collector->name;
        (void)NoteBackend(envelope, std::move(*collector), collectors, diagnostics);
      }
    }
    return backends;
  };
  model::WorkloadLogs logs;
  const AccessLogDocument* from = nullptr;
  const AccessLogDocument* to = nullptr;
  for (const AccessLogDocument* document : selected) {
    for (const model::LogRule& rule : document->rules) {
      logs.inbound.push_back(
          {.matches = rule.matches, .backends = resolved(*document, rule.backends)});
    }
    from = document->from ? document : from;
    to = document->to ? document : to;
  }
  if (from != nullptr) {
    logs.inbound.push_back({.matches = {}, .backends = resolved(*from, *from->from)});
  }
  if (to != nullptr) {
    logs.outbound.push_back({.matches = {}, .backends = resolved(*to, *to->to)});
  }
  return logs;
}

void CheckAccessLogs(const DocumentSet& documents, const std::string& directory,
                     Diagnostics& diagnostics) {
  std::set<std::string> paths;
  for (const AccessLogDocument& document : documents.access_logs) {
    const auto check = [&](const std::vector<model::LogBackend>& backends) {
      for (const auto& backend : backends) {
        const std::string& path = backend.target;
        if (backend.sink == model::LogSink::kOtlp) {
          continue;
        }
        if (backend.sink == model::LogSink::kFile && path != "/dev/stdout" &&
            path != "/dev/stderr" && path != "/dev/null" && !path.starts_with(directory + "/")) {
          diagnostics.Error(document.policy.envelope.place,
                            "the file \"" + path + "\" must be below " + directory +
                                " (telemetry.accessLogDirectory), /dev/stdout or /dev/stderr");
        }
        if (paths.insert(path).second && paths.size() == model::kMaxLogFiles + 1) {
          diagnostics.Error(document.policy.envelope.place,
                            "at most " + std::to_string(model::kMaxLogFiles) +
                                " files and TCP addresses in all MeshAccessLog documents");
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
