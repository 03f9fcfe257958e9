#include "agent/export/span_encoder.h"

#include <gtest/gtest.h>
#include <otlp/trace_service.pb.h>

#include <map>
#include <set>
#include <variant>

#include "agent/export/otlp_fields.h"
#include "tests/support/records.h"

namespace weir::telemetry {
namespace {

using observe::Reason;
using observe::Record;
using opentelemetry::proto::collector::trace::v1::ExportTraceServiceRequest;
using opentelemetry::proto::trace::v1::Status;
using ProtoSpan = opentelemetry::proto::trace::v1::Span;
using test::MakeRequest;

using Attributes = std::map<std::string, std::string>;

Attributes ToMap(const auto& list) {
  Attributes map;
  for (const auto& item : list) {
    EXPECT_FALSE(map.contains(item.key())) << item.key() << " is there twice";
    map[item.key()] = item.value().has_int_value() ? std::to_string(item.value().int_value())
                                                   : item.value().string_value();
  }
  return map;
}

ExportTraceServiceRequest Encode(const std::vector<Record>& records) {
  SpanEncoder encoder;
  std::string spans;
  for (const Record& record : records) {
    encoder.AppendSpan(record, spans);
  }
  std::string bytes;
  const std::string_view view = spans;
  AppendResource(records.at(0).local.get(), {&view, 1}, bytes);
  ExportTraceServiceRequest request;
  EXPECT_TRUE(request.ParseFromString(bytes));
  // Nothing unknown, nothing twice: the same bytes again, field by field.
  EXPECT_EQ(request.ByteSizeLong(), bytes.size());
  return request;
}

ProtoSpan EncodeOne(const Record& record) {
  return Encode({record}).resource_spans(0).scope_spans(0).spans(0);
}

TEST(SpanEncoderTest, WritesClientSpanByTheConventions) {
  Record record = MakeRequest(/*is_client=*/true);
  record.span->parent_span_id[0] = 9;
  record.span->trace_state = "a=b";
  record.span->parent_source = observe::ParentSource::kTurn;
  const ProtoSpan span = EncodeOne(record);
  EXPECT_EQ(span.trace_id(), std::string(15, '\0') + "\x01");
  EXPECT_EQ(span.span_id(), std::string(7, '\0') + "\x01");
  EXPECT_EQ(span.parent_span_id(), "\x09" + std::string(7, '\0'));
  EXPECT_EQ(span.trace_state(), "a=b");
  EXPECT_EQ(span.name(), "GET");
  EXPECT_EQ(span.kind(), ProtoSpan::SPAN_KIND_CLIENT);
  EXPECT_EQ(span.start_time_unix_nano(), 1'800'000'000'000'000'000U);
  EXPECT_EQ(span.end_time_unix_nano(), 1'800'000'000'003'000'000U);
  EXPECT_EQ(span.flags(), 0x101U);
  EXPECT_EQ(span.status().code(), Status::STATUS_CODE_UNSET);
  EXPECT_EQ(ToMap(span.attributes()), (Attributes{{"http.request.method", "GET"},
                                                  {"http.response.status_code", "200"},
                                                  {"network.protocol.version", "1.1"},
                                                  {"network.peer.address", "198.18.0.2"},
                                                  {"network.peer.port", "8080"},
                                                  {"server.address", "back"},
                                                  {"server.port", "8080"},
                                                  {"url.full", "http://back:8080/items/1?a&b"},
                                                  {"weir.parent.source", "turn"},
                                                  {"weir.verdict", "allow"},
                                                  {"weir.mtls", "mtls"},
                                                  {"weir.source", "crm/front"},
                                                  {"weir.destination", "crm/back"},
                                                  {"weir.connection.id", "7"}}));
}

Record MakeCommand(const observe::DatabaseCall& call) {
  Record record = MakeRequest(/*is_client=*/true);
  record.flow.http.reset();
  record.flow.protocol = observe::Protocol::kPostgresql;
  record.flow.database = std::make_shared<const observe::DatabaseCall>(call);
  return record;
}

TEST(SpanEncoderTest, WritesCommandsOfDatabasesByTheConventions) {
  const ProtoSpan span = EncodeOne(MakeCommand({.system = "postgresql",
                                                .operation = "INSERT",
                                                .collection = "orders",
                                                .summary = "INSERT orders",
                                                .name_space = "shop",
                                                .status = "23505",
                                                .is_error = true,
                                                .returned_rows = 0,
                                                .affected_rows = 3,
                                                .batch_size = 2}));
  EXPECT_EQ(span.name(), "INSERT orders");
  EXPECT_EQ(span.kind(), ProtoSpan::SPAN_KIND_CLIENT);
  EXPECT_EQ(span.status().code(), Status::STATUS_CODE_ERROR);
  EXPECT_EQ(ToMap(span.attributes()), (Attributes{{"db.system.name", "postgresql"},
                                                  {"db.operation.name", "INSERT"},
                                                  {"db.collection.name", "orders"},
                                                  {"db.query.summary", "INSERT orders"},
                                                  {"db.namespace", "shop"},
                                                  {"db.response.status_code", "23505"},
                                                  {"db.response.returned_rows", "0"},
                                                  {"weir.db.affected_rows", "3"},
                                                  {"db.operation.batch.size", "2"},
                                                  {"error.type", "23505"},
                                                  {"network.peer.address", "198.18.0.2"},
                                                  {"network.peer.port", "8080"},
                                                  {"server.address", "198.18.0.2"},
                                                  {"server.port", "8080"},
                                                  {"weir.parent.source", "none"},
                                                  {"weir.verdict", "allow"},
                                                  {"weir.mtls", "mtls"},
                                                  {"weir.source", "crm/front"},
                                                  {"weir.destination", "crm/back"},
                                                  {"weir.connection.id", "7"}}));
}

TEST(SpanEncoderTest, NamesACommandByWhatIsKnownOfIt) {
  EXPECT_EQ(EncodeOne(MakeCommand({.system = "redis", .operation = "GET"})).name(), "GET");
  const ProtoSpan unknown = EncodeOne(MakeCommand({.system = "mysql", .is_error = true}));
  EXPECT_EQ(unknown.name(), "mysql");
  EXPECT_EQ(ToMap(unknown.attributes())["error.type"], "_OTHER");
  EXPECT_FALSE(ToMap(unknown.attributes()).contains("db.response.returned_rows"));
}

TEST(SpanEncoderTest, WritesConnections) {
  Record record = MakeRequest(/*is_client=*/false);
  record.flow.http.reset();
  record.flow.is_request = false;
  record.flow.protocol = observe::Protocol::kTls;
  record.flow.sni = "db.example";
  record.flow.bytes_sent = 5;
  record.flow.bytes_received = 7;
  record.flow.reason = Reason::kUpstreamReset;
  const ProtoSpan span = EncodeOne(record);
  EXPECT_EQ(span.name(), "connection");
  EXPECT_EQ(ToMap(span.attributes()), (Attributes{{"network.transport", "tcp"},
                                                  {"network.protocol.name", "tls"},
                                                  {"tls.client.server_name", "db.example"},
                                                  {"client.address", "198.18.0.1"},
                                                  {"weir.bytes.sent", "5"},
                                                  {"weir.bytes.received", "7"},
                                                  {"error.type", "upstream-reset"},
                                                  {"network.peer.address", "198.18.0.1"},
                                                  {"network.peer.port", "40000"},
                                                  {"server.address", "198.18.0.2"},
                                                  {"server.port", "8080"},
                                                  {"weir.parent.source", "none"},
                                                  {"weir.verdict", "allow"},
                                                  {"weir.mtls", "mtls"},
                                                  {"weir.reason", "upstream-reset"},
                                                  {"weir.source", "crm/front"},
                                                  {"weir.destination", "crm/back"},
                                                  {"weir.connection.id", "7"}}));
}

TEST(SpanEncoderTest, WritesServerSpanByTheConventions) {
  Record record = MakeRequest(/*is_client=*/false);
  record.span->parent_is_remote = true;
  record.flow.http->version_minor = 0;
  const ProtoSpan span = EncodeOne(record);
  EXPECT_EQ(span.kind(), ProtoSpan::SPAN_KIND_SERVER);
  EXPECT_TRUE(span.parent_span_id().empty());
  EXPECT_EQ(span.flags(), 0x301U);
  EXPECT_EQ(ToMap(span.attributes()), (Attributes{{"http.request.method", "GET"},
                                                  {"http.response.status_code", "200"},
                                                  {"network.protocol.version", "1.0"},
                                                  {"network.peer.address", "198.18.0.1"},
                                                  {"network.peer.port", "40000"},
                                                  {"client.address", "198.18.0.1"},
                                                  {"server.address", "back"},
                                                  {"server.port", "8080"},
                                                  {"url.scheme", "http"},
                                                  {"url.path", "/items/1"},
                                                  {"url.query", "a&b"},
                                                  {"user_agent.original", "probe/1"},
                                                  {"weir.parent.source", "none"},
                                                  {"weir.verdict", "allow"},
                                                  {"weir.mtls", "mtls"},
                                                  {"weir.source", "crm/front"},
                                                  {"weir.destination", "crm/back"},
                                                  {"weir.connection.id", "7"}}));
}

TEST(SpanEncoderTest, WritesTheMomentsThatSplitTheTime) {
  Record record = MakeRequest(/*is_client=*/true);
  record.flow.timing.tunnel_wait = std::chrono::microseconds(300);
  record.flow.timing.upstream_connect = std::chrono::microseconds(700);
  record.flow.timing.first_byte = std::chrono::microseconds(2000);
  const auto events = EncodeOne(record).events();
  ASSERT_EQ(events.size(), 3);
  EXPECT_EQ(events[0].name(), "weir.tunnel.ready");
  EXPECT_EQ(events[0].time_unix_nano(), 1'800'000'000'000'300'000U);
  EXPECT_EQ(events[1].name(), "weir.upstream.connected");
  EXPECT_EQ(events[1].time_unix_nano(), 1'800'000'000'000'700'000U);
  EXPECT_EQ(events[2].name(), "weir.response.first_byte");
  EXPECT_EQ(events[2].time_unix_nano(), 1'800'000'000'002'000'000U);
  record.flow.timing.tunnel_wait = record.flow.timing.upstream_connect = base::Nanoseconds(-1);
  EXPECT_EQ(EncodeOne(record).events().size(), 1);
  record.flow.timing.first_byte = base::Nanoseconds(-1);
  EXPECT_TRUE(EncodeOne(record).events().empty());
}

TEST(SpanEncoderTest, WritesLinksTagsAndWhyAnUnsampledSpanIsThere) {
  Record record = MakeRequest(/*is_client=*/false);
  record.span->trace_flags = 2;
  record.span->sampled_by = observe::SampledBy::kSlow;
  record.span->links = {
      {.trace_id = {1}, .span_id = {2}, .trace_flags = 1, .is_remote = true, .trace_state = "a=b"},
      {.trace_id = {3}, .span_id = {4}}};
  record.span->tags = {{.name = "tenant", .value = "acme"}};
  const ProtoSpan span = EncodeOne(record);
  EXPECT_EQ(span.flags(), 0x102U);
  ASSERT_EQ(span.links_size(), 2);
  EXPECT_EQ(span.links(0).trace_id(), "\x01" + std::string(15, '\0'));
  EXPECT_EQ(span.links(0).span_id(), "\x02" + std::string(7, '\0'));
  EXPECT_EQ(span.links(0).trace_state(), "a=b");
  EXPECT_EQ(span.links(0).flags(), 0x301U);
  EXPECT_EQ(span.links(1).flags(), 0x100U);
  const Attributes attributes = ToMap(span.attributes());
  EXPECT_EQ(attributes.at("tenant"), "acme");
  EXPECT_EQ(attributes.at("weir.sampled.by"), "slow");
}

Record MakeGrpcCall(bool is_client, std::int16_t status) {
  Record record = MakeRequest(is_client);
  record.flow.protocol = observe::Protocol::kGrpc;
  record.flow.http->method = "POST";
  record.flow.http->path = "/shop.Cart/Add";
  record.flow.http->query_keys.clear();
  record.flow.http->version_major = 2;
  record.flow.http->version_minor = 0;
  record.flow.http->is_grpc = true;
  record.flow.http->grpc_status = status;
  return record;
}

TEST(SpanEncoderTest, WritesGrpcSpansByTheirConventions) {
  const ProtoSpan span = EncodeOne(MakeGrpcCall(/*is_client=*/true, 5));
  EXPECT_EQ(span.name(), "shop.Cart/Add");
  EXPECT_EQ(span.status().code(), Status::STATUS_CODE_ERROR);
  EXPECT_EQ(ToMap(span.attributes()), (Attributes{{"rpc.system.name", "grpc"},
                                                  {"rpc.method", "shop.Cart/Add"},
                                                  {"rpc.response.status_code", "NOT_FOUND"},
                                                  {"error.type", "NOT_FOUND"},
                                                  {"network.protocol.version", "2"},
                                                  {"network.peer.address", "198.18.0.2"},
                                                  {"network.peer.port", "8080"},
                                                  {"server.address", "back"},
                                                  {"server.port", "8080"},
                                                  {"weir.parent.source", "none"},
                                                  {"weir.verdict", "allow"},
                                                  {"weir.mtls", "mtls"},
                                                  {"weir.source", "crm/front"},
                                                  {"weir.destination", "crm/back"},
                                                  {"weir.connection.id", "7"}}));
}

// A client takes all but OK for errors, a server only what it is to blame for.
TEST(SpanEncoderTest, JudgesGrpcErrorsByKind) {
  const std::set<std::int16_t> server_errors = {2, 4, 12, 13, 14, 15};
  for (std::int16_t code = 0; code <= 17; ++code) {
    const auto is_error = [&](bool is_client) {
      return EncodeOne(MakeGrpcCall(is_client, code)).status().code() == Status::STATUS_CODE_ERROR;
    };
    EXPECT_EQ(is_error(/*is_client=*/true), code != 0) << code;
    EXPECT_EQ(is_error(/*is_client=*/false), server_errors.contains(code)) << code;
  }
}

TEST(SpanEncoderTest, NamesNoGrpcMethodThatNobodyKnows) {
  Record unknown = MakeGrpcCall(/*is_client=*/false, 12);
  EXPECT_EQ(EncodeOne(unknown).name(), "grpc");
  Attributes attributes = ToMap(EncodeOne(unknown).attributes());
  EXPECT_EQ(attributes["rpc.method"], "_OTHER");
  EXPECT_EQ(attributes["rpc.method_original"], "/shop.Cart/Add");
  for (const char* path : {"", "/", "/a", "/a/", "//b", "/a/b/c", "a/b"}) {
    Record odd = MakeGrpcCall(/*is_client=*/false, 0);
    odd.flow.http->path = path;
    EXPECT_EQ(EncodeOne(odd).name(), "grpc") << path;
  }
}

TEST(SpanEncoderTest, TellsWhatFailedBelowGrpc) {
  Record record = MakeGrpcCall(/*is_client=*/true, -1);
  record.flow.http->status = 503;
  Attributes attributes = ToMap(EncodeOne(record).attributes());
  EXPECT_EQ(attributes["http.response.status_code"], "503");
  EXPECT_EQ(attributes["error.type"], "503");
  EXPECT_FALSE(attributes.contains("rpc.response.status_code"));
}

TEST(SpanEncoderTest, NamesUnknownMethodHttp) {
  Record record = MakeRequest(/*is_client=*/true);
  record.flow.http->method = "get";  // methods are case-sensitive
  const ProtoSpan span = EncodeOne(record);
  EXPECT_EQ(span.name(), "HTTP");
  const Attributes attributes = ToMap(span.attributes());
  EXPECT_EQ(attributes.at("http.request.method"), "_OTHER");
  EXPECT_EQ(attributes.at("http.request.method_original"), "get");
}

TEST(SpanEncoderTest, TakesServerSchemeAndClientOfAServerSpanFromTheProxyBefore) {
  Record record = MakeRequest(/*is_client=*/false);
  record.flow.http->forwarded_host = "shop.test";
  record.flow.http->forwarded_scheme = "https";
  record.flow.http->forwarded_client = "192.0.2.1";
  Attributes attributes = ToMap(EncodeOne(record).attributes());
  EXPECT_EQ(attributes.at("server.address"), "shop.test");
  EXPECT_EQ(attributes.at("server.port"), "443");
  EXPECT_EQ(attributes.at("url.scheme"), "https");
  EXPECT_EQ(attributes.at("client.address"), "192.0.2.1");
  EXPECT_EQ(attributes.at("network.peer.address"), "198.18.0.1");
  record.flow.http->forwarded_host = "shop.test:8443";
  EXPECT_EQ(ToMap(EncodeOne(record).attributes()).at("server.port"), "8443");
  record.flow.http->forwarded_host = "shop.test";
  record.flow.http->forwarded_scheme = "";
  EXPECT_EQ(ToMap(EncodeOne(record).attributes()).at("server.port"), "80");
  // A client's span is about whom it asked.
  record.span->is_client = true;
  attributes = ToMap(EncodeOne(record).attributes());
  EXPECT_EQ(attributes.at("server.address"), "back");
  EXPECT_FALSE(attributes.contains("client.address"));
}

TEST(SpanEncoderTest, TakesServerFromHostOrDestination) {
  struct Case {
    const char* host;
    const char* address;
    const char* port;
    const char* url;
  };
  for (const Case& c :
       {Case{"shop.test", "shop.test", "8080", "http://shop.test/items/1?a&b"},
        Case{"[2001:db8::1]:81", "2001:db8::1", "81", "http://[2001:db8::1]:81/items/1?a&b"},
        Case{"[2001:db8::1]", "2001:db8::1", "8080", "http://[2001:db8::1]/items/1?a&b"},
        Case{"", "198.18.0.2", "8080", "http://198.18.0.2:8080/items/1?a&b"},
        Case{"shop:http", "shop", "8080", "http://shop:http/items/1?a&b"}}) {
    Record record = MakeRequest(/*is_client=*/true);
    record.flow.http->host = c.host;
    const Attributes attributes = ToMap(EncodeOne(record).attributes());
    EXPECT_EQ(attributes.at("server.address"), c.address);
    EXPECT_EQ(attributes.at("server.port"), c.port);
    EXPECT_EQ(attributes.at("url.full"), c.url);
  }
}

TEST(SpanEncoderTest, JudgesErrorsByKind) {
  struct Case {
    std::uint16_t status;
    Reason reason;
    const char* client;
    const char* server;
  };
  for (const Case& c :
       {Case{101, Reason::kNone, "", ""}, Case{302, Reason::kNone, "", ""},
        Case{399, Reason::kNone, "", ""}, Case{400, Reason::kNone, "400", ""},
        Case{499, Reason::kNone, "499", ""}, Case{500, Reason::kNone, "500", "500"},
        Case{403, Reason::kPolicyDenied, "policy-denied", "policy-denied"},
        Case{400, Reason::kBadRequest, "400", ""}, Case{0, Reason::kDownstreamReset, "", ""},
        Case{0, Reason::kUpstreamRefused, "upstream-refused", "upstream-refused"},
        Case{502, Reason::kUpstreamReset, "upstream-reset", "upstream-reset"},
        Case{200, Reason::kUpstreamReset, "upstream-reset", "upstream-reset"}}) {
    for (const bool is_client : {true, false}) {
      Record record = MakeRequest(is_client);
      record.flow.http->status = c.status;
      record.flow.reason = c.reason;
      const ProtoSpan span = EncodeOne(record);
      const Attributes attributes = ToMap(span.attributes());
      const std::string expected = is_client ? c.client : c.server;
      EXPECT_EQ(span.status().code(),
                expected.empty() ? Status::STATUS_CODE_UNSET : Status::STATUS_CODE_ERROR);
      EXPECT_TRUE(span.status().message().empty());
      EXPECT_EQ(attributes.contains("error.type") ? attributes.at("error.type") : "", expected)
          << c.status << observe::ToString(c.reason);
      EXPECT_EQ(attributes.contains("http.response.status_code"), c.status != 0);
    }
  }
}

TEST(SpanEncoderTest, MendsTextThatIsNotUtf8) {
  Record record = MakeRequest(/*is_client=*/false);
  record.flow.http->path = "/caf\xe9";
  record.flow.http->user_agent = "\xff\xfe";
  const Attributes attributes = ToMap(EncodeOne(record).attributes());
  EXPECT_EQ(attributes.at("url.path"), "/caf\xef\xbf\xbd");
  EXPECT_EQ(attributes.at("user_agent.original"), "\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(SpanEncoderTest, KeepsStarOfOptionsOutOfTheUrl) {
  Record record = MakeRequest(/*is_client=*/true);
  record.flow.http->method = "OPTIONS";
  record.flow.http->path = "*";
  record.flow.http->query_keys.clear();
  EXPECT_EQ(ToMap(EncodeOne(record).attributes()).at("url.full"), "http://back:8080");
}

TEST(SpanEncoderTest, WritesResourceScopeAndTags) {
  Record record = MakeRequest(/*is_client=*/true);
  auto local = std::make_shared<model::LocalWorkload>(*record.local);
  local->resource.service_version = "1.2";
  local->resource.service_instance_id = "crm.front-1.app";
  local->resource.attributes = {{"k8s.pod.name", "front-1"}};
  local->trace.literal_tags = {{"team", std::string(200, 'x')}};
  record.local = local;
  const auto request = Encode({record, record});
  ASSERT_EQ(request.resource_spans_size(), 1);
  const auto& spans = request.resource_spans(0);
  EXPECT_EQ(ToMap(spans.resource().attributes()),
            (Attributes{{"service.name", "front"},
                        {"service.namespace", "crm"},
                        {"service.version", "1.2"},
                        {"service.instance.id", "crm.front-1.app"},
                        {"k8s.pod.name", "front-1"}}));
  ASSERT_EQ(spans.scope_spans_size(), 1);
  EXPECT_EQ(spans.scope_spans(0).scope().name(), "weir");
  ASSERT_EQ(spans.scope_spans(0).spans_size(), 2);
  EXPECT_EQ(ToMap(spans.scope_spans(0).spans(1).attributes()).at("team"), std::string(200, 'x'));
}

// Field numbers of the public specification, written down by hand: the generated classes
// share their source with the encoder and could be wrong in the same way.
TEST(SpanEncoderTest, UsesTheFieldNumbersOfTheSpecification) {
  Record record = MakeRequest(/*is_client=*/true);
  record.span->parent_span_id[7] = 2;
  record.span->trace_state = "k=v";
  record.flow.http->status = 500;
  std::string out;
  SpanEncoder().AppendSpan(record, out);
  using namespace std::string_literals;
  EXPECT_EQ(out.at(0), '\x12');  // ScopeSpans.spans = 2, length-delimited
  const std::string core =
      "\x0a\x10"s + std::string(15, '\0') + "\x01"s                 // trace_id = 1
      + "\x12\x08"s + std::string(7, '\0') + "\x01"s                // span_id = 2
      + "\x1a\x03k=v"s                                              // trace_state = 3
      + "\x22\x08"s + std::string(7, '\0') + "\x02"s                // parent_span_id = 4
      + "\x2a\x03GET"s                                              // name = 5
      + "\x30\x03"s                                                 // kind = 6, client
      + "\x39\x00\x00\xb4\x93\x76\xe2\xfa\x18"s                     // start_time_unix_nano = 7
      + "\x41\xc0\xc6\xe1\x93\x76\xe2\xfa\x18"s                     // end_time_unix_nano = 8
      + "\x85\x01\x01\x01\x00\x00"s                                 // flags = 16
      + "\x4a\x1c\x0a\x13http.request.method\x12\x05\x0a\x03GET"s;  // attributes = 9
  EXPECT_EQ(out.substr(3, core.size()), core);
  // An int64 attribute, and the status (15) with its code (3).
  EXPECT_NE(out.find("\x0a\x19http.response.status_code\x12\x03\x18\xf4\x03"s), std::string::npos);
  EXPECT_TRUE(out.ends_with("\x7a\x02\x18\x02"s));
  std::string request;
  const std::string_view nothing;
  AppendResource(nullptr, {&nothing, 1}, request);
  EXPECT_EQ(request,
            "\x0a\x58"                                            // resource_spans = 1
            "\x0a\x23"                                            // resource = 1
            "\x0a\x21"                                            // attributes = 1
            "\x0a\x0cservice.name"                                // key = 1
            "\x12\x11\x0a\x0funknown_service"                     // value = 2, string_value = 1
            "\x12\x31"                                            // scope_spans = 2
            "\x0a\x06\x0a\x04weir"                                // scope = 1, its name = 1
            "\x1a\x27https://opentelemetry.io/schemas/1.44.0"s);  // schema_url = 3
}

}  // namespace
}  // namespace weir::telemetry
