#include "agent/export/access_log_line.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>

#include "tests/support/records.h"

namespace weir::telemetry {
namespace {

using observe::Record;
using test::MakeRequest;

model::LogFormat Plain(std::string_view text) {
  auto compiled = model::CompileLogText(text, "default");
  EXPECT_TRUE(compiled.has_value()) << text;
  return {.is_json = false, .plain = compiled ? std::move(*compiled) : model::LogText()};
}

std::string Render(std::string_view text, const Record& record) {
  std::string line;
  AppendLogLine(Plain(text), record, "node-a", line);
  EXPECT_TRUE(line.ends_with('\n'));
  line.pop_back();
  return line;
}

// A request with all that a record can have.
Record Full(bool is_client) {
  Record record = MakeRequest(is_client);
  record.flow.tls_version = 0x0304;
  record.flow.bytes_sent = 100;
  record.flow.bytes_received = 2000;
  record.flow.sni = "back.test";
  record.flow.sampled = true;
  record.flow.timing.first_byte = std::chrono::milliseconds(2);
  record.flow.http->forwarded_client = "203.0.113.9";
  record.flow.http->forwarded_host = "shop.test";
  record.flow.http->forwarded_scheme = "https";
  auto workload = std::make_shared<model::Workload>(*record.local->workload);
  workload->labels = {{"kuma.io/zone", "east"}};
  auto local = std::make_shared<model::LocalWorkload>(*record.local);
  local->workload = workload;
  record.local = local;
  return record;
}

TEST(AccessLogLineTest, RendersEachOperator) {
  const Record in = Full(/*is_client=*/false);
  const std::map<std::string, std::string> expected = {
      {"%START_TIME%", "2027-01-15T08:00:00.000Z"},
      {"%START_TIME(%Y/%m/%d %H:%M:%S.%6f %s %%)%", "2027/01/15 08:00:00.000000 1800000000 %"},
      {"%REQ(:METHOD)%", "GET"},
      {"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/items/1"},
      {"%REQ(:AUTHORITY)%", "back:8080"},
      {"%REQ(HOST):4%", "back"},
      {"%REQ(:SCHEME)%", "https"},
      {"%REQ(USER-AGENT)%", "probe/1"},
      {"%REQ(X-FORWARDED-FOR)%", "203.0.113.9"},
      {"%REQ(X-FORWARDED-HOST)%", "shop.test"},
      {"%REQ(X-FORWARDED-PROTO)%", "https"},
      {"%REQ(X-REQUEST-ID)%", "-"},
      {"%REQ(TRACEPARENT)%", "00-00000000000000000000000000000001-0000000000000001-01"},
      {"%REQ(X-B3-TRACEID?X-DATADOG-TRACEID)%", "00000000000000000000000000000001"},
      {"%REQ(X-B3-SPANID)%", "0000000000000001"},
      {"%RESP(:STATUS)%", "200"},
      {"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "2"},
      {"%RESP(SERVER)%", "-"},
      {"%PROTOCOL%", "HTTP/1.1"},
      {"%RESPONSE_CODE%", "200"},
      {"%RESPONSE_CODE_DETAILS%", "via_upstream"},
      {"%RESPONSE_FLAGS%", "-"},
      {"%BYTES_RECEIVED%", "100"},
      {"%BYTES_SENT%", "2000"},
      {"%DURATION%", "3"},
      {"%REQUEST_DURATION%", "-"},
      {"%RESPONSE_DURATION%", "2"},
      {"%UPSTREAM_HOST%", "198.18.0.2:8080"},
      {"%TRACE_ID%", "00000000000000000000000000000001"},
      {"%SPAN_ID%", "0000000000000001"},
      {"%DOWNSTREAM_PEER_URI_SAN%", "spiffe://demo.test/ns/crm/sa/front"},
      {"%DOWNSTREAM_LOCAL_URI_SAN%", "spiffe://demo.test/ns/crm/sa/back"},
      {"%UPSTREAM_PEER_URI_SAN%", "-"},
      {"%DOWNSTREAM_REMOTE_ADDRESS%", "198.18.0.1:40000"},
      {"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "198.18.0.1"},
      {"%DOWNSTREAM_LOCAL_ADDRESS%", "198.18.0.2:8080"},
      {"%REQUESTED_SERVER_NAME%", "back.test"},
      {"%DOWNSTREAM_TLS_VERSION%", "TLSv1.3"},
      {"%CONNECTION_ID%", "7"},
      {"%HOSTNAME%", "node-a"},
      {"%KUMA_SOURCE_ADDRESS%", "198.18.0.1:40000"},
      {"%KUMA_SOURCE_ADDRESS_WITHOUT_PORT%", "198.18.0.1"},
      {"%KUMA_SOURCE_SERVICE%", "crm/front"},
      {"%KUMA_DESTINATION_SERVICE%", "crm/back"},
      {"%KUMA_MESH%", "default"},
      {"%KUMA_TRAFFIC_DIRECTION%", "INBOUND"},
      {"%KUMA_ZONE%", "east"},
      {"%KUMA_WORKLOAD%", "back"},
  };
  for (const auto& [text, value] : expected) {
    EXPECT_EQ(Render(text, in), value) << text;
  }
  const Record out = Full(/*is_client=*/true);
  EXPECT_EQ(
      Render("%UPSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_TLS_VERSION%", out),
      "spiffe://demo.test/ns/crm/sa/back - -");
  EXPECT_EQ(Render("%KUMA_TRAFFIC_DIRECTION% %KUMA_WORKLOAD%", out), "OUTBOUND front");
}

TEST(AccessLogLineTest, RendersAConnectionWithoutWhatItLacks) {
  Record record = MakeRequest(/*is_client=*/true);
  record.flow.http.reset();
  record.flow.is_request = false;
  record.flow.protocol = observe::Protocol::kOpaque;
  record.flow.mtls = observe::MtlsState::kOff;
  record.flow.reason = observe::Reason::kUpstreamRefused;
  record.flow.source.workload.reset();
  record.flow.trace_id = {};
  record.flow.span_id = {};
  record.local.reset();
  EXPECT_EQ(Render("%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "
                   "%REQ(:PATH)% %TRACE_ID% %UPSTREAM_PEER_URI_SAN% %KUMA_SOURCE_SERVICE% "
                   "%KUMA_WORKLOAD% %RESPONSE_DURATION%",
                   record),
            "- 0 UF upstream-refused - - - - - -");
}

TEST(AccessLogLineTest, EscapesWhatPeersSent) {
  Record record = MakeRequest(/*is_client=*/true);
  record.flow.http->user_agent = "a\"b\\c\n1\x7f";
  EXPECT_EQ(Render("\"%REQ(USER-AGENT)%\"", record), R"("a\x22b\x5cc\x0a1\x7f")");
  std::string text;
  AppendJsonText("a\"b\\c\n1\x7f\xff\xc3\xa4", text);
  EXPECT_EQ(text, "\"a\\\"b\\\\c\\u000a1\\u007f\xef\xbf\xbd\xc3\xa4\"");
}

TEST(AccessLogLineTest, CutsValuesAtTheirLimits) {
  Record record = MakeRequest(/*is_client=*/true);
  record.flow.sni = std::string(model::kMaxLogValueBytes, 'a');
  EXPECT_EQ(Render("%REQUESTED_SERVER_NAME%", record).size(), model::kMaxLogValueBytes);
  record.flow.sni += 'b';
  EXPECT_EQ(Render("%REQUESTED_SERVER_NAME%", record), std::string(model::kMaxLogValueBytes, 'a'));
  record.flow.sni = "a\xc3\xa4";
  EXPECT_EQ(Render("%REQUESTED_SERVER_NAME:3%", record), "a\xc3\xa4");
  EXPECT_EQ(Render("%REQUESTED_SERVER_NAME:2%", record), "a");
}

TEST(AccessLogLineTest, KeepsTypesInJson) {
  const auto field = [](std::string name, std::string_view text) {
    return std::pair(std::move(name), *model::CompileLogText(text, "default"));
  };
  model::LogFormat format{
      .is_json = true,
      .fields = {field("id", "%REQ(X-REQUEST-ID)%"), field("code", "%RESPONSE_CODE%"),
                 field("line", "%REQ(:METHOD)% %RESPONSE_FLAGS%"), field("k\"", "fixed")}};
  std::string line;
  const Record record = MakeRequest(/*is_client=*/true);
  AppendLogLine(format, record, "node-a", line);
  EXPECT_EQ(line, R"({"id":null,"code":200,"line":"GET -","k\"":"fixed"})"
                  "\n");
  line.clear();
  format.omit_empty = true;
  AppendLogLine(format, record, "node-a", line);
  EXPECT_EQ(line, R"({"code":200,"line":"GET -","k\"":"fixed"})"
                  "\n");
  line.clear();
  format.fields.resize(1);
  AppendLogLine(format, record, "node-a", line);
  EXPECT_EQ(line, "{}\n");
}

TEST(AccessLogLineTest, WritesWeirsOwnLineInEcsNames) {
  std::string line;
  AppendEcsLine(Full(/*is_client=*/false), "node-a", line);
  EXPECT_EQ(
      line,
      R"({"@timestamp":"2027-01-15T08:00:00.000Z","log.level":"info",)"
      R"("message":"GET back:8080/items/1 200","ecs.version":"8.11.0","event.kind":"event",)"
      R"("event.category":["network","web"],"event.type":["connection","end"],)"
      R"("event.dataset":"weir.access","event.outcome":"success","event.duration":3000000,)"
      R"("event.end":"2027-01-15T08:00:00.003Z",)"
      R"("trace.id":"00000000000000000000000000000001","span.id":"0000000000000001",)"
      R"("host.name":"node-a","source.ip":"198.18.0.1","source.port":40000,"source.bytes":100,)"
      R"("destination.ip":"198.18.0.2","destination.port":8080,"destination.bytes":2000,)"
      R"("network.direction":"ingress","network.transport":"tcp","network.type":"ipv4",)"
      R"("network.protocol":"http","tls.version":"1.3","tls.version_protocol":"tls",)"
      R"("http.request.method":"GET","http.response.status_code":200,"http.version":"1.1",)"
      R"("url.domain":"back:8080","url.path":"/items/1","url.query":"a&b",)"
      R"("user_agent.original":"probe/1","client.ip":"203.0.113.9","service.name":"back",)"
      R"("weir.source.workload":"crm/front",)"
      R"("weir.source.identity":"spiffe://demo.test/ns/crm/sa/front",)"
      R"("weir.destination.workload":"crm/back",)"
      R"("weir.destination.identity":"spiffe://demo.test/ns/crm/sa/back",)"
      R"("weir.verdict":"allow","weir.mtls":"mtls","weir.connection_id":7})"
      "\n");
}

TEST(AccessLogLineTest, SaysInEcsNamesWhatFailed) {
  Record record = MakeRequest(/*is_client=*/true);
  record.flow.verdict = observe::Verdict::kDeny;
  record.flow.reason = observe::Reason::kPlaintextRefused;
  record.flow.http->status = 0;
  std::string line;
  AppendEcsLine(record, "node-a", line);
  for (const std::string_view part :
       {R"("log.level":"warn")", R"("event.outcome":"failure")",
        R"("error.type":"plaintext-refused")", R"("event.type":["connection","denied"])",
        R"("weir.reason":"plaintext-refused")"}) {
    EXPECT_NE(line.find(part), std::string::npos) << part << " in " << line;
  }
  EXPECT_EQ(line.find("status_code"), std::string::npos);
}

TEST(AccessLogLineTest, SaysInItsOwnLineHowACallOfGrpcEnded) {
  Record record = MakeRequest(/*is_client=*/true);
  record.flow.protocol = observe::Protocol::kGrpc;
  record.flow.http->is_grpc = true;
  std::string line;
  AppendEcsLine(record, "node-a", line);
  EXPECT_EQ(line.find("rpc."), std::string::npos) << line;  // none was seen
  record.flow.http->grpc_status = 14;
  line.clear();
  AppendEcsLine(record, "node-a", line);
  for (const std::string_view part :
       {R"("http.response.status_code":200,"rpc.response.status_code":"UNAVAILABLE")",
        R"("error.type":"UNAVAILABLE")", R"("event.outcome":"failure")"}) {
    EXPECT_NE(line.find(part), std::string::npos) << part << " in " << line;
  }
}

TEST(AccessLogLineTest, LogsAGoodHttpConnectionByItsRequests) {
  Record record = MakeRequest(/*is_client=*/true);
  EXPECT_TRUE(IsLogged(record.flow));
  record.flow.is_request = false;
  EXPECT_FALSE(IsLogged(record.flow));
  record.flow.reason = observe::Reason::kUpstreamReset;
  EXPECT_TRUE(IsLogged(record.flow));
  record.flow.reason = observe::Reason::kNone;
  record.flow.protocol = observe::Protocol::kTls;
  EXPECT_TRUE(IsLogged(record.flow));
}

}  // namespace
}  // namespace weir::telemetry
