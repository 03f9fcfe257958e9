#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "agent/client/http_client.h"
#include "agent/config/builder.h"
#include "agent/config/document_readers.h"
#include "agent/config/documents.h"
#include "agent/config/fields.h"
#include "agent/config/target.h"
#include "agent/config/yaml.h"
#include "agent/model/snapshot.h"

namespace weir::config {
namespace {

constexpr std::size_t kMaxTags = 32;
constexpr std::size_t kMaxTagNameBytes = 128;
constexpr std::size_t kMaxTagValueBytes = 256;

// Merges the `default` of every item of a list (`rules` or `from`) into `policy`.
void ReadDefaults(Fields& body, std::string_view list, PolicyDocument& policy) {
  body.ForEach(list, [&](const Node& item) {
    Fields rule(item, "an item of " + std::string(list), body.reader());
    if (list == "from") {
      const TargetRef peer = ReadTargetRef(rule);
      if (peer.kind != TargetKind::kMesh) {
        rule.ErrorAt("targetRef", "only the kind Mesh has a meaning in \"from\"");
      }
    }
    if (rule.Require("default") != nullptr) {
      const auto found = std::ranges::find(item.entries, "default", &MapEntry::key);
      (void)ReadTlsConfiguration(*found->value, body.reader());  // reports what is wrong
      policy.configuration = Merge(policy.configuration, found->value);
    }
    rule.Finish();
  });
}

// A share in percent: a whole number, or a decimal as text.
std::optional<double> ReadPercent(Fields& fields, std::string_view name) {
  const Node* node = fields.Take(name);
  if (node == nullptr) {
    return std::nullopt;
  }
  const std::string& text = node->scalar;
  double value = -1;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (node->kind != NodeKind::kScalar || error != std::errc() || end != text.data() + text.size() ||
      !(value >= 0 && value <= 100)) {
    fields.ErrorAt(name, "must be a number from 0 to 100, or a decimal in quotes");
    return std::nullopt;
  }
  return value;
}

void ReadSampling(Fields& fields, TraceConfiguration& trace) {
  const Node* node = fields.Take("sampling");
  if (node == nullptr) {
    return;
  }
  Fields sampling(*node, "sampling", fields.reader());
  const double overall = ReadPercent(sampling, "overall").value_or(100);
  const double random = ReadPercent(sampling, "random").value_or(100);
  const double client = ReadPercent(sampling, "client").value_or(100);
  // One decision by the same random bits, as with Envoy: a request that asks for a trace and
  // is not taken by the client's share may still be by the random one, and `overall` caps both.
  trace.sample_ratio = std::min(overall, random) / 100;
  trace.client_ratio = std::min(overall, std::max(client, random)) / 100;
  sampling.Finish();
}

// Names of attributes that weir or the conventions own: a tag cannot stand in for them.
bool IsReservedTag(std::string_view name) {
  constexpr std::array<std::string_view, 9> kPrefixes = {
      "http.", "url.", "network.", "server.", "client.", "user_agent.", "rpc.", "db.", "weir."};
  return name == "error.type" || std::ranges::any_of(kPrefixes, [&](std::string_view prefix) {
           return name.starts_with(prefix);
         });
}

std::optional<model::HeaderTag> ReadHeaderTag(Fields& tag, const std::string& name) {
  const Node* node = tag.Take("header");
  if (node == nullptr) {
    return std::nullopt;
  }
  Fields header(*node, "header", tag.reader());
  model::HeaderTag result{.name = name, .header = {}, .fallback = {}};
  (void)header.Require("name");  // its absence is reported here
  result.header = header.String("name").value_or("");
  std::ranges::transform(result.header, result.header.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  });
  if (result.header.size() > kMaxTagNameBytes ||
      result.header.find_first_of(" \t:") != std::string::npos) {
    header.ErrorAt("name", "must be the name of a header");
  }
  result.fallback = header.String("default").value_or("");
  if (result.fallback.size() > kMaxTagValueBytes) {
    header.ErrorAt("default", "must have at most 256 bytes");
  }
  header.Finish();
  return result;
}

void ReadTag(const Node& node, const Reader& reader, TraceConfiguration& trace) {
  Fields tag(node, "a tag", reader);
  (void)tag.Require("name");  // its absence is reported here
  const std::string name = tag.String("name").value_or("");
  const auto literal = tag.String("literal");
  auto header = ReadHeaderTag(tag, name);
  const auto is_named = [&](const auto& named) { return named == name; };
  const bool is_repeated =
      std::ranges::any_of(trace.literal_tags, is_named, [](auto& one) { return one.first; }) ||
      std::ranges::any_of(trace.header_tags, is_named, &model::HeaderTag::name);
  if (literal.has_value() == header.has_value()) {
    reader.Error(node, "a tag must have exactly one of \"literal\" and \"header\"");
  } else if (name.size() > kMaxTagNameBytes || (literal && literal->size() > kMaxTagValueBytes)) {
    reader.Error(node, "a tag's name has at most 128 bytes, its value 256");
  } else if (IsReservedTag(name)) {
    reader.Error(node, "\"" + name + "\" is an attribute that weir writes itself");
  } else if (is_repeated) {
    reader.Error(node, "the tag \"" + name + "\" stands there twice");
  } else if (trace.literal_tags.size() + trace.header_tags.size() >= kMaxTags) {
    reader.Error(node, "at most 32 tags");
  } else if (literal) {
    trace.literal_tags.emplace_back(name, *literal);
  } else {
    trace.header_tags.push_back(std::move(*header));
  }
  tag.Finish();
}

void ReadOpenTelemetry(Fields& backend, TraceConfiguration& trace) {
  const Node* node = backend.Require("openTelemetry");
  if (node == nullptr) {
    return;
  }
  Fields fields(*node, "openTelemetry", backend.reader());
  trace.target = ReadOtlpTarget(fields);
  fields.Finish();
}

void ReadZipkin(Fields& backend, TraceConfiguration& trace) {
  const Node* node = backend.Require("zipkin");
  if (node == nullptr) {
    return;
  }
  Fields fields(*node, "zipkin", backend.reader());
  (void)fields.Require("url");  // its absence is reported here
  const std::string url = fields.String("url").value_or("");
  if (const auto parsed = client::ParseHttpUrl(url); !url.empty() && !parsed) {
    fields.ErrorAt("url", parsed.error().message());
  }
  const bool long_ids = fields.Bool("traceId128bit").value_or(false);
  if (const Node* version = fields.Take("apiVersion")) {
    if (ReadChoice(*version, "apiVersion", {"httpJson", "httpProto"}, backend.reader()) ==
        std::size_t{1}) {
      backend.reader().Warn(*version, "spans are sent as JSON, which Zipkin takes at the same URL");
    }
  }
  if (fields.Bool("sharedSpanContext") == true) {
    backend.reader().Warn(*node,
                          "\"sharedSpanContext\" is not acted on: client and server span have "
                          "ids of their own, as W3C Trace Context demands");
  }
  fields.Finish();
  trace.target.inline_backend = TelemetryBackend{
      .name = url, .kind = BackendKind::kZipkin, .url = url, .short_trace_ids = !long_ids};
}

void ReadBackend(const Node& node, const Reader& reader, TraceConfiguration& trace) {
  Fields backend(node, "a backend", reader);
  const Node* type = backend.Require("type");
  const auto choice =
      type == nullptr ? std::nullopt
                      : ReadChoice(*type, "type", {"OpenTelemetry", "Zipkin", "Datadog"}, reader);
  if (choice == std::size_t{0}) {
    ReadOpenTelemetry(backend, trace);
  } else if (choice == std::size_t{1}) {
    ReadZipkin(backend, trace);
  } else if (choice) {
    reader.Warn(node,
                "a " + type->scalar +
                    " backend is not acted on: spans go to OpenTelemetry collectors and Zipkin");
  }
  backend.Accept({"openTelemetry", "zipkin", "datadog"});
  backend.Finish();
}

void ReadBackends(Fields& fields, TraceConfiguration& trace) {
  std::size_t count = 0;
  const bool given = fields.map().Find("backends") != nullptr;
  fields.ForEach("backends", [&](const Node& item) {
    if (++count == 1) {
      ReadBackend(item, fields.reader(), trace);
    } else {
      fields.reader().Error(item, "at most one backend");
    }
  });
  trace.off = given && count == 0;
}

}  // namespace

void ReadMeshTls(Fields& body, const Envelope& envelope, DocumentSet& set) {
  PolicyDocument policy{.envelope = envelope, .target = ReadTargetRef(body), .configuration = {}};
  if (body.map().Find("rules") != nullptr && body.map().Find("from") != nullptr) {
    body.ErrorAt("from", "cannot stand beside \"rules\"");
  }
  ReadDefaults(body, "rules", policy);
  ReadDefaults(body, "from", policy);
  if (policy.configuration == nullptr) {
    body.reader().Error(body.map(), "MeshTLS needs \"rules\" (or, in the 2.x form, \"from\")");
    return;
  }
  set.tls_policies.push_back(std::move(policy));
}

TlsConfiguration ReadTlsConfiguration(const Node& node, const Reader& reader) {
  TlsConfiguration tls;
  Fields fields(node, "default", reader);
  if (const Node* mode = fields.Take("mode")) {
    if (const auto choice = ReadChoice(*mode, "mode", {"Strict", "Permissive"}, reader)) {
      tls.mode = *choice == 0 ? model::TlsMode::kStrict : model::TlsMode::kPermissive;
    }
  }
  fields.NotActedOn({"tlsVersion", "tlsCiphers"}, "tunnels are TLS 1.3 with its own ciphers");
  fields.Finish();
  return tls;
}

void ReadMeshTrace(Fields& body, const Envelope& envelope, DocumentSet& set) {
  PolicyDocument policy{.envelope = envelope, .target = ReadTargetRef(body), .configuration = {}};
  if (!policy.target.section_name.empty()) {
    body.reader().Warn(body.map(),
                       "\"sectionName\" has no meaning in MeshTrace: the policy is for "
                       "the whole workload");
  }
  if (body.Require("default") == nullptr) {
    return;
  }
  const auto found = std::ranges::find(body.map().entries, "default", &MapEntry::key);
  (void)ReadTraceConfiguration(*found->value, body.reader());  // reports what is wrong
  policy.configuration = found->value;
  set.trace_policies.push_back(std::move(policy));
}

TraceConfiguration ReadTraceConfiguration(const Node& node, const Reader& reader) {
  TraceConfiguration trace;
  Fields fields(node, "default", reader);
  ReadBackends(fields, trace);
  ReadSampling(fields, trace);
  trace.connections = fields.Bool("connectionSpans").value_or(false);
  fields.ForEach("tags", [&](const Node& item) { ReadTag(item, reader, trace); });
  fields.Finish();
  return trace;
}

}  // namespace weir::config
