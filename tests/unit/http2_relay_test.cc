// Http2Relay: traces and reports of streams, and the way there from HTTP/1.1.
#include "agent/proxy/http2_relay.h"

#include <gtest/gtest.h>

#include "tests/support/http1_relay_rig.h"
#include "tests/support/http2_relay_rig.h"

namespace weir::test {
namespace {

using http::H2FrameType;
using http::kH2FlagEndHeaders;
using http::kH2FlagEndStream;
using observe::ExchangeResult;
using observe::Reason;
using proxy::HttpRelay;
using Role = Http2RelayRig::Role;

constexpr std::uint8_t kWhole = kH2FlagEndHeaders | kH2FlagEndStream;
constexpr std::string_view kParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

std::vector<http::H2Field> With(std::vector<http::H2Field> fields, std::string_view name,
                                std::string_view value) {
  fields.push_back({.name = name, .value = value});
  return fields;
}

std::vector<http::H2Field> GrpcCall() {
  return {{":method", "POST"},
          {":scheme", "http"},
          {":path", "/shop.Cart/Add"},
          {":authority", "cart:80"},
          {"content-type", "application/grpc+proto"},
          {"te", "trailers"}};
}
const std::vector<http::H2Field> kGrpcHead = {{":status", "200"},
                                              {"content-type", "application/grpc"}};

TEST(Http2RelayTest, ReplacesTheTraceHeadersOfARequest) {
  Http2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(
      1, With(With(RequestFields("/a?k=v"), "traceparent", kParent), "tracestate", "x=y"), kWhole));
  rig.Server(Wire().Headers(1, {{":status", "200"}}, kWhole));
  ASSERT_EQ(rig.exchanges.size(), 1U);
  const ExchangeResult& exchange = rig.exchanges[0];
  EXPECT_EQ(observe::ToHex(exchange.trace_id), "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(observe::ToHex(exchange.parent_span_id), "b7ad6b7169203331");
  EXPECT_EQ(exchange.parent_source, observe::ParentSource::kHeader);
  EXPECT_EQ(rig.to_server.Lists()[0],
            "1 END :method=GET :scheme=http :path=/a?k=v :authority=back:80 traceparent=00-" +
                observe::ToHex(exchange.trace_id) + "-" + observe::ToHex(exchange.client_span_id) +
                "-01! tracestate=x=y!");
  EXPECT_EQ(exchange.http.method, "GET");
  EXPECT_EQ(exchange.http.host, "back:80");
  EXPECT_EQ(exchange.http.path, "/a");
  EXPECT_EQ(exchange.http.query_keys, "k");
  EXPECT_EQ(exchange.http.status, 200);
  EXPECT_EQ(exchange.http.version_major, 2);
  EXPECT_FALSE(exchange.http.is_grpc);
  EXPECT_EQ(exchange.reason, Reason::kNone);
}

TEST(Http2RelayTest, BeginsATraceWhereNoneCame) {
  Http2RelayRig rig(Role::kJoined);
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields(), kWhole).Headers(3, RequestFields(), kWhole));
  rig.Server(
      Wire().Headers(3, {{":status", "204"}}, kWhole).Headers(1, {{":status", "200"}}, kWhole));
  ASSERT_EQ(rig.exchanges.size(), 2U);
  EXPECT_NE(rig.exchanges[0].trace_id, rig.exchanges[1].trace_id);
  EXPECT_EQ(rig.exchanges[0].http.request_index, 1U);  // the second that came
  for (const ExchangeResult& exchange : rig.exchanges) {
    const std::string expected = "traceparent=00-" + observe::ToHex(exchange.trace_id) + "-" +
                                 observe::ToHex(exchange.server_span_id);
    const auto lists = rig.to_server.Lists();
    EXPECT_TRUE(std::ranges::any_of(
        lists, [&](const std::string& list) { return list.find(expected) != std::string::npos; }));
  }
}

TEST(Http2RelayTest, TouchesNoTraceHeaderWithoutSpans) {
  Http2RelayRig rig(Role::kPlain);
  rig.Begin();
  rig.Client(Wire().Headers(1, With(RequestFields(), "traceparent", kParent), kWhole));
  EXPECT_TRUE(rig.to_server.Lists()[0].ends_with(" traceparent=" + std::string(kParent)));
}

TEST(Http2RelayTest, ReadsAGrpcStatusFromTrailers) {
  Http2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, GrpcCall()).Data(1, std::string(5, '\0'), kH2FlagEndStream));
  rig.clock.Advance(std::chrono::milliseconds(3));
  rig.Server(Wire().Headers(1, kGrpcHead).Data(1, std::string(5, '\0')));
  rig.clock.Advance(std::chrono::milliseconds(4));
  rig.Server(Wire().Headers(1, {{"grpc-status", "14"}, {"grpc-message", "later"}}, kWhole));
  ASSERT_EQ(rig.exchanges.size(), 1U);
  EXPECT_TRUE(rig.exchanges[0].http.is_grpc);
  EXPECT_EQ(rig.exchanges[0].http.grpc_status, 14);
  EXPECT_EQ(rig.exchanges[0].http.status, 200);
  EXPECT_EQ(rig.exchanges[0].timing.first_byte, std::chrono::milliseconds(3));
  EXPECT_EQ(rig.exchanges[0].timing.total, std::chrono::milliseconds(7));
  EXPECT_EQ(rig.exchanges[0].reason, Reason::kNone);
}

TEST(Http2RelayTest, ReadsAGrpcStatusFromAnAnswerOfTrailersOnly) {
  Http2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, GrpcCall(), kWhole).Headers(3, GrpcCall(), kWhole));
  rig.Server(Wire()
                 .Headers(1, With(kGrpcHead, "grpc-status", "12"), kWhole)
                 .Headers(3, With(kGrpcHead, "grpc-status", "sorry"), kWhole));
  ASSERT_EQ(rig.exchanges.size(), 2U);
  EXPECT_EQ(rig.exchanges[0].http.grpc_status, 12);
  EXPECT_EQ(rig.exchanges[1].http.grpc_status, -1);
}

TEST(Http2RelayTest, ReportsEachStreamOnceHoweverItEnds) {
  Http2RelayRig rig({}, {.max_header_bytes = 400, .max_streams = 4});
  rig.Begin();
  const std::string large(400, 'x');
  rig.Client(Wire()
                 .Headers(1, RequestFields("/client-reset"))
                 .Headers(3, RequestFields("/server-reset"))
                 .Headers(5, RequestFields("/bad-answer"))
                 .Headers(7, With(RequestFields("/bad"), "connection", "x"), kWhole)
                 .Headers(9, With(RequestFields("/large"), "x", large), kWhole)
                 .Headers(11, RequestFields("/open"))
                 .Headers(13, RequestFields("/refused"), kWhole)
                 .Rst(1));
  rig.Server(Wire().Rst(3, http::H2Error::kInternalError).Headers(5, {{":status", "1"}}));
  rig.relay->Finish(Reason::kNone);
  rig.relay->Finish(Reason::kInternal);
  std::map<std::string, Reason> ends;
  for (const ExchangeResult& exchange : rig.exchanges) {
    EXPECT_TRUE(ends.emplace(exchange.http.path, exchange.reason).second);
  }
  EXPECT_EQ(ends, (std::map<std::string, Reason>{{"/client-reset", Reason::kDownstreamReset},
                                                 {"/server-reset", Reason::kUpstreamReset},
                                                 {"/bad-answer", Reason::kBadResponse},
                                                 {"/bad", Reason::kBadRequest},
                                                 {"", Reason::kHeadersTooLarge},
                                                 {"/open", Reason::kDownstreamReset},
                                                 {"/refused", Reason::kLimitReached}}));
}

TEST(Http2RelayTest, RefusesStreamsWhoseTextsWouldTakeTooMuch) {
  Http2RelayRig rig;
  rig.Begin();
  const std::string path = "/" + std::string(2000, 'p');
  Wire wire;
  for (std::uint32_t id = 1; id < 2 * 600; id += 2) {
    wire.Headers(id, With(RequestFields(path + "?" + path), "user-agent", path));
  }
  rig.Client(wire);
  std::size_t refused = 0;
  for (const ExchangeResult& exchange : rig.exchanges) {
    refused += exchange.reason == Reason::kLimitReached ? 1 : 0;
  }
  const std::size_t open = 600 - refused;
  EXPECT_GT(refused, 0U);
  EXPECT_LT(open * (1024 + 1024 + 256), Http2RelayRig::Relay::kMaxOpenTextBytes + 4096);
}

TEST(Http2RelayTest, ClosesWithAReasonWhenAnEndBreaksTheProtocol) {
  Http2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields()));
  const HttpRelay::Result result = rig.Client(Wire().Data(3, "idle"));
  EXPECT_EQ(result.action, HttpRelay::Action::kClose);
  EXPECT_EQ(result.reason, Reason::kHttp2Protocol);
  EXPECT_EQ(rig.relay->violation(), http::H2Violation::kBadStreamId);
  rig.relay->Finish(result.reason);
  ASSERT_EQ(rig.exchanges.size(), 1U);
  EXPECT_EQ(rig.exchanges[0].reason, Reason::kHttp2Protocol);
}

TEST(Http2RelayTest, ClosesWhenAHeaderBlockTakesTooLong) {
  Http2RelayRig rig;
  EXPECT_TRUE(rig.relay->waiting_for_headers());  // for the client's SETTINGS
  rig.Begin();
  EXPECT_FALSE(rig.relay->waiting_for_headers());
  rig.clock.Advance(std::chrono::seconds(5));
  rig.Client(Wire().Frame(H2FrameType::kHeaders, 0, 1, ""));
  EXPECT_TRUE(rig.relay->waiting_for_headers());
  EXPECT_EQ(rig.relay->head_began(), rig.clock.Now());
  const HttpRelay::Result result = rig.relay->OnHeaderTimeout(rig.out());
  rig.Take();
  EXPECT_EQ(result.action, HttpRelay::Action::kClose);
  EXPECT_EQ(result.reason, Reason::kHeaderTimeout);
  EXPECT_EQ(rig.to_client.frames().back().header.type, H2FrameType::kGoAway);
}

// ---- Upgrade: h2c ----

std::string Offer(std::string_view settings) {
  return "GET /up HTTP/1.1\r\nHost: back:80\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
         "h2c\r\nHTTP2-Settings: " +
         std::string(settings) + "\r\n\r\n";
}
constexpr std::string_view kSwitch =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

TEST(H2cUpgradeTest, GoesOnInHttp2WithTheRequestAsStreamOne) {
  Http1RelayRig before(Http1RelayRig::Role::kClient);
  before.Downstream(Offer("AAQAAP__AAEAAQAA"));  // a window of 65,535, a table of 65,536
  EXPECT_NE(before.upstream().find("HTTP2-Settings: AAQAAP__AAEAAQAAAAIAAAAA\r\n"),
            std::string::npos)
      << before.upstream();  // and ENABLE_PUSH 0
  EXPECT_NE(before.upstream().find("traceparent: "), std::string::npos);
  const std::string answer = std::string(kSwitch) + "frames";  // `rest` dies with it
  const HttpRelay::Result result = before.Upstream(answer);
  EXPECT_EQ(result.action, HttpRelay::Action::kHttp2);
  EXPECT_EQ(before.downstream(), kSwitch);
  EXPECT_EQ(proxy::AsText(result.rest), "frames");
  EXPECT_TRUE(before.exchanges().empty());

  Http2RelayRig after;
  after.relay->BeginUpgraded(before.relay().TakeUpgrade());
  after.Server(Wire().Settings().Headers(1, {{":status", "200"}}).Data(1, "x", kH2FlagEndStream));
  ASSERT_EQ(after.exchanges.size(), 1U);
  EXPECT_EQ(after.exchanges[0].http.path, "/up");
  EXPECT_EQ(after.exchanges[0].http.status, 200);
  EXPECT_EQ(after.exchanges[0].http.version_major, 2);
  after.Client(Wire().Preface().Settings().SettingsAck().Headers(3, RequestFields("/3"), kWhole));
  after.Server(Wire().SettingsAck().Headers(3, {{":status", "200"}}, kWhole));
  ASSERT_EQ(after.exchanges.size(), 2U);
  EXPECT_EQ(after.exchanges[1].http.request_index, 1U);
  before.relay().Finish(Reason::kNone);
  EXPECT_TRUE(before.exchanges().empty());
}

TEST(H2cUpgradeTest, StaysInHttp1WhenTheServerDoesNotTakeItUp) {
  Http1RelayRig rig(Http1RelayRig::Role::kPlain);
  rig.Downstream(Offer("AAQAAP__"));
  EXPECT_EQ(rig.Upstream("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").action,
            HttpRelay::Action::kContinue);
  ASSERT_EQ(rig.exchanges().size(), 1U);
  EXPECT_EQ(rig.exchanges()[0].http.status, 200);
  rig.Downstream("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(rig.upstream().ends_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
}

TEST(H2cUpgradeTest, PassesAnOfferThatIsNoneAsItIs) {
  for (const std::string& request :
       {Offer("AAQAAP!!"), Offer("AAQAAP"), Offer("AAIAAAAC"),
        std::string("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                    "HTTP2-Settings: AAQAAP__\r\n\r\n")}) {
    Http1RelayRig rig(Http1RelayRig::Role::kPlain);
    rig.Downstream(request);
    EXPECT_EQ(rig.upstream(), request);
    EXPECT_EQ(rig.Upstream(std::string(kSwitch) + "opaque").action, HttpRelay::Action::kOpaque);
    EXPECT_EQ(rig.downstream(), std::string(kSwitch) + "opaque");
  }
}

}  // namespace
}  // namespace weir::test
