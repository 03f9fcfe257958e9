#include "agent/export/span_encoder.h"

#include <otlp/trace.pb.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "agent/base/check.h"
#include "agent/export/otlp_fields.h"
#include "agent/export/wire.h"
#include "agent/observe/database_attributes.h"
#include "agent/observe/error_type.h"
#include "agent/observe/grpc_status.h"
#include "agent/observe/span_event.h"

namespace weir::telemetry {
namespace {

namespace otlp = opentelemetry::proto;
using observe::Flow;
using observe::HttpExchange;
using observe::Reason;
using observe::Record;
using otlp::trace::v1::ScopeSpans;
using otlp::trace::v1::Status;
using ProtoSpan = otlp::trace::v1::Span;

// Bits of Span.flags above the W3C trace flags: whether the parent is in another process
// is known, and is so.
constexpr std::uint32_t kHasIsRemote = 0x100;
constexpr std::uint32_t kIsRemote = 0x200;

// The methods that http.request.method may show (semantic conventions, HTTP spans).
constexpr std::array<std::string_view, 10> kKnownMethods = {
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"};

bool IsKnownMethod(std::string_view method) {
  return std::ranges::find(kKnownMethods, method) != kKnownMethods.end();
}

// What stands for a method that is not known.
constexpr std::string_view kOther = "_OTHER";
constexpr std::uint16_t kHttpOk = 200;
constexpr std::int16_t kGrpcUnimplemented = 12;

bool IsWholeConnection(const Flow& flow) {
  return !flow.is_request && !flow.http;
}

// "package.Service/Method"; kOther for a path that names none or that the server does not
// know, as anybody can ask for anything.
std::string_view GrpcMethod(const HttpExchange& http) {
  const std::string_view path = http.path;
  const std::string_view name = path.substr(std::min<std::size_t>(path.size(), 1));
  const std::size_t slash = name.find('/');
  const bool named = path.starts_with('/') && slash != std::string_view::npos && slash > 0 &&
                     slash + 1 < name.size() && name.find('/', slash + 1) == std::string_view::npos;
  return named && http.grpc_status != kGrpcUnimplemented ? name : kOther;
}

std::string_view SpanName(const Flow& flow, const HttpExchange& http) {
  if (flow.database != nullptr) {
    return flow.database->name();
  }
  if (IsWholeConnection(flow)) {
    return observe::kConnectionSpanName;
  }
  if (http.is_grpc) {
    const std::string_view method = GrpcMethod(http);
    return method == kOther ? "grpc" : method;
  }
  return IsKnownMethod(http.method) ? std::string_view(http.method) : "HTTP";
}

struct HostPort {
  std::string_view host;
  std::uint16_t port = 0;  // 0: none was named
};

// Splits a Host field; what is no port stays out of it.
HostPort SplitHost(std::string_view text) {
  HostPort result{.host = text};
  const std::size_t colon = text.rfind(':');
  const std::size_t bracket = text.rfind(']');
  const bool is_ipv6 = text.starts_with('[') && bracket != std::string_view::npos;
  if (is_ipv6) {
    result.host = text.substr(1, bracket - 1);
  }
  if (colon == std::string_view::npos || (is_ipv6 && colon < bracket)) {
    return result;
  }
  const std::string_view port = text.substr(colon + 1);
  (void)std::from_chars(port.data(), port.data() + port.size(), result.port);  // 0 if it is none
  if (!is_ipv6) {
    result.host = text.substr(0, colon);
  }
  return result;
}

std::string_view BytesOf(const auto& id) {
  return {reinterpret_cast<const char*>(id.data()), id.size()};
}

std::uint64_t UnixNanoseconds(base::WallTime time) {
  return static_cast<std::uint64_t>(time.time_since_epoch().count());
}

void AppendStatus(bool is_error, std::string& out) {
  if (is_error) {
    wire::AppendLength(ProtoSpan::kStatusFieldNumber, 2, out);
    wire::AppendUnsigned(Status::kCodeFieldNumber, Status::STATUS_CODE_ERROR, out);
  }
}

std::uint32_t SpanFlags(std::uint8_t trace_flags, bool is_remote) {
  return static_cast<std::uint32_t>(trace_flags) | kHasIsRemote | (is_remote ? kIsRemote : 0U);
}

// Where the span stands in its trace, its name, kind and times.
void AppendSpanCore(const Record& record, std::string_view name, std::string& out) {
  const observe::Span& span = *record.span;
  wire::AppendBytes(ProtoSpan::kTraceIdFieldNumber, BytesOf(span.trace_id), out);
  wire::AppendBytes(ProtoSpan::kSpanIdFieldNumber, BytesOf(span.span_id), out);
  if (!span.trace_state.empty()) {
    wire::AppendBytes(ProtoSpan::kTraceStateFieldNumber, span.trace_state, out);
  }
  if (span.parent_span_id != observe::SpanId{}) {
    wire::AppendBytes(ProtoSpan::kParentSpanIdFieldNumber, BytesOf(span.parent_span_id), out);
  }
  wire::AppendBytes(ProtoSpan::kNameFieldNumber, name, out);
  wire::AppendUnsigned(ProtoSpan::kKindFieldNumber,
                       span.is_client ? ProtoSpan::SPAN_KIND_CLIENT : ProtoSpan::SPAN_KIND_SERVER,
                       out);
  const observe::Timing& timing = record.flow.timing;
  wire::AppendFixed(ProtoSpan::kStartTimeUnixNanoFieldNumber, UnixNanoseconds(timing.start), out);
  wire::AppendFixed(ProtoSpan::kEndTimeUnixNanoFieldNumber,
                    UnixNanoseconds(timing.start + timing.total), out);
  wire::AppendFixed(ProtoSpan::kFlagsFieldNumber,
                    SpanFlags(span.trace_flags, span.parent_is_remote), out);
}

void AppendLinks(const std::vector<observe::SpanLink>& links, std::string& out) {
  std::string message;
  for (const observe::SpanLink& link : links) {
    message.clear();
    wire::AppendBytes(ProtoSpan::Link::kTraceIdFieldNumber, BytesOf(link.trace_id), message);
    wire::AppendBytes(ProtoSpan::Link::kSpanIdFieldNumber, BytesOf(link.span_id), message);
    if (!link.trace_state.empty()) {
      wire::AppendBytes(ProtoSpan::Link::kTraceStateFieldNumber, link.trace_state, message);
    }
    wire::AppendFixed(ProtoSpan::Link::kFlagsFieldNumber,
                      SpanFlags(link.trace_flags, link.is_remote), message);
    wire::AppendBytes(ProtoSpan::kLinksFieldNumber, message, out);
  }
}

void AppendEvents(const observe::Timing& timing, std::string& out) {
  constexpr std::size_t kFixed64FieldBytes = 9;
  for (const observe::SpanEvent& event : observe::SpanEvents(timing)) {
    wire::AppendLength(ProtoSpan::kEventsFieldNumber,
                       kFixed64FieldBytes + wire::BytesFieldBytes(event.name.size()), out);
    wire::AppendFixed(ProtoSpan::Event::kTimeUnixNanoFieldNumber,
                      UnixNanoseconds(timing.start + event.after), out);
    wire::AppendBytes(ProtoSpan::Event::kNameFieldNumber, event.name, out);
  }
}

std::string PartyName(const observe::Party& party) {
  return party.workload != nullptr ? party.workload->display_name() : std::string();
}

}  // namespace

void SpanEncoder::Text(std::string_view key, std::string_view value) {
  AppendTextAttribute(ProtoSpan::kAttributesFieldNumber, key, value, body_);
}

void SpanEncoder::Number(std::string_view key, std::int64_t value) {
  AppendIntAttribute(ProtoSpan::kAttributesFieldNumber, key, value, body_);
}

void SpanEncoder::HttpAttributes(const Record& record, const HttpExchange& http) {
  const bool is_known = IsKnownMethod(http.method);
  Text("http.request.method", is_known ? std::string_view(http.method) : kOther);
  if (!is_known) {
    Text("http.request.method_original", http.method);
  }
  if (http.status != 0) {
    Number("http.response.status_code", http.status);
  }
  if (record.span->is_client) {
    ClientAttributes(record, http);
  } else {
    ServerAttributes(record, http);
  }
}

// By the conventions for gRPC spans: the HTTP below is not told, unless it failed itself.
void SpanEncoder::GrpcAttributes(const HttpExchange& http) {
  Text("rpc.system.name", "grpc");
  const std::string_view method = GrpcMethod(http);
  Text("rpc.method", method);
  if (method == kOther) {
    Text("rpc.method_original", http.path);
  }
  if (http.grpc_status >= 0) {
    Text("rpc.response.status_code", observe::GrpcStatusName(http.grpc_status));
  } else if (http.status != 0 && http.status != kHttpOk) {
    Number("http.response.status_code", http.status);
  }
}

void SpanEncoder::DatabaseAttributes(const observe::DatabaseCall& call) {
  observe::DescribeCall(
      call, [this](std::string_view name, std::string_view value) { Text(name, value); },
      [this](std::string_view name, std::int64_t value) { Number(name, value); });
}

void SpanEncoder::ConnectionAttributes(const Record& record) {
  const Flow& flow = record.flow;
  Text("network.transport", "tcp");
  if (flow.protocol != observe::Protocol::kOpaque) {
    Text("network.protocol.name", observe::ToString(flow.protocol));
  }
  if (!flow.sni.empty()) {
    Text("tls.client.server_name", flow.sni);
  }
  if (!record.span->is_client) {
    Text("client.address", flow.source.endpoint.address.ToString());
  }
  Number("weir.bytes.sent", static_cast<std::int64_t>(flow.bytes_sent));
  Number("weir.bytes.received", static_cast<std::int64_t>(flow.bytes_received));
}

// Of what has no name for its server but the address.
void SpanEncoder::PeerAttributes(const Record& record) {
  const base::Endpoint& server = record.flow.destination.endpoint;
  const base::Endpoint& peer = record.span->is_client ? server : record.flow.source.endpoint;
  Text("server.address", server.address.ToString());
  Number("server.port", server.port);
  Text("network.peer.address", peer.address.ToString());
  Number("network.peer.port", peer.port);
}

void SpanEncoder::NetworkAttributes(const Record& record, const HttpExchange& http) {
  if (http.version_major == 2) {
    Text("network.protocol.version", "2");
  } else {
    Text("network.protocol.version", http.version_minor == 0 ? "1.0" : "1.1");
  }
  ServerName(record, http);
  const base::Endpoint& peer =
      record.span->is_client ? record.flow.destination.endpoint : record.flow.source.endpoint;
  const std::string address = peer.address.ToString();
  Text("network.peer.address", address);
  Number("network.peer.port", peer.port);
  if (!record.span->is_client) {
    Text("client.address", http.forwarded_client.empty() ? address : http.forwarded_client);
  }
}

void SpanEncoder::ServerName(const Record& record, const HttpExchange& http) {
  const base::Endpoint& destination = record.flow.destination.endpoint;
  if (!record.span->is_client && !http.forwarded_host.empty()) {
    const HostPort named = SplitHost(http.forwarded_host);
    const int usual = http.forwarded_scheme == "https" ? 443 : 80;
    Text("server.address", named.host);
    Number("server.port", named.port != 0 ? named.port : usual);
    return;
  }
  const HostPort named = SplitHost(http.host);
  if (named.host.empty()) {
    Text("server.address", destination.address.ToString());
  } else {
    Text("server.address", named.host);
  }
  Number("server.port", named.port != 0 ? named.port : destination.port);
}

void SpanEncoder::ClientAttributes(const Record& record, const HttpExchange& http) {
  std::string url = "http://";
  url += http.host.empty() ? record.flow.destination.endpoint.ToString() : http.host;
  if (http.path.starts_with('/')) {  // not the "*" of OPTIONS
    url += http.path;
  }
  if (!http.query_keys.empty()) {
    url += '?';
    url += http.query_keys;
  }
  Text("url.full", url);
}

void SpanEncoder::ServerAttributes(const Record& /*record*/, const HttpExchange& http) {
  Text("url.scheme", http.forwarded_scheme.empty() ? "http" : http.forwarded_scheme);
  Text("url.path", http.path);
  if (!http.query_keys.empty()) {
    Text("url.query", http.query_keys);
  }
  if (!http.user_agent.empty()) {
    Text("user_agent.original", http.user_agent);
  }
}

void SpanEncoder::WeirAttributes(const Record& record) {
  const Flow& flow = record.flow;
  Text("weir.parent.source", observe::ToString(record.span->parent_source));
  if (record.span->sampled_by != observe::SampledBy::kHead) {
    Text("weir.sampled.by", observe::ToString(record.span->sampled_by));
  }
  Text("weir.verdict", observe::ToString(flow.verdict));
  Text("weir.mtls", observe::ToString(flow.mtls));
  if (flow.reason != Reason::kNone) {
    Text("weir.reason", observe::ToString(flow.reason));
  }
  if (const std::string name = PartyName(flow.source); !name.empty()) {
    Text("weir.source", name);
  }
  if (const std::string name = PartyName(flow.destination); !name.empty()) {
    Text("weir.destination", name);
  }
  Number("weir.connection.id", static_cast<std::int64_t>(flow.connection_id));
  if (record.local != nullptr) {
    for (const auto& [key, value] : record.local->trace.literal_tags) {
      Text(key, value);
    }
  }
  for (const observe::SpanTag& tag : record.span->tags) {
    Text(tag.name, tag.value);
  }
}

void SpanEncoder::AppendSpan(const Record& record, std::string& out) {
  WEIR_CHECK(record.span.has_value());
  static const HttpExchange kNoHttp;
  const HttpExchange& http = record.flow.http ? *record.flow.http : kNoHttp;
  body_.clear();
  AppendSpanCore(record, SpanName(record.flow, http), body_);
  if (record.flow.database != nullptr) {
    DatabaseAttributes(*record.flow.database);
    PeerAttributes(record);
  } else if (IsWholeConnection(record.flow)) {
    ConnectionAttributes(record);
    PeerAttributes(record);
  } else {
    if (http.is_grpc) {
      GrpcAttributes(http);
    } else {
      HttpAttributes(record, http);
    }
    NetworkAttributes(record, http);
  }
  const std::string error_type = observe::ErrorType(record.flow, record.span->is_client);
  if (!error_type.empty()) {
    Text("error.type", error_type);
  }
  WeirAttributes(record);
  AppendEvents(record.flow.timing, body_);
  AppendLinks(record.span->links, body_);
  AppendStatus(!error_type.empty(), body_);
  wire::AppendBytes(ScopeSpans::kSpansFieldNumber, body_, out);
}

}  // namespace weir::telemetry
