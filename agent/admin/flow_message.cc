#include "agent/admin/flow_message.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>

#include "agent/base/utf8.h"
#include "agent/observe/grpc_status.h"
#include "weir/v1/flow.pb.h"

namespace weir::admin {
namespace {

constexpr std::int64_t kNanosPerSecond = 1'000'000'000;

void SetTime(google::protobuf::Timestamp* to, base::WallTime time) {
  const std::int64_t nanos = time.time_since_epoch().count();
  to->set_seconds(nanos / kNanosPerSecond);
  to->set_nanos(static_cast<std::int32_t>(nanos % kNanosPerSecond));
}

double Seconds(base::Nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

// Texts come from peers and may be any bytes; a message holds nothing but UTF-8.
std::string ToUtf8(std::string_view text) {
  std::string scratch;
  return std::string(base::ToUtf8(text, scratch));
}

void SetParty(v1::Party* to, const observe::Party& party) {
  to->set_address(party.endpoint.address.ToString());
  to->set_port(party.endpoint.port);
  if (party.workload != nullptr) {
    to->set_workload(ToUtf8(party.workload->name));
    to->set_namespace_(ToUtf8(party.workload->ns));
    to->set_identity(party.workload->identity.uri());
    to->set_node(ToUtf8(party.workload->node));
  }
}

void SetHttp(v1::HttpExchange* to, const observe::HttpExchange& http) {
  to->set_method(ToUtf8(http.method));
  to->set_host(ToUtf8(http.host));
  to->set_path(ToUtf8(http.path));
  to->set_query_keys(ToUtf8(http.query_keys));
  to->set_user_agent(ToUtf8(http.user_agent));
  to->set_status(http.status);
  to->set_version(http.version_major == 2 ? "2" : "1." + std::to_string(http.version_minor));
  if (http.grpc_status >= 0) {
    to->set_grpc_status(observe::GrpcStatusName(http.grpc_status));
  }
  to->set_request_index(http.request_index);
}

void SetDatabase(v1::DatabaseCall* to, const observe::DatabaseCall& call) {
  to->set_system(std::string(call.system));
  to->set_operation(call.operation);
  to->set_collection(ToUtf8(call.collection));
  to->set_summary(ToUtf8(call.summary));
  to->set_namespace_(ToUtf8(call.name_space));
  to->set_status(call.status);
  if (call.returned_rows >= 0) {
    to->set_returned_rows(call.returned_rows);
  }
  if (call.affected_rows >= 0) {
    to->set_affected_rows(call.affected_rows);
  }
  to->set_batch_size(call.batch_size);
  to->set_error(call.is_error);
  to->set_index(call.index);
}

void SetTiming(v1::Flow& message, const observe::Timing& timing) {
  SetTime(message.mutable_time(), timing.start);
  message.set_duration_seconds(Seconds(timing.total));
  if (timing.tunnel_wait.count() >= 0) {
    message.set_tunnel_wait_seconds(Seconds(timing.tunnel_wait));
  }
  if (timing.upstream_connect.count() >= 0) {
    message.set_upstream_connect_seconds(Seconds(timing.upstream_connect));
  }
  if (timing.first_byte.count() >= 0) {
    message.set_first_byte_seconds(Seconds(timing.first_byte));
    message.set_body_seconds(Seconds(timing.total - timing.first_byte));
  }
}

void SetSecurity(v1::Flow& message, const observe::Flow& flow) {
  message.set_mtls(std::string(observe::ToString(flow.mtls)));
  if (flow.tls_version >= 0x0301 && flow.tls_version <= 0x0304) {  // RFC 8446 section 4.2.1
    message.set_tls_version("1." + std::to_string(flow.tls_version - 0x0301));
  }
  if (flow.peer_certificate_expiry != 0) {
    message.mutable_peer_certificate_expiry()->set_seconds(flow.peer_certificate_expiry);
  }
  message.set_sni(ToUtf8(flow.sni));
}

void SetTrace(v1::Flow& message, const observe::Flow& flow) {
  if (flow.trace_id != observe::TraceId{}) {
    message.set_trace_id(observe::ToHex(flow.trace_id));
    message.set_span_id(observe::ToHex(flow.span_id));
    if (flow.parent_span_id != observe::SpanId{}) {
      message.set_parent_span_id(observe::ToHex(flow.parent_span_id));
    }
  }
  message.set_parent_source(std::string(observe::ToString(flow.parent_source)));
  message.set_sampled(flow.sampled);
}

}  // namespace

v1::Flow ToMessage(const StoredFlow& stored, std::string_view node) {
  const observe::Flow& flow = *stored.flow;
  v1::Flow message;
  message.set_sequence(stored.sequence);
  message.set_node(ToUtf8(node));
  message.set_direction(std::string(observe::ToString(flow.direction)));
  message.set_kind(flow.is_request ? "request" : "connection");
  SetParty(message.mutable_source(), flow.source);
  SetParty(message.mutable_destination(), flow.destination);
  message.set_original_destination(flow.destination.endpoint.ToString());
  message.set_via(ToUtf8(flow.via));
  message.set_protocol(std::string(observe::ToString(flow.protocol)));
  if (flow.http) {
    SetHttp(message.mutable_http(), *flow.http);
  }
  if (flow.database != nullptr) {
    SetDatabase(message.mutable_database(), *flow.database);
  }
  message.set_verdict(std::string(observe::ToString(flow.verdict)));
  message.set_reason(std::string(observe::ToString(flow.reason)));
  message.set_policy(ToUtf8(flow.policy));
  message.set_retries(flow.retries);
  SetSecurity(message, flow);
  SetTiming(message, flow.timing);
  message.set_bytes_sent(flow.bytes_sent);
  message.set_bytes_received(flow.bytes_received);
  SetTrace(message, flow);
  for (const observe::SpanTag& tag : flow.tags) {
    (*message.mutable_tags())[ToUtf8(tag.name)] = ToUtf8(tag.value);
  }
  message.set_connection_id(flow.connection_id);
  message.set_pid(flow.pid);
  message.set_process_name(
      ToUtf8(std::string_view(flow.comm.begin(), std::ranges::find(flow.comm, '\0'))));
  return message;
}

std::string ToJson(const google::protobuf::Message& message, bool with_defaults) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = with_defaults;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(message, &json, options).ok()) {
    return "{}";
  }
  return json;
}

}  // namespace weir::admin
