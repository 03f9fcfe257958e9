#include "agent/export/zipkin.h"

#include <fmt/format.h>
#include <otlp/trace.pb.h>

#include <algorithm>
#include <charconv>

#include "agent/base/check.h"
#include "agent/base/ip.h"
#include "agent/export/otlp_fields.h"

namespace weir::telemetry {
namespace {

namespace otlp = opentelemetry::proto;
using otlp::common::v1::AnyValue;
using otlp::common::v1::KeyValue;
using otlp::trace::v1::Span;
using otlp::trace::v1::Status;

// `text` is UTF-8 already: the encoder has seen to it.
void AppendString(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

// `,"key":"value"`.
void AppendMember(std::string_view key, std::string_view value, std::string& out) {
  out += ',';
  AppendString(key, out);
  out += ':';
  AppendString(value, out);
}

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (const char c : bytes) {
    hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  }
  return hex;
}

std::string ToText(const AnyValue& value) {
  switch (value.value_case()) {
    case AnyValue::kStringValue:
      return value.string_value();
    case AnyValue::kBoolValue:
      return value.bool_value() ? "true" : "false";
    case AnyValue::kIntValue:
      return std::to_string(value.int_value());
    case AnyValue::kDoubleValue:
      return fmt::format("{}", value.double_value());
    case AnyValue::kArrayValue: {
      std::string text;
      for (const AnyValue& item : value.array_value().values()) {
        text += (text.empty() ? "" : ",") + ToText(item);
      }
      return text;
    }
    default:  // weir's spans have no other values; a case for each would bind it to protobuf's
      return "";
  }
}

const AnyValue* Find(const Span& span, std::string_view key) {
  const auto& attributes = span.attributes();
  const auto found =
      std::ranges::find_if(attributes, [&](const KeyValue& one) { return one.key() == key; });
  return found == attributes.end() ? nullptr : &found->value();
}

std::uint64_t Microseconds(std::uint64_t nanoseconds) {
  return nanoseconds / 1000;
}

void AppendRemote(const Span& span, std::string& out) {
  const AnyValue* address = Find(span, "network.peer.address");
  const AnyValue* name =
      Find(span, span.kind() == Span::SPAN_KIND_CLIENT ? "weir.destination" : "weir.source");
  if (address == nullptr && name == nullptr) {
    return;
  }
  out += ",\"remoteEndpoint\":{";
  std::string members;
  if (name != nullptr) {
    AppendMember("serviceName", name->string_value(), members);
  }
  if (address != nullptr) {
    const bool is_v6 = address->string_value().contains(':');
    AppendMember(is_v6 ? "ipv6" : "ipv4", address->string_value(), members);
  }
  if (const AnyValue* port = Find(span, "network.peer.port"); port != nullptr) {
    members += fmt::format(",\"port\":{}", port->int_value());
  }
  out += std::string_view(members).substr(1);  // without the first comma
  out += '}';
}

void AppendTags(const Span& span, std::string& out) {
  out += ",\"tags\":{\"otel.scope.name\":\"weir\"";
  for (const KeyValue& attribute : span.attributes()) {
    AppendMember(attribute.key(), ToText(attribute.value()), out);
  }
  if (span.status().code() == Status::STATUS_CODE_ERROR) {
    AppendMember("otel.status_code", "ERROR", out);
    AppendMember("error", span.status().message(), out);
  }
  out += '}';
}

void AppendAnnotations(const Span& span, std::string& out) {
  if (span.events().empty()) {
    return;
  }
  out += ",\"annotations\":[";
  const char* separator = "";
  for (const Span::Event& event : span.events()) {
    out += fmt::format("{}{{\"timestamp\":{}", separator, Microseconds(event.time_unix_nano()));
    AppendMember("value", event.name(), out);
    out += '}';
    separator = ",";
  }
  out += ']';
}

void AppendSpan(const Span& span, std::string_view service, bool short_trace_ids,
                std::string& out) {
  std::string trace_id = Hex(span.trace_id());
  if (short_trace_ids && trace_id.size() == 32) {
    trace_id.erase(0, 16);
  }
  out += "{\"traceId\":\"" + trace_id + '"';
  AppendMember("id", Hex(span.span_id()), out);
  if (!span.parent_span_id().empty()) {
    AppendMember("parentId", Hex(span.parent_span_id()), out);
  }
  AppendMember("name", span.name(), out);
  if (span.kind() == Span::SPAN_KIND_CLIENT || span.kind() == Span::SPAN_KIND_SERVER) {
    AppendMember("kind", span.kind() == Span::SPAN_KIND_CLIENT ? "CLIENT" : "SERVER", out);
  }
  // Zipkin wants at least 1 us, and takes 0 for "unknown".
  const std::uint64_t start = span.start_time_unix_nano();
  const std::uint64_t end = std::max(start, span.end_time_unix_nano());
  out += fmt::format(",\"timestamp\":{},\"duration\":{}", Microseconds(start),
                     std::max<std::uint64_t>(1, Microseconds(end - start)));
  out += ",\"localEndpoint\":{\"serviceName\":";
  AppendString(service, out);
  out += '}';
  AppendRemote(span, out);
  AppendAnnotations(span, out);
  AppendTags(span, out);
  out += '}';
}

}  // namespace

void AppendZipkinSpans(const model::LocalWorkload* local, std::string_view spans,
                       bool short_trace_ids, std::string& out) {
  otlp::trace::v1::ScopeSpans scope;
  WEIR_CHECK(scope.ParseFromArray(spans.data(), static_cast<int>(spans.size())));
  const std::string service = ServiceName(local);
  for (const Span& span : scope.spans()) {
    if (!out.empty() && out.back() == '}') {
      out += ',';
    }
    AppendSpan(span, service, short_trace_ids, out);
  }
}

}  // namespace weir::telemetry
