#include "agent/proxy/http1_relay.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <string_view>

#include "tests/support/http1_corpus.h"
#include "tests/support/http1_relay_rig.h"

namespace weir::proxy {
namespace {

using observe::Reason;
using Action = Http1Relay::Action;
using Rig = test::Http1RelayRig;
using Role = Rig::Role;
using std::chrono::milliseconds;

constexpr std::string_view kGet = "GET /a?k=v HTTP/1.1\r\nHost: shop\r\n\r\n";
constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// ---- messages ----

TEST(Http1RelayTest, PassesBytesUnchangedWhereNoSpanIsMade) {
  Rig rig(Role::kPlain);
  const std::string request =
      "POST /x HTTP/1.1\r\nHOST:a\r\ntraceparent: whatever\r\ntracestate: x\r\n"
      "Content-Length: 3\r\n\r\nabc";
  rig.Downstream(request);
  rig.Upstream(kOk);
  EXPECT_EQ(rig.upstream(), request);
  EXPECT_EQ(rig.downstream(), kOk);
  ASSERT_EQ(rig.exchanges().size(), 1U);
  EXPECT_EQ(rig.exchanges()[0].bytes_sent, request.size());
  EXPECT_EQ(rig.exchanges()[0].bytes_received, kOk.size());
}

TEST(Http1RelayTest, DoesNotCopyABody) {
  Rig rig(Role::kClient);
  rig.Downstream("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
  const std::string body(50000, 'b');
  io::ByteBuffer up;
  io::ByteBuffer down;
  const auto result =
      rig.relay().OnDownstreamBytes(AsBytes(body), {.to_upstream = up, .to_downstream = down});
  EXPECT_EQ(result.direct.data(), AsBytes(body).data());
  EXPECT_EQ(result.direct.size(), body.size());
  EXPECT_TRUE(up.empty());
}

TEST(Http1RelayTest, DoesNotCopyAResponse) {
  Rig rig(Role::kClient);
  rig.Downstream(kGet);
  io::ByteBuffer up;
  io::ByteBuffer down;
  const auto result =
      rig.relay().OnUpstreamBytes(AsBytes(kOk), {.to_upstream = up, .to_downstream = down});
  EXPECT_EQ(result.direct.data(), AsBytes(kOk).data());
  EXPECT_EQ(result.direct.size(), kOk.size());
  EXPECT_TRUE(down.empty());
}

TEST(Http1RelayTest, ReportsTheFactsOfARequest) {
  Rig rig;
  rig.Downstream(
      "PATCH /a/b?token=secret&x=1 HTTP/1.1\r\nHost: shop:8080\r\nUser-Agent: probe/1\r\n\r\n");
  rig.clock().Advance(milliseconds(3));
  rig.Upstream("HTTP/1.1 404 No");
  rig.clock().Advance(milliseconds(4));
  rig.Upstream("t Found\r\nContent-Length: 1\r\n\r\n");
  rig.clock().Advance(milliseconds(5));
  rig.Upstream("x");
  ASSERT_EQ(rig.exchanges().size(), 1U);
  const observe::ExchangeResult& exchange = rig.exchanges()[0];
  EXPECT_EQ(exchange.http.method, "PATCH");
  EXPECT_EQ(exchange.http.host, "shop:8080");
  EXPECT_EQ(exchange.http.path, "/a/b");
  EXPECT_EQ(exchange.http.query_keys, "token&x");
  EXPECT_EQ(exchange.http.user_agent, "probe/1");
  EXPECT_EQ(exchange.http.status, 404);
  EXPECT_EQ(exchange.http.request_index, 0U);
  EXPECT_EQ(exchange.reason, Reason::kNone);
  EXPECT_EQ(exchange.timing.first_byte, milliseconds(3));
  EXPECT_EQ(exchange.timing.total, milliseconds(12));
  EXPECT_TRUE(rig.relay().idle());
}

TEST(Http1RelayTest, MatchesPipelinedRequestsInOrder) {
  Rig rig;
  rig.Downstream(
      "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n"
      "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
  // The second has a length and no body: it answers HEAD.
  rig.Upstream(
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"
      "HTTP/1.1 201 OK\r\nContent-Length: 9\r\n\r\n"
      "HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n3\r\n0\r\nT: x\r\n\r\n");
  ASSERT_EQ(rig.exchanges().size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(rig.exchanges()[i].http.path, "/" + std::to_string(i + 1));
    EXPECT_EQ(rig.exchanges()[i].http.status, 200 + i);
    EXPECT_EQ(rig.exchanges()[i].http.request_index, i);
  }
  EXPECT_TRUE(rig.relay().idle());
}

TEST(Http1RelayTest, KeepsPipelinedRequestsForTheirTurnWhereOneMayBeOpen) {
  Rig rig(Role::kPlain, {}, /*ratio=*/1.0, /*max_open=*/1);
  const std::string one = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
  const std::string two = "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string three = "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
  rig.Downstream(one);
  EXPECT_TRUE(rig.relay().wants_downstream());  // an end of the client's must be seen
  rig.Downstream(two + three);
  EXPECT_EQ(rig.upstream(), one);
  EXPECT_FALSE(rig.relay().wants_downstream());
  rig.Upstream(kOk);
  EXPECT_EQ(rig.upstream(), one + two);
  EXPECT_FALSE(rig.relay().wants_downstream());
  rig.Upstream(kOk);
  EXPECT_EQ(rig.upstream(), one + two + three);
  EXPECT_TRUE(rig.relay().wants_downstream());
  rig.Upstream(kOk);
  EXPECT_EQ(rig.exchanges().size(), 3U);
  EXPECT_EQ(rig.downstream(), std::string(kOk) + std::string(kOk) + std::string(kOk));
}

TEST(Http1RelayTest, PassesContinueBeforeTheFinalResponse) {
  Rig rig;
  rig.Downstream("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  rig.Upstream("HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(rig.downstream(), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_TRUE(rig.exchanges().empty());
  rig.Downstream("hi");
  rig.Upstream(
      "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  ASSERT_EQ(rig.exchanges().size(), 1U);
  EXPECT_EQ(rig.exchanges()[0].http.status, 200);
}

TEST(Http1RelayTest, ReportsAnEarlyResponseWhenTheRequestIsComplete) {
  Rig rig;
  rig.Downstream("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
  rig.clock().Advance(milliseconds(1));
  rig.Upstream("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
  EXPECT_TRUE(rig.exchanges().empty());
  rig.clock().Advance(milliseconds(9));
  rig.Downstream("def" + std::string(kGet));
  ASSERT_EQ(rig.exchanges().size(), 1U);
  EXPECT_EQ(rig.exchanges()[0].http.status, 413);
  EXPECT_EQ(rig.exchanges()[0].timing.total, milliseconds(1));
  rig.Upstream(kOk);
  ASSERT_EQ(rig.exchanges().size(), 2U);
  EXPECT_EQ(rig.exchanges()[1].http.path, "/a");
}

TEST(Http1RelayTest, ReportsAnEarlyResponseWhoseRequestNeverEndsAsWell) {
  Rig rig;
  rig.Downstream("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
  rig.Upstream("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
  rig.relay().Finish(Reason::kDownstreamReset);
  ASSERT_EQ(rig.exchanges().size(), 1U);
  EXPECT_EQ(rig.exchanges()[0].reason, Reason::kNone);
}

TEST(Http1RelayTest, EndsAResponseWithoutLengthAtTheEndOfTheConnection) {
  Rig rig;
  rig.Downstream("GET / HTTP/1.0\r\n\r\n");
  rig.Upstream("HTTP/1.0 200 OK\r\n\r\nabc");
  rig.Upstream("HTTP/1.1 500 not a response\r\n\r\n");
  EXPECT_TRUE(rig.exchanges().empty());
  EXPECT_EQ(rig.UpstreamEnd().action, Action::kContinue);
  ASSERT_EQ(rig.exchanges().size(), 1U);
  EXPECT_EQ(rig.exchanges()[0].http.status, 200);
  EXPECT_EQ(rig.exchanges()[0].http.version_minor, 0);
  EXPECT_EQ(rig.exchanges()[0].reason, Reason::kNone);
  EXPECT_EQ(rig.downstream(), "HTTP/1.0 200 OK\r\n\r\nabcHTTP/1.1 500 not a response\r\n\r\n");
}

TEST(Http1RelayTest, PassesAHalfCloseBehindACompleteRequest) {
  Rig rig;
  rig.Downstream(kGet);
  EXPECT_EQ(rig.DownstreamEnd().action, Action::kContinue);
  rig.Upstream(kOk);
  ASSERT_EQ(rig.exchanges().size(), 1U);
  EXPECT_EQ(rig.exchanges()[0].reason, Reason::kNone);
}

// ---- opaque ----

constexpr std::string_view kUpgrade =
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

TEST(Http1RelayTest, GoesOpaqueBehindAnUpgrade) {
  Rig rig(Role::kPlain);
  rig.Downstream(kUpgrade);
  EXPECT_FALSE(rig.relay().wants_downstream());
  const std::string answer =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
      "Upgrade\r\n\r\n\x81\x02hi";
  EXPECT_EQ(rig.Upstream(answer).action, Action::kOpaque);
  EXPECT_EQ(rig.downstream(), answer);
  ASSERT_EQ(rig.exchanges().size(), 1U);
  EXPECT_EQ(rig.exchanges()[0].http.status, 101);
  EXPECT_EQ(rig.exchanges()[0].reason, Reason::kNone);
}

TEST(Http1RelayTest, GoesOpaqueBehindConnectAndPassesWhatWasSentEarly) {
  Rig rig(Role::kPlain);
  const std::string request = "CONNECT db:1 HTTP/1.1\r\nHost: db:1\r\n\r\n";
  rig.Downstream(request + "GET not http");
  EXPECT_EQ(rig.upstream(), request);
  EXPECT_EQ(rig.Upstream("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nxyz").action,
            Action::kOpaque);
  EXPECT_EQ(rig.upstream(), request + "GET not http");
  EXPECT_EQ(rig.downstream(), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nxyz");
}

TEST(Http1RelayTest, ReadsOnBehindARefusedUpgrade) {
  Rig rig(Role::kPlain);
  rig.Downstream(std::string(kUpgrade) + std::string(kGet));
  EXPECT_EQ(rig.upstream(), kUpgrade);
  EXPECT_EQ(rig.Upstream(kOk).action, Action::kContinue);
  EXPECT_EQ(rig.upstream(), std::string(kUpgrade) + std::string(kGet));
  EXPECT_TRUE(rig.relay().wants_downstream());
  rig.Upstream(kOk);
  EXPECT_EQ(rig.exchanges().size(), 2U);
}

TEST(Http1RelayTest, TakesTheBodyOfAnUpgradeRequest) {
  Rig rig(Role::kPlain);
  const std::string head =
      "POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: "
      "4\r\n\r\n";
  rig.Downstream(head + "ab");
  EXPECT_TRUE(rig.relay().wants_downstream());
  rig.Downstream("cd");
  EXPECT_FALSE(rig.relay().wants_downstream());
  EXPECT_EQ(rig.upstream(), head + "abcd");
}

// ---- limits and errors ----

TEST(Http1RelayTest, AnswersEachMalformedRequestAndPassesNothingOfItsHead) {
  for (const auto& one : test::MalformedRequests()) {
    SCOPED_TRACE(one.name);
    Rig rig;
    const auto result = rig.Downstream(one.bytes);
    EXPECT_EQ(result.action, Action::kClose);
    EXPECT_EQ(result.reason, Reason::kBadRequest);
    EXPECT_TRUE(rig.downstream().starts_with("HTTP/1.1 400 Bad Request\r\n"));
    EXPECT_NE(rig.downstream().find("\r\nConnection: close\r\n"), std::string::npos);
    ASSERT_EQ(rig.exchanges().size(), 1U);
    EXPECT_EQ(rig.exchanges()[0].reason, Reason::kBadRequest);
    EXPECT_EQ(rig.exchanges()[0].http.status, 400);
    const bool in_body = one.error >= http::Http1Error::kBadChunkSize;
    EXPECT_EQ(rig.upstream().empty(), !in_body);
  }
}

TEST(Http1RelayTest, AnswersEachMalformedResponseWith502OrResets) {
  for (const auto& one : test::MalformedResponses()) {
    SCOPED_TRACE(one.name);
    Rig rig;
    rig.Downstream(kGet);
    const auto result = rig.Upstream(one.bytes);
    EXPECT_EQ(result.reason, Reason::kBadResponse);
    ASSERT_EQ(rig.exchanges().size(), 1U);
    EXPECT_EQ(rig.exchanges()[0].reason, Reason::kBadResponse);
    if (one.error >= http::Http1Error::kBadChunkSize) {
      EXPECT_EQ(result.action, Action::kReset);
      EXPECT_EQ(rig.exchanges()[0].http.status, 200);
    } else {
      EXPECT_EQ(result.action, Action::kClose);
      EXPECT_TRUE(rig.downstream().starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
      EXPECT_EQ(rig.exchanges()[0].http.status, 502);
    }
  }
}

TEST(Http1RelayTest, AnswersTheLimitsWithTheirStatus) {
  const http::Http1Limits limits{
      .max_start_line_bytes = 100, .max_header_bytes = 200, .max_header_count = 3};
  Rig line(Role::kClient, limits);
  EXPECT_EQ(line.Downstream("GET /" + std::string(96, 'a')).reason, Reason::kUriTooLong);
  EXPECT_TRUE(line.downstream().starts_with("HTTP/1.1 414 "));
  Rig bytes(Role::kClient, limits);
  EXPECT_EQ(bytes.Downstream("GET / HTTP/1.1\r\nX: " + std::string(200, 'a')).reason,
            Reason::kHeadersTooLarge);
  EXPECT_TRUE(bytes.downstream().starts_with("HTTP/1.1 431 "));
  Rig count(Role::kClient, limits);
  EXPECT_EQ(count.Downstream("GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY:\r\nZ:\r\n").reason,
            Reason::kHeadersTooLarge);
  EXPECT_TRUE(count.downstream().starts_with("HTTP/1.1 431 "));
}

TEST(Http1RelayTest, AnswersABadRequestBehindTheOnesBeforeIt) {
  Rig rig;
  EXPECT_EQ(rig.Downstream(std::string(kGet) + "BAD\r\n\r\n").action, Action::kContinue);
  EXPECT_EQ(rig.downstream(), "");
  EXPECT_FALSE(rig.relay().wants_downstream());
  const auto result = rig.Upstream(kOk);
  EXPECT_EQ(result.action, Action::kClose);
  EXPECT_EQ(result.reason, Reason::kBadRequest);
  EXPECT_TRUE(rig.downstream().starts_with(std::string(kOk) + "HTTP/1.1 400 "));
  ASSERT_EQ(rig.exchanges().size(), 2U);
  EXPECT_EQ(rig.exchanges()[0].reason, Reason::kNone);
  EXPECT_EQ(rig.exchanges()[1].reason, Reason::kBadRequest);
}

TEST(Http1RelayTest, ClosesWhenTheOnesBeforeABadRequestWillNotBeAnswered) {
  Rig rig;
  rig.Downstream(std::string(kGet) + "BAD\r\n\r\n");
  const auto result = rig.UpstreamEnd();
  EXPECT_EQ(result.action, Action::kClose);
  EXPECT_EQ(rig.downstream(), "");
  rig.relay().Finish(Reason::kNone);
  ASSERT_EQ(rig.exchanges().size(), 2U);
  EXPECT_EQ(rig.exchanges()[0].reason, Reason::kUpstreamReset);
  EXPECT_EQ(rig.exchanges()[1].reason, Reason::kBadRequest);
}

TEST(Http1RelayTest, ResetsWhenABodyBreaksBehindItsEarlyResponse) {
  Rig rig;
  rig.Downstream("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  rig.Upstream("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
  const auto result = rig.Downstream("x\r\n");
  EXPECT_EQ(result.action, Action::kReset);
  EXPECT_EQ(result.reason, Reason::kBadRequest);
  ASSERT_EQ(rig.exchanges().size(), 1U);
}

TEST(Http1RelayTest, ClosesOnAResponseThatNobodyAskedFor) {
  Rig fresh;
  EXPECT_EQ(fresh.Upstream(kOk).action, Action::kClose);
  EXPECT_EQ(fresh.downstream(), "");
  Rig second;
  second.Downstream(kGet);
  const auto result = second.Upstream(std::string(kOk) + std::string(kOk));
  EXPECT_EQ(result.action, Action::kClose);
  EXPECT_EQ(result.reason, Reason::kBadResponse);
  EXPECT_EQ(second.downstream(), kOk);
  EXPECT_EQ(second.exchanges().size(), 1U);
}

TEST(Http1RelayTest, TellsAHeadThatHasBegunFromAnIdleConnection) {
  Rig rig;
  EXPECT_FALSE(rig.relay().waiting_for_headers());
  EXPECT_EQ(rig.HeaderTimeout().action, Action::kContinue);
  rig.Downstream("GET / HTTP/1.1\r\nHo");
  EXPECT_TRUE(rig.relay().waiting_for_headers());
  rig.Downstream("st: a\r\n\r\n");
  EXPECT_FALSE(rig.relay().waiting_for_headers());
  rig.Upstream(kOk);
  EXPECT_FALSE(rig.relay().waiting_for_headers());
  EXPECT_TRUE(rig.relay().idle());
}

TEST(Http1RelayTest, AnswersASlowHeadWith408) {
  Rig rig;
  rig.Downstream("GET / HTTP/1.1\r\nHo");
  rig.clock().Advance(milliseconds(10000));
  const auto result = rig.HeaderTimeout();
  EXPECT_EQ(result.action, Action::kClose);
  EXPECT_EQ(result.reason, Reason::kHeaderTimeout);
  EXPECT_TRUE(rig.downstream().starts_with("HTTP/1.1 408 "));
  EXPECT_EQ(rig.upstream(), "");
  ASSERT_EQ(rig.exchanges().size(), 1U);
  EXPECT_EQ(rig.exchanges()[0].reason, Reason::kHeaderTimeout);
  EXPECT_EQ(rig.exchanges()[0].timing.total, milliseconds(10000));
}

TEST(Http1RelayTest, StopsReadingAt64UnansweredRequestsAndGoesOnBelow) {
  Rig rig(Role::kPlain);
  std::string many;
  for (int i = 0; i < 100; ++i) {
    many += kGet;
  }
  rig.Downstream(many);
  EXPECT_EQ(rig.upstream().size(), 64 * kGet.size());
  EXPECT_FALSE(rig.relay().wants_downstream());
  rig.Upstream(kOk);
  EXPECT_EQ(rig.upstream().size(), 65 * kGet.size());
  for (int i = 1; i < 100; ++i) {
    rig.Upstream(kOk);
  }
  EXPECT_EQ(rig.upstream(), many);
  EXPECT_EQ(rig.exchanges().size(), 100U);
  EXPECT_TRUE(rig.relay().wants_downstream());
  EXPECT_TRUE(rig.relay().idle());
}

// ---- endings ----

TEST(Http1RelayTest, ReportsEachOpenRequestOnceAtTheEnd) {
  Rig rig;
  rig.Downstream(std::string(kGet) + std::string(kGet) +
                 "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
  rig.Upstream(kOk);
  rig.clock().Advance(milliseconds(7));
  rig.relay().Finish(Reason::kUpstreamTimeout);
  rig.relay().Finish(Reason::kUpstreamReset);
  ASSERT_EQ(rig.exchanges().size(), 3U);
  EXPECT_EQ(rig.exchanges()[0].reason, Reason::kNone);
  EXPECT_EQ(rig.exchanges()[1].reason, Reason::kUpstreamTimeout);
  EXPECT_EQ(rig.exchanges()[1].timing.total, milliseconds(7));
  EXPECT_EQ(rig.exchanges()[1].http.status, 0);
  EXPECT_EQ(rig.exchanges()[2].reason, Reason::kUpstreamTimeout);
}

TEST(Http1RelayTest, InfersWhoEndedEarly) {
  Rig server_left;
  server_left.Downstream(kGet);
  server_left.Upstream("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
  EXPECT_EQ(server_left.UpstreamEnd().action, Action::kContinue);
  server_left.relay().Finish(Reason::kNone);
  EXPECT_EQ(server_left.exchanges()[0].reason, Reason::kUpstreamReset);
  EXPECT_EQ(server_left.exchanges()[0].http.status, 200);

  Rig client_left;
  client_left.Downstream("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
  client_left.DownstreamEnd();
  client_left.UpstreamEnd();
  client_left.relay().Finish(Reason::kNone);
  EXPECT_EQ(client_left.exchanges()[0].reason, Reason::kDownstreamReset);
}

TEST(Http1RelayTest, ShowsTheDownstreamHalfAResponseHeadWhenTheUpstreamLeaves) {
  Rig rig;
  rig.Downstream(kGet);
  rig.Upstream("HTTP/1.1 200");
  EXPECT_EQ(rig.downstream(), "");
  rig.UpstreamEnd();
  EXPECT_EQ(rig.downstream(), "HTTP/1.1 200");
}

constexpr std::string_view kIncoming =
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

// ---- splits ----

// All that is seen of a relay after a script: what went out, and each exchange.
struct Outcome {
  std::string upstream;
  std::string downstream;
  std::vector<std::string> exchanges;
  Action action = Action::kContinue;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

template <typename Feed>
Outcome RunScript(std::string_view requests, std::string_view responses, Feed&& feed) {
  Rig rig(Role::kJoined);
  Outcome outcome;
  const auto note = [&](const Http1Relay::Result& result) {
    if (outcome.action == Action::kContinue) {
      outcome.action = result.action;
    }
    return outcome.action == Action::kContinue;
  };
  feed(requests, [&](std::string_view part) { return note(rig.Downstream(part)); });
  if (outcome.action == Action::kContinue) {
    feed(responses, [&](std::string_view part) {
      // Behind an Upgrade the session passes the rest by itself.
      if (outcome.action == Action::kOpaque) {
        outcome.downstream += part;
        return true;
      }
      const bool more = note(rig.Upstream(part));
      return more || outcome.action == Action::kOpaque;
    });
  }
  rig.relay().Finish(Reason::kDraining);
  outcome.upstream = rig.upstream();
  outcome.downstream = rig.downstream() + outcome.downstream;
  for (const auto& exchange : rig.exchanges()) {
    outcome.exchanges.push_back(exchange.http.path + " " + std::to_string(exchange.http.status) +
                                " " + std::string(observe::ToString(exchange.reason)) + " " +
                                std::to_string(exchange.bytes_sent) + " " +
                                std::to_string(exchange.bytes_received) + " " +
                                observe::ToHex(exchange.server_span_id));
  }
  return outcome;
}

void ExpectSameForEverySplit(std::string_view requests, std::string_view responses) {
  const Outcome whole =
      RunScript(requests, responses, [](std::string_view all, auto&& take) { take(all); });
  const Outcome bytewise = RunScript(requests, responses, [](std::string_view all, auto&& take) {
    for (const char& c : all) {
      if (!take({&c, 1})) {
        return;
      }
    }
  });
  EXPECT_EQ(bytewise.upstream, whole.upstream);
  EXPECT_EQ(bytewise.downstream, whole.downstream);
  EXPECT_EQ(bytewise.exchanges, whole.exchanges);
  EXPECT_EQ(bytewise.action, whole.action);
  for (std::size_t cut = 1; cut < std::max(requests.size(), responses.size()); ++cut) {
    const Outcome parts = RunScript(requests, responses, [&](std::string_view all, auto&& take) {
      if (cut >= all.size()) {
        take(all);
      } else if (take(all.substr(0, cut))) {
        take(all.substr(cut));
      }
    });
    ASSERT_EQ(parts.upstream, whole.upstream) << "cut at " << cut;
    ASSERT_EQ(parts.downstream, whole.downstream) << "cut at " << cut;
    ASSERT_EQ(parts.exchanges, whole.exchanges) << "cut at " << cut;
    ASSERT_EQ(parts.action, whole.action) << "cut at " << cut;
  }
}

TEST(RelaySplitTest, GivesTheSameWhateverTheReadsAre) {
  const std::string requests = "\r\nPOST /1?a=b HTTP/1.1\r\nHost: a\r\n" + std::string(kIncoming) +
                               "tracestate: a=b\r\nTransfer-Encoding: chunked\r\n\r\n" +
                               "5;x=y\r\nhello\r\n0\r\nT: z\r\n\r\n" +
                               "HEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n" +
                               "PUT /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" +
                               "GET /4 HTTP/1.0\r\ntracestate: x=y\r\n\r\n";
  const std::string responses =
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
      "HTTP/1.0 200 OK\r\n\r\nrest";
  ExpectSameForEverySplit(requests, responses);
}

TEST(RelaySplitTest, GivesTheSameForUpgradesAndErrorsWhateverTheReadsAre) {
  const std::string upgraded =
      "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\nopaque bytes \r\n\r\n";
  ExpectSameForEverySplit(kUpgrade, upgraded);
  ExpectSameForEverySplit(std::string(kUpgrade) + std::string(kGet), kOk);
  ExpectSameForEverySplit(std::string(kGet) + "BAD\r\n\r\n", kOk);
  ExpectSameForEverySplit(kGet, std::string(kOk) + "unasked");
  ExpectSameForEverySplit(
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX", "");
  ExpectSameForEverySplit(kGet, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naX");
}

}  // namespace
}  // namespace weir::proxy
