#include "agent/observe/finish.h"

#include <gtest/gtest.h>

#include <string>

namespace weir::observe {
namespace {

using namespace std::string_literals;

constexpr TraceId kTrace = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
constexpr SpanId kParent = {1};
constexpr SpanId kClient = {2};
constexpr SpanId kServer = {3};

ExchangeResult SampledExchange() {
  ExchangeResult exchange;
  exchange.http.method = "GET";
  exchange.http.status = 200;
  exchange.timing.total = base::Nanoseconds(5000);
  exchange.timing.first_byte = base::Nanoseconds(4000);
  exchange.bytes_sent = 100;
  exchange.bytes_received = 200;
  exchange.trace_id = kTrace;
  exchange.parent_span_id = kParent;
  exchange.client_span_id = kClient;
  exchange.trace_flags = 3;
  exchange.parent_source = ParentSource::kHeader;
  exchange.trace_state = "a=b";
  return exchange;
}

Flow Connection(Direction direction) {
  Flow flow;
  flow.direction = direction;
  flow.mtls = MtlsState::kTunnel;
  flow.connection_id = 7;
  flow.bytes_sent = 1;
  flow.via = "tunnel 198.18.0.2:8080";
  flow.timing.upstream_connect = base::Nanoseconds(9);
  return flow;
}

TEST(FinishRequestTest, MakesAFlowOfTheConnectionAndTheExchange) {
  const Record record = FinishRequest(Connection(Direction::kOutbound), SampledExchange(), nullptr);
  const Flow& flow = record.flow;
  EXPECT_TRUE(flow.is_request);
  EXPECT_EQ(flow.protocol, Protocol::kHttp1);
  EXPECT_EQ(flow.connection_id, 7U);
  EXPECT_EQ(flow.mtls, MtlsState::kTunnel);
  EXPECT_EQ(flow.via, "tunnel 198.18.0.2:8080");
  EXPECT_EQ(flow.bytes_sent, 100U);
  EXPECT_EQ(flow.bytes_received, 200U);
  EXPECT_EQ(flow.timing.total, base::Nanoseconds(5000));
  EXPECT_EQ(flow.timing.first_byte, base::Nanoseconds(4000));
  EXPECT_EQ(flow.timing.upstream_connect.count(), -1) << "the connection waited, not this request";
  EXPECT_EQ(flow.verdict, Verdict::kAllow);
  ASSERT_TRUE(flow.http.has_value());
  EXPECT_EQ(flow.http->status, 200);
  EXPECT_EQ(flow.trace_id, kTrace);
  EXPECT_EQ(flow.span_id, kClient);
  EXPECT_TRUE(flow.sampled);
}

TEST(FinishRequestTest, MakesAClientSpanBelowTheRequestsParent) {
  const Record record = FinishRequest(Connection(Direction::kOutbound), SampledExchange(), nullptr);
  ASSERT_TRUE(record.span.has_value());
  EXPECT_TRUE(record.span->is_client);
  EXPECT_EQ(record.span->span_id, kClient);
  EXPECT_EQ(record.span->parent_span_id, kParent);
  EXPECT_EQ(record.flow.parent_span_id, kParent);
  EXPECT_FALSE(record.span->parent_is_remote);
  EXPECT_EQ(record.span->trace_state, "a=b");
  EXPECT_EQ(record.span->trace_flags, 3);
  EXPECT_EQ(record.span->parent_source, ParentSource::kHeader);
}

TEST(FinishRequestTest, MakesAServerSpanBelowARemoteParent) {
  ExchangeResult exchange = SampledExchange();
  exchange.client_span_id = {};
  exchange.server_span_id = kServer;
  const Record record = FinishRequest(Connection(Direction::kInbound), exchange, nullptr);
  ASSERT_TRUE(record.span.has_value());
  EXPECT_FALSE(record.span->is_client);
  EXPECT_EQ(record.span->parent_span_id, kParent);
  EXPECT_TRUE(record.span->parent_is_remote);
}

TEST(FinishRequestTest, ParentsTheServerSpanOfAJoinByItsClientSpan) {
  ExchangeResult exchange = SampledExchange();
  exchange.server_span_id = kServer;
  const Record client = FinishRequest(Connection(Direction::kOutbound), exchange, nullptr);
  const Record server = FinishRequest(Connection(Direction::kInbound), exchange, nullptr);
  EXPECT_EQ(client.span->span_id, kClient);
  EXPECT_EQ(client.span->parent_span_id, kParent);
  EXPECT_EQ(server.span->span_id, kServer);
  EXPECT_EQ(server.span->parent_span_id, kClient);
  EXPECT_EQ(server.flow.parent_span_id, kClient);
  EXPECT_TRUE(server.span->parent_is_remote);
}

TEST(FinishRequestTest, LeavesARootWithoutAParent) {
  ExchangeResult exchange = SampledExchange();
  exchange.parent_span_id = {};
  exchange.parent_source = ParentSource::kNone;
  exchange.client_span_id = {};
  exchange.server_span_id = kServer;
  const Record record = FinishRequest(Connection(Direction::kInbound), exchange, nullptr);
  EXPECT_EQ(record.span->parent_span_id, SpanId{});
  EXPECT_FALSE(record.span->parent_is_remote);
  EXPECT_EQ(record.flow.parent_source, ParentSource::kNone);
}

TEST(FinishRequestTest, MakesNoSpanUnlessSampledAndPlayed) {
  ExchangeResult unsampled = SampledExchange();
  unsampled.trace_flags = 2;
  const Record without = FinishRequest(Connection(Direction::kOutbound), unsampled, nullptr);
  EXPECT_FALSE(without.span.has_value());
  EXPECT_FALSE(without.flow.sampled);
  EXPECT_EQ(without.flow.trace_id, kTrace);
  // The other side's span is not this side's.
  const Record other = FinishRequest(Connection(Direction::kInbound), SampledExchange(), nullptr);
  EXPECT_FALSE(other.span.has_value());
  EXPECT_FALSE(other.flow.sampled);
}

TEST(FinishRequestTest, TurnsAReasonIntoAVerdict) {
  const auto verdict = [](Reason reason) {
    ExchangeResult exchange = SampledExchange();
    exchange.reason = reason;
    return FinishRequest(Connection(Direction::kOutbound), exchange, nullptr).flow.verdict;
  };
  EXPECT_EQ(verdict(Reason::kNone), Verdict::kAllow);
  EXPECT_EQ(verdict(Reason::kUpstreamReset), Verdict::kError);
  EXPECT_EQ(verdict(Reason::kBadRequest), Verdict::kError);
  EXPECT_EQ(verdict(Reason::kDownstreamReset), Verdict::kAllow);
  EXPECT_EQ(verdict(Reason::kPolicyDenied), Verdict::kDeny);
}

// ---- what is kept of requests whose trace is not sampled ----

Record FinishUnsampled(const model::TailSettings& tail, std::uint16_t status,
                       base::Nanoseconds total, Direction direction = Direction::kOutbound) {
  ExchangeResult exchange = SampledExchange();
  exchange.trace_flags = 2;
  exchange.http.status = status;
  exchange.timing.total = total;
  auto local = std::make_shared<model::LocalWorkload>();
  local->trace.tail = tail;
  Flow connection;
  connection.direction = direction;
  exchange.server_span_id = exchange.client_span_id;
  return FinishRequest(connection, exchange, local);
}

TEST(TailTest, KeepsErrorsOnlyWhenAsked) {
  const model::TailSettings errors{.errors = true};
  const Record failed = FinishUnsampled(errors, 500, base::Nanoseconds(1));
  ASSERT_TRUE(failed.span.has_value());
  EXPECT_EQ(failed.span->sampled_by, SampledBy::kError);
  EXPECT_EQ(failed.span->trace_flags, 2);  // as on the wire
  EXPECT_TRUE(failed.flow.sampled);
  EXPECT_FALSE(FinishUnsampled(errors, 200, base::Nanoseconds(1)).span.has_value());
  EXPECT_FALSE(FinishUnsampled({}, 500, base::Nanoseconds(1)).span.has_value());
  // A client's error is no error of the server.
  EXPECT_TRUE(FinishUnsampled(errors, 404, base::Nanoseconds(1)).span.has_value());
  EXPECT_FALSE(
      FinishUnsampled(errors, 404, base::Nanoseconds(1), Direction::kInbound).span.has_value());
}

TEST(TailTest, KeepsWhatTakesTheThresholdOrLonger) {
  const model::TailSettings slow{.slower_than = std::chrono::milliseconds(5)};
  const Record kept = FinishUnsampled(slow, 200, std::chrono::milliseconds(5));
  ASSERT_TRUE(kept.span.has_value());
  EXPECT_EQ(kept.span->sampled_by, SampledBy::kSlow);
  EXPECT_FALSE(FinishUnsampled(slow, 500, base::Nanoseconds(4'999'999)).span.has_value());
}

TEST(FinishRequestTest, GivesLinksToTheFirstSpanAndTagsToEach) {
  ExchangeResult exchange = SampledExchange();
  exchange.client_span_id = {1};
  exchange.server_span_id = {2};
  exchange.links.resize(kMaxSpanLinks + 1);
  exchange.client_tags = {{.name = "a", .value = "1"}};
  exchange.server_tags = {{.name = "b", .value = "2"}};
  Flow connection;
  connection.direction = Direction::kOutbound;
  const Record client = FinishRequest(connection, exchange, nullptr);
  EXPECT_EQ(client.span->links.size(), kMaxSpanLinks);
  EXPECT_EQ(client.span->tags.at(0).name, "a");
  connection.direction = Direction::kInbound;
  const Record server = FinishRequest(connection, exchange, nullptr);
  EXPECT_TRUE(server.span->links.empty());
  EXPECT_EQ(server.span->tags.at(0).name, "b");
  exchange.client_span_id = {};
  EXPECT_EQ(FinishRequest(connection, exchange, nullptr).span->links.size(), kMaxSpanLinks);
}

const std::string kMark = "\xe2\x80\xa6";

// What MeshTrace keeps of headers is in the flow whether there is a span or not.
TEST(FinishRequestTest, KeepsTheTagsOfItsSideInTheFlow) {
  ExchangeResult exchange = SampledExchange();
  exchange.client_tags = {{.name = "tenant", .value = "acme"}};
  exchange.server_tags = {{.name = "tier", .value = "gold"}};
  exchange.trace_flags = 2;  // not sampled
  const Record client = FinishRequest(Connection(Direction::kOutbound), exchange, nullptr);
  EXPECT_FALSE(client.span.has_value());
  ASSERT_EQ(client.flow.tags.size(), 1U);
  EXPECT_EQ(client.flow.tags[0].name, "tenant");
  const Record server = FinishRequest(Connection(Direction::kInbound), exchange, nullptr);
  ASSERT_EQ(server.flow.tags.size(), 1U);
  EXPECT_EQ(server.flow.tags[0].value, "gold");
}

TEST(FinishRequestTest, DeniesWhomItRefuses) {
  EXPECT_TRUE(IsRefusal(Reason::kRefusedByPeer));
  EXPECT_TRUE(IsRefusal(Reason::kPlaintextRefused));
  EXPECT_FALSE(IsRefusal(Reason::kUpstreamRefused));
  EXPECT_FALSE(IsRefusal(Reason::kNone));
}

TEST(CleanTextTest, CutsOnCharacterBordersAndMarksIt) {
  const std::string text = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";  // 1, 2, 3 and 4 bytes
  EXPECT_EQ(CleanText(text, 100), text);
  EXPECT_EQ(CleanText(text, 10), text);
  EXPECT_EQ(CleanText(text, 9), text.substr(0, 6) + kMark);
  EXPECT_EQ(CleanText(text, 8), text.substr(0, 3) + kMark);
  EXPECT_EQ(CleanText(text, 6), text.substr(0, 3) + kMark);
  EXPECT_EQ(CleanText(text, 5), text.substr(0, 1) + kMark);
  EXPECT_EQ(CleanText(text, 3), kMark);
  EXPECT_EQ(CleanText(text, 2), "a");  // no room for the mark
  EXPECT_EQ(CleanText(text, 0), "");
  EXPECT_EQ(CleanText("abcdef", 6), "abcdef");
  EXPECT_EQ(CleanText("abcdefg", 6), "abc" + kMark);
  EXPECT_EQ(CleanText("\xff\xff\xff\xff\xff", 4), "?" + kMark);
}

TEST(CleanTextTest, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(CleanText("a\xff"
                      "b",
                      10),
            "a?b");
  EXPECT_EQ(CleanText("\xc3", 10), "?");                 // cut short
  EXPECT_EQ(CleanText("\xc3(", 10), "?(");               // no continuation
  EXPECT_EQ(CleanText("\xc0\xaf", 10), "??");            // not the shortest form
  EXPECT_EQ(CleanText("\xe0\x80\xaf", 10), "???");       // not the shortest form
  EXPECT_EQ(CleanText("\xed\xa0\x80", 10), "???");       // a surrogate
  EXPECT_EQ(CleanText("\xf4\x90\x80\x80", 10), "????");  // above U+10FFFF
  EXPECT_EQ(CleanText("\x80\xbf", 10), "??");
}

TEST(RedactQueryTest, KeepsKeysOnly) {
  EXPECT_EQ(RedactQuery("token=secret&user=joe", false, 100), "token&user");
  EXPECT_EQ(RedactQuery("a&b=&=c&&d=e=f", false, 100), "a&b&d");
  EXPECT_EQ(RedactQuery("", false, 100), "");
  EXPECT_EQ(RedactQuery("token=secret&user=joe", true, 100), "token=secret&user=joe");
  EXPECT_EQ(RedactQuery("abc=1&def=2", false, 7), "abc&def");
  EXPECT_EQ(RedactQuery("abc=1&def=2", false, 6), "abc" + kMark);
  EXPECT_EQ(RedactQuery("a=1&sig=secret&b=2", true, 100), "a=1&sig=REDACTED&b=2");
  EXPECT_EQ(RedactQuery("X-Amz-Signature=s&Signature&sign=x", true, 100),
            "X-Amz-Signature=REDACTED&Signature&sign=x");
}

}  // namespace
}  // namespace weir::observe
