#include "agent/cli/flow_otlp.h"

#include <boost/json.hpp>
#include <chrono>
#include <cmath>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/cli/text.h"
#include "weir/v1/flow.pb.h"

namespace weir::cli {
namespace {

namespace json = boost::json;

// OTLP's JSON has 64-bit numbers as strings (protobuf's mapping) and ids in hexadecimal.
class Attributes {
 public:
  void Text(std::string_view key, std::string_view value) {
    if (!value.empty()) {
      Add(key, {{"stringValue", value}});
    }
  }
  void Number(std::string_view key, std::uint64_t value) {
    Add(key, {{"intValue", std::to_string(value)}});
  }
  void Seconds(std::string_view key, double value) { Add(key, {{"doubleValue", value}}); }
  [[nodiscard]] json::array Take() { return std::move(all_); }

 private:
  void Add(std::string_view key, json::object value) {
    all_.push_back(json::object{{"key", key}, {"value", std::move(value)}});
  }
  json::array all_;
};

std::string NameOf(const v1::Party& party) {
  const std::string slash = party.namespace_().empty() ? "" : party.namespace_() + "/";
  return party.workload().empty() ? "" : slash + party.workload();
}

void AddHttp(const v1::HttpExchange& http, Attributes& to) {
  to.Text("http.request.method", http.method());
  to.Text("server.address", http.host());
  to.Text("url.path", http.path());
  to.Text("url.query", http.query_keys());
  to.Text("user_agent.original", http.user_agent());
  to.Text("network.protocol.version", http.version());
  to.Text("rpc.response.status_code", http.grpc_status());
  if (http.status() != 0) {
    to.Number("http.response.status_code", http.status());
  }
}

void AddDatabase(const v1::DatabaseCall& call, Attributes& to) {
  to.Text("db.system.name", call.system());
  to.Text("db.operation.name", call.operation());
  to.Text("db.collection.name", call.collection());
  to.Text("db.query.summary", call.summary());
  to.Text("db.namespace", call.namespace_());
  to.Text("db.response.status_code", call.status());
  if (call.has_returned_rows()) {
    to.Number("db.response.returned_rows", static_cast<std::uint64_t>(call.returned_rows()));
  }
  if (call.has_affected_rows()) {
    to.Number("weir.db.affected_rows", static_cast<std::uint64_t>(call.affected_rows()));
  }
}

void AddTimes(const v1::Flow& flow, Attributes& to) {
  to.Seconds("weir.duration", flow.duration_seconds());
  if (flow.has_tunnel_wait_seconds()) {
    to.Seconds("weir.tunnel.wait", flow.tunnel_wait_seconds());
  }
  if (flow.has_upstream_connect_seconds()) {
    to.Seconds("weir.upstream.connect", flow.upstream_connect_seconds());
  }
  if (flow.has_first_byte_seconds()) {
    to.Seconds("weir.response.first_byte", flow.first_byte_seconds());
  }
}

json::array AttributesOf(const v1::Flow& flow) {
  Attributes to;
  to.Text("weir.kind", flow.kind());
  to.Text("network.io.direction", flow.direction() == "in" ? "receive" : "transmit");
  to.Text("source.address", flow.source().address());
  to.Number("source.port", flow.source().port());
  to.Text("destination.address", flow.destination().address());
  to.Number("destination.port", flow.destination().port());
  to.Text("weir.source", NameOf(flow.source()));
  to.Text("weir.source.identity", flow.source().identity());
  to.Text("weir.destination", NameOf(flow.destination()));
  to.Text("weir.destination.identity", flow.destination().identity());
  to.Text("weir.protocol", flow.protocol());
  to.Text("weir.verdict", flow.verdict());
  to.Text("weir.reason", flow.reason() == "none" ? "" : flow.reason());
  to.Text("weir.policy", flow.policy());
  to.Text("weir.mtls", flow.mtls());
  to.Text("weir.via", flow.via());
  to.Text("weir.parent.source", flow.trace_id().empty() ? "" : flow.parent_source());
  to.Text("tls.protocol.version", flow.tls_version());
  to.Text("process.executable.name", flow.process_name());
  if (flow.has_http()) {
    AddHttp(flow.http(), to);
  }
  if (flow.has_database()) {
    AddDatabase(flow.database(), to);
  }
  AddTimes(flow, to);
  to.Number("weir.bytes.sent", flow.bytes_sent());
  to.Number("weir.bytes.received", flow.bytes_received());
  to.Number("weir.connection.id", flow.connection_id());
  if (flow.pid() != 0) {
    to.Number("process.pid", flow.pid());
  }
  for (const auto& [name, value] : flow.tags()) {
    to.Text(name, value);
  }
  return to.Take();
}

// OTLP, "Severity fields": INFO is 9, WARN 13, ERROR 17.
void AddSeverity(const v1::Flow& flow, json::object& record) {
  const bool is_error = flow.verdict() == "error" || flow.http().status() >= 500;
  const bool is_warning = flow.verdict() == "deny" || flow.http().status() >= 400;
  record["severityNumber"] = is_error ? 17 : is_warning ? 13 : 9;
  record["severityText"] = is_error ? "ERROR" : is_warning ? "WARN" : "INFO";
}

}  // namespace

std::string ToOtlp(const v1::Flow& flow) {
  const auto end =
      ToWallTime(flow.time()) + std::chrono::duration_cast<base::Nanoseconds>(
                                    std::chrono::duration<double>(flow.duration_seconds()));
  json::object record;
  record["timeUnixNano"] = std::to_string(end.time_since_epoch().count());
  AddSeverity(flow, record);
  const std::string what =
      flow.has_http() ? flow.http().method() + " " + flow.http().path() : flow.protocol();
  record["eventName"] = "weir.flow";
  record["body"] = json::object{{"stringValue", flow.direction() + " " + what}};
  record["attributes"] = AttributesOf(flow);
  if (!flow.trace_id().empty()) {
    record["traceId"] = flow.trace_id();
    record["spanId"] = flow.span_id();
    record["flags"] = flow.sampled() ? 1 : 0;
  }
  Attributes resource;
  resource.Text("service.name", "weir");
  resource.Text("host.name", flow.node());
  const json::object scope{{"scope", json::object{{"name", "weir"}}},
                           {"logRecords", json::array{std::move(record)}}};
  return json::serialize(json::object{
      {"resourceLogs",
       json::array{json::object{{"resource", json::object{{"attributes", resource.Take()}}},
                                {"scopeLogs", json::array{scope}}}}}});
}

}  // namespace weir::cli
