// Weir's own log: a record in the names of the Elastic Common Schema.
#include <charconv>
#include <chrono>
#include <string>
#include <string_view>

#include "agent/export/access_log_line.h"
#include "agent/export/party_name.h"
#include "agent/observe/database_attributes.h"
#include "agent/observe/error_type.h"
#include "agent/observe/grpc_status.h"

namespace weir::telemetry {
namespace {

using observe::Flow;
using observe::Record;

// Writes one JSON object, field by field.
class Object {
 public:
  explicit Object(std::string& out) : out_(out) {}

  // Nothing is written for an empty text.
  void Text(std::string_view name, std::string_view value) {
    if (!value.empty()) {
      Name(name);
      AppendJsonText(value, out_);
    }
  }
  void Number(std::string_view name, std::uint64_t value) {
    Name(name);
    out_ += std::to_string(value);
  }
  // A part that is JSON already.
  void Raw(std::string_view name, std::string_view value) {
    Name(name);
    out_ += value;
  }
  void End() { out_ += "}\n"; }

 private:
  void Name(std::string_view name) {
    out_ += before_;
    out_ += '"';
    out_ += name;
    out_ += "\":";
    before_ = ',';
  }

  std::string& out_;
  char before_ = '{';
};

std::string PartyText(const observe::Party& party) {
  std::string name;
  AppendPartyName(party, {}, name);
  return name;
}

std::string_view Identity(const observe::Party& party) {
  return party.workload == nullptr ? std::string_view() : party.workload->identity.uri();
}

// What a person reads: "GET back:8080/items/1 200", or the two ends and the reason.
std::string Message(const Flow& flow) {
  std::string text;
  if (flow.database != nullptr) {
    text = flow.database->name();
    text += flow.database->status.empty() ? "" : " " + flow.database->status;
  } else if (flow.http) {
    text = flow.http->method + " " + flow.http->host + flow.http->path + " " +
           (flow.http->status == 0 ? "-" : std::to_string(flow.http->status));
  } else {
    text = flow.source.endpoint.ToString() + " -> " + flow.destination.endpoint.ToString();
  }
  if (flow.reason != observe::Reason::kNone) {
    text += " ";
    text += observe::ToString(flow.reason);
  }
  return text;
}

void AppendEvent(const Record& record, bool is_error, Object& object) {
  const Flow& flow = record.flow;
  std::string time;
  AppendTime(flow.timing.start, {}, time);
  std::string end;
  AppendTime(flow.timing.start + flow.timing.total, {}, end);
  object.Text("@timestamp", time);
  object.Text("log.level", is_error ? "warn" : "info");
  object.Text("message", Message(flow));
  object.Text("ecs.version", "8.11.0");
  object.Text("event.kind", "event");
  object.Raw("event.category", flow.database != nullptr ? R"(["network","database"])"
                               : flow.is_request        ? R"(["network","web"])"
                                                        : R"(["network"])");
  object.Raw("event.type", flow.verdict == observe::Verdict::kDeny ? R"(["connection","denied"])"
                                                                   : R"(["connection","end"])");
  object.Text("event.dataset", "weir.access");
  object.Text("event.outcome", is_error ? "failure" : "success");
  object.Number("event.duration", static_cast<std::uint64_t>(flow.timing.total.count()));
  object.Text("event.end", end);
}

void AppendEnds(const Flow& flow, Object& object) {
  object.Text("source.ip", flow.source.endpoint.address.ToString());
  object.Number("source.port", flow.source.endpoint.port);
  object.Number("source.bytes", flow.bytes_sent);
  object.Text("destination.ip", flow.destination.endpoint.address.ToString());
  object.Number("destination.port", flow.destination.endpoint.port);
  object.Number("destination.bytes", flow.bytes_received);
  object.Text("network.direction",
              flow.direction == observe::Direction::kInbound ? "ingress" : "egress");
  object.Text("network.transport", "tcp");
  object.Text("network.type", flow.destination.endpoint.address.is_v4() ? "ipv4" : "ipv6");
  switch (flow.protocol) {
    case observe::Protocol::kOpaque:
      break;
    case observe::Protocol::kTls:
      object.Text("network.protocol", "tls");
      object.Text("tls.client.server_name", flow.sni);
      break;
    case observe::Protocol::kHttp1:
    case observe::Protocol::kHttp2:
    case observe::Protocol::kGrpc:
      object.Text("network.protocol", "http");
      break;
    case observe::Protocol::kPostgresql:
    case observe::Protocol::kMysql:
    case observe::Protocol::kRedis:
      object.Text("network.protocol", observe::ToString(flow.protocol));
      break;
  }
  if (flow.tls_version == 0x0304) {
    object.Text("tls.version", "1.3");
    object.Text("tls.version_protocol", "tls");
  }
}

void AppendHttp(const Flow& flow, Object& object) {
  if (!flow.http) {
    return;
  }
  const observe::HttpExchange& http = *flow.http;
  object.Text("http.request.method", http.method);
  if (http.status != 0) {
    object.Number("http.response.status_code", http.status);
  }
  if (http.is_grpc && http.grpc_status >= 0) {  // ECS has no name for it: OpenTelemetry's
    object.Text("rpc.response.status_code", observe::GrpcStatusName(http.grpc_status));
  }
  object.Text("http.version", http.version_major == 2   ? "2"
                              : http.version_minor == 0 ? "1.0"
                                                        : "1.1");
  object.Text("url.domain", http.host);
  object.Text("url.path", http.path);
  object.Text("url.query", http.query_keys);
  object.Text("user_agent.original", http.user_agent);
  object.Text("client.ip", http.forwarded_client);
}

// ECS has no names for these: they are OpenTelemetry's.
void AppendDatabase(const Flow& flow, Object& object) {
  if (flow.database == nullptr) {
    return;
  }
  observe::DescribeCall(
      *flow.database,
      [&](std::string_view name, std::string_view value) { object.Text(name, value); },
      [&](std::string_view name, std::int64_t value) {
        object.Number(name, static_cast<std::uint64_t>(value));
      });
}

void AppendOwn(const Record& record, Object& object) {
  const Flow& flow = record.flow;
  if (record.local != nullptr) {
    object.Text("service.name", record.local->resource.service_name);
    object.Text("service.version", record.local->resource.service_version);
    object.Text("service.node.name", record.local->resource.service_instance_id);
  }
  if (flow.pid != 0) {
    object.Number("process.pid", flow.pid);
    const std::string_view comm(flow.comm.data(), flow.comm.size());
    object.Text("process.name", comm.substr(0, comm.find('\0')));
  }
  object.Text("weir.source.workload", PartyText(flow.source));
  object.Text("weir.source.identity", Identity(flow.source));
  object.Text("weir.destination.workload", PartyText(flow.destination));
  object.Text("weir.destination.identity", Identity(flow.destination));
  object.Text("weir.verdict", observe::ToString(flow.verdict));
  object.Text("weir.mtls", observe::ToString(flow.mtls));
  if (flow.reason != observe::Reason::kNone) {
    object.Text("weir.reason", observe::ToString(flow.reason));
  }
  object.Number("weir.connection_id", flow.connection_id);
}

}  // namespace

void AppendEcsLine(const Record& record, std::string_view node, std::string& out) {
  const Flow& flow = record.flow;
  const std::string error =
      observe::ErrorType(flow, flow.direction == observe::Direction::kOutbound);
  Object object(out);
  AppendEvent(record, !error.empty(), object);
  object.Text("error.type", error);
  if (flow.trace_id != observe::TraceId{}) {
    object.Text("trace.id", observe::ToHex(flow.trace_id));
  }
  if (flow.span_id != observe::SpanId{}) {
    object.Text("span.id", observe::ToHex(flow.span_id));
  }
  object.Text("host.name", node);
  AppendEnds(flow, object);
  AppendHttp(flow, object);
  AppendDatabase(flow, object);
  AppendOwn(record, object);
  object.End();
}

}  // namespace weir::telemetry
