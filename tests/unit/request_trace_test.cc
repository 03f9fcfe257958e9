// The rules of W3C Trace Context that concern what the relay does with the headers; those
// of the values alone are in trace_context_test.cc.
#include "agent/proxy/request_trace.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "tests/support/http1_relay_rig.h"

namespace weir::proxy {
namespace {

using Rig = test::Http1RelayRig;
using Role = Rig::Role;

constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
constexpr std::string_view kTraceHex = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr std::string_view kSpanHex = "00f067aa0ba902b7";

std::string Request(std::string_view fields) {
  return "GET / HTTP/1.1\r\nHost: a\r\n" + std::string(fields) + "\r\n";
}
std::string TraceParentLine(std::string_view trace, std::string_view span, std::string_view flags) {
  return "traceparent: 00-" + std::string(trace) + "-" + std::string(span) + "-" +
         std::string(flags) + "\r\n";
}
const std::string kIncoming = TraceParentLine(kTraceHex, kSpanHex, "01");

// The exchange of one request with these fields, and what went upstream.
struct Traced {
  observe::ExchangeResult exchange;
  std::string upstream;
};
Traced Trace(std::string_view fields, Role role = Role::kClient, double ratio = 1.0) {
  Rig rig(role, {}, ratio);
  rig.Downstream(Request(fields));
  rig.Upstream(kOk);
  EXPECT_EQ(rig.exchanges().size(), 1U);
  return {.exchange = rig.exchanges().at(0), .upstream = rig.upstream()};
}

bool IsNewTrace(const observe::ExchangeResult& exchange) {
  return observe::ToHex(exchange.trace_id) != kTraceHex &&
         exchange.trace_id != observe::TraceId{} && exchange.parent_span_id == observe::SpanId{} &&
         exchange.parent_source == observe::ParentSource::kNone;
}

TEST(RelayTraceTest, TakesARepeatedTraceparentAsNone) {  // R1
  const Traced twice = Trace(kIncoming + kIncoming + "tracestate: a=b\r\n");
  EXPECT_TRUE(IsNewTrace(twice.exchange));
  EXPECT_EQ(twice.upstream,
            Request(TraceParentLine(observe::ToHex(twice.exchange.trace_id),
                                    observe::ToHex(twice.exchange.client_span_id), "03") +
                    "tracestate: ot=th:0\r\n"));
}

TEST(RelayTraceTest, ReadsTheNameInAnyCaseAndWritesItInLowerCase) {  // R7
  const Traced upper = Trace("TRACEPARENT: 00-" + std::string(kTraceHex) + "-" +
                             std::string(kSpanHex) + "-01\r\nTraceState: a=b\r\n");
  EXPECT_EQ(observe::ToHex(upper.exchange.trace_id), kTraceHex);
  EXPECT_EQ(
      upper.upstream,
      Request(TraceParentLine(kTraceHex, observe::ToHex(upper.exchange.client_span_id), "01") +
              "tracestate: a=b\r\n"));
  const std::string near =
      "trace-parent: 00-" + std::string(kTraceHex) + "-" + std::string(kSpanHex) + "-01\r\n";
  const Traced ignored = Trace(near);
  EXPECT_TRUE(IsNewTrace(ignored.exchange));
  EXPECT_NE(ignored.upstream.find(near), std::string::npos);
}

TEST(RelayTraceTest, BeginsANewTraceForAnInvalidParentAndDropsTheState) {  // R8
  const Traced bad = Trace("tracestate: a=b\r\ntraceparent: 00-zz\r\n");
  EXPECT_TRUE(IsNewTrace(bad.exchange));
  EXPECT_EQ(bad.exchange.trace_state, "ot=th:0");  // its own
  EXPECT_EQ(bad.upstream.find("a=b"), std::string::npos);
}

TEST(RelayTraceTest, CopiesTheRandomFlagAndSetsItOnItsOwnIds) {  // R9
  EXPECT_EQ(Trace(TraceParentLine(kTraceHex, kSpanHex, "01")).exchange.trace_flags, 1);
  EXPECT_EQ(Trace(TraceParentLine(kTraceHex, kSpanHex, "03")).exchange.trace_flags, 3);
  EXPECT_EQ(Trace(TraceParentLine(kTraceHex, kSpanHex, "fe")).exchange.trace_flags, 2);
  EXPECT_EQ(Trace("").exchange.trace_flags, 3);
}

TEST(RelayTraceTest, NamesEachRequestsOwnClientSpanAsParent) {  // R10
  Rig rig;
  rig.Downstream(Request(kIncoming) + Request(kIncoming));
  rig.Upstream(std::string(kOk) + std::string(kOk));
  ASSERT_EQ(rig.exchanges().size(), 2U);
  const observe::ExchangeResult& first = rig.exchanges()[0];
  const observe::ExchangeResult& second = rig.exchanges()[1];
  EXPECT_NE(first.client_span_id, second.client_span_id);
  EXPECT_EQ(rig.upstream(),
            Request(TraceParentLine(kTraceHex, observe::ToHex(first.client_span_id), "01")) +
                Request(TraceParentLine(kTraceHex, observe::ToHex(second.client_span_id), "01")));
  EXPECT_EQ(observe::ToHex(first.parent_span_id), kSpanHex);
  EXPECT_EQ(observe::ToHex(second.parent_span_id), kSpanHex);
}

TEST(RelayTraceTest, TouchesNeitherHeaderWhereItMakesNoSpan) {  // R11
  const std::string fields = kIncoming + "tracestate: BAD,,x\r\ntracestate: y\r\n";
  const Traced plain = Trace(fields, Role::kPlain);
  EXPECT_EQ(plain.upstream, Request(fields));
  EXPECT_EQ(observe::ToHex(plain.exchange.trace_id), kTraceHex);
  EXPECT_EQ(plain.exchange.client_span_id, observe::SpanId{});
  EXPECT_EQ(plain.exchange.server_span_id, observe::SpanId{});
}

TEST(RelayTraceTest, JoinsRepeatedTracestatesInOrder) {  // R12
  const Traced joined = Trace("tracestate: a=1\r\n" + kIncoming +
                              "TraceState: b=2,c=3\r\nX: y\r\ntracestate: d=4\r\n");
  EXPECT_EQ(joined.exchange.trace_state, "a=1,b=2,c=3,d=4");
  EXPECT_EQ(
      joined.upstream,
      Request("X: y\r\n" +
              TraceParentLine(kTraceHex, observe::ToHex(joined.exchange.client_span_id), "01") +
              "tracestate: a=1,b=2,c=3,d=4\r\n"));
}

TEST(RelayTraceTest, KeepsTheTraceWhenTheStateIsBad) {  // R17
  const Traced bad = Trace(kIncoming + "tracestate: a=1,B=2\r\n");
  EXPECT_EQ(observe::ToHex(bad.exchange.trace_id), kTraceHex);
  EXPECT_EQ(bad.exchange.trace_state, "");
  EXPECT_EQ(bad.upstream.find("tracestate"), std::string::npos);
}

TEST(RelayTraceTest, KeepsTheOrderOfAStateAndAddsItsOwnToRootsOnly) {  // R19
  const Traced below = Trace(kIncoming + "tracestate: a=1,ot=th:8,b=2\r\n", Role::kClient, 0.25);
  EXPECT_EQ(below.exchange.trace_state, "a=1,ot=th:8,b=2");
  EXPECT_NE(below.upstream.find("tracestate: a=1,ot=th:8,b=2\r\n"), std::string::npos);
}

TEST(RelayTraceTest, DropsATracestateWithoutATraceparent) {  // R21
  const Traced alone = Trace("tracestate: a=1\r\n");
  EXPECT_TRUE(IsNewTrace(alone.exchange));
  EXPECT_EQ(alone.exchange.trace_state, "ot=th:0");  // its own
  EXPECT_EQ(alone.upstream.find("a=1"), std::string::npos);
}

TEST(RelayTraceTest, DeliversWithTheServerSpanAsParent) {
  const Traced server = Trace(kIncoming, Role::kServer);
  EXPECT_EQ(observe::ToHex(server.exchange.parent_span_id), kSpanHex);
  EXPECT_EQ(server.exchange.client_span_id, observe::SpanId{});
  EXPECT_EQ(server.upstream, Request(TraceParentLine(
                                 kTraceHex, observe::ToHex(server.exchange.server_span_id), "01")));
}

TEST(RelayTraceTest, MakesBothSpansOfAJoinAndDeliversTheServers) {
  const Traced both = Trace(kIncoming, Role::kJoined);
  EXPECT_NE(both.exchange.client_span_id, observe::SpanId{});
  EXPECT_NE(both.exchange.server_span_id, observe::SpanId{});
  EXPECT_NE(both.exchange.client_span_id, both.exchange.server_span_id);
  EXPECT_EQ(both.upstream, Request(TraceParentLine(
                               kTraceHex, observe::ToHex(both.exchange.server_span_id), "01")));
}

TEST(RelayTraceTest, FollowsTheParentsSamplingAtAnyRatio) {
  EXPECT_TRUE(Trace(kIncoming, Role::kClient, /*ratio=*/0.0).exchange.sampled());
  const Traced unsampled = Trace(TraceParentLine(kTraceHex, kSpanHex, "00"));
  EXPECT_FALSE(unsampled.exchange.sampled());
  EXPECT_EQ(
      unsampled.upstream,
      Request(TraceParentLine(kTraceHex, observe::ToHex(unsampled.exchange.client_span_id), "00")));
}

TEST(RelayTraceTest, SamplesRootsByTheRatioAndSaysSo) {
  const Traced none = Trace("", Role::kClient, /*ratio=*/0.0);
  EXPECT_FALSE(none.exchange.sampled());
  EXPECT_EQ(none.exchange.trace_flags, http::kRandomFlag);
  EXPECT_EQ(none.upstream.find("tracestate"), std::string::npos);
  Rig rig(Role::kClient, {}, /*ratio=*/0.5);
  int sampled = 0;
  for (int i = 0; i < 200; ++i) {
    rig.Forget();
    rig.Downstream(Request(""));
    rig.Upstream(kOk);
    const bool kept = rig.exchanges().back().sampled();
    EXPECT_EQ(rig.upstream().find("\r\ntracestate: ot=th:8\r\n") != std::string::npos, kept);
    sampled += kept ? 1 : 0;
  }
  EXPECT_GT(sampled, 50);
  EXPECT_LT(sampled, 150);
}

// ---- other formats, sampling, the boundary, tags ----

struct TracedBy {
  observe::ExchangeResult exchange;
  std::string upstream;
};
TracedBy TraceWith(const model::TraceSettings& settings, std::string_view fields,
                   Role role = Role::kServer, bool from_outside = false) {
  Rig rig(role, {}, settings, from_outside);
  rig.Downstream(Request(fields));
  rig.Upstream(kOk);
  EXPECT_EQ(rig.exchanges().size(), 1U);
  return {.exchange = rig.exchanges().at(0), .upstream = rig.upstream()};
}

const std::string kB3Multi = "X-B3-TraceId: " + std::string(kTraceHex) +
                             "\r\nX-B3-SpanId: " + std::string(kSpanHex) + "\r\n";

TEST(RelayTraceTest, AnswersInTheFormatsThatCameAndInW3c) {
  const Traced b3 = Trace("b3: " + std::string(kTraceHex) + "-" + std::string(kSpanHex) +
                          "-1-05e3ac9a4f6e3b90\r\nX-B3-ParentSpanId: 05e3ac9a4f6e3b90\r\n");
  const std::string span = observe::ToHex(b3.exchange.client_span_id);
  EXPECT_EQ(observe::ToHex(b3.exchange.parent_span_id), kSpanHex);
  EXPECT_NE(span, kSpanHex);
  EXPECT_EQ(b3.upstream, Request(TraceParentLine(kTraceHex, span, "01") +
                                 "b3: " + std::string(kTraceHex) + "-" + span + "-1\r\n"));
  const Traced uber = Trace("Uber-Trace-Id: " + std::string(kTraceHex) + "%3A" +
                            std::string(kSpanHex) + "%3A0%3A0\r\nUberctx-User: me\r\n");
  EXPECT_FALSE(uber.exchange.sampled());
  const std::string uber_span = observe::ToHex(uber.exchange.client_span_id);
  EXPECT_EQ(uber.upstream,
            Request("Uberctx-User: me\r\n" + TraceParentLine(kTraceHex, uber_span, "00") +
                    "uber-trace-id: " + std::string(kTraceHex) + ":" + uber_span + ":0:0\r\n"));
}

TEST(RelayTraceTest, NeverTakesTheIncomingB3SpanForTheServers) {
  const Traced server = Trace(kB3Multi + "X-B3-Sampled: 1\r\n", Role::kServer);
  const std::string span = observe::ToHex(server.exchange.server_span_id);
  EXPECT_NE(span, kSpanHex);
  EXPECT_EQ(observe::ToHex(server.exchange.parent_span_id), kSpanHex);
  EXPECT_EQ(server.upstream, Request(TraceParentLine(kTraceHex, span, "01") +
                                     "x-b3-traceid: " + std::string(kTraceHex) +
                                     "\r\nx-b3-spanid: " + span + "\r\nx-b3-sampled: 1\r\n"));
}

TEST(RelayTraceTest, FollowsADecisionThatNamesNoTrace) {
  const Traced dropped = Trace("b3: 0\r\n");
  EXPECT_TRUE(IsNewTrace(dropped.exchange));
  EXPECT_FALSE(dropped.exchange.sampled());
  EXPECT_NE(dropped.upstream.find("\r\nb3: " + observe::ToHex(dropped.exchange.trace_id) + "-"),
            std::string::npos);
  const Traced kept = Trace("X-B3-Flags: 1\r\n", Role::kClient, /*ratio=*/0.0);
  EXPECT_TRUE(kept.exchange.sampled());
  EXPECT_TRUE(kept.exchange.trace_debug);
  EXPECT_NE(kept.upstream.find("\r\nx-b3-flags: 1\r\n"), std::string::npos);
}

TEST(RelayTraceTest, DecidesWhereB3LeftItOpen) {
  EXPECT_FALSE(Trace(kB3Multi, Role::kClient, /*ratio=*/0.0).exchange.sampled());
  const Traced kept = Trace(kB3Multi);
  EXPECT_TRUE(kept.exchange.sampled());
  EXPECT_EQ(kept.exchange.trace_state, "ot=th:0");
  EXPECT_EQ(observe::ToHex(kept.exchange.trace_id), kTraceHex);
}

TEST(RelayTraceTest, WritesTheFormatsThatTheWorkloadWants) {
  const TracedBy wanted = TraceWith({.formats = {.b3_multi = true}}, kIncoming);
  EXPECT_NE(wanted.upstream.find("x-b3-traceid: " + std::string(kTraceHex) + "\r\n"),
            std::string::npos);
}

TEST(RelayTraceTest, SamplesByTheClientsShareWhenAskedForATrace) {
  const model::TraceSettings settings{.sample_ratio = 0.0, .client_ratio = 1.0};
  EXPECT_FALSE(TraceWith(settings, "").exchange.sampled());
  const TracedBy forced = TraceWith(settings, "X-Client-Trace-Id: abc\r\n");
  EXPECT_TRUE(forced.exchange.sampled());
  EXPECT_NE(forced.upstream.find("X-Client-Trace-Id: abc\r\n"), std::string::npos);
  EXPECT_FALSE(TraceWith(settings, "X-Client-Trace-Id:\r\n").exchange.sampled());
  // Below a parent it changes nothing.
  EXPECT_FALSE(
      TraceWith(settings, "x-client-trace-id: abc\r\n" + TraceParentLine(kTraceHex, kSpanHex, "00"))
          .exchange.sampled());
}

TEST(RelayTraceTest, RestartsATraceFromOutsideWithALink) {
  const model::TraceSettings boundary{.is_boundary = true};
  const TracedBy restarted = TraceWith(boundary, kIncoming + "tracestate: a=1\r\n", Role::kServer,
                                       /*from_outside=*/true);
  EXPECT_TRUE(IsNewTrace(restarted.exchange));
  ASSERT_EQ(restarted.exchange.links.size(), 1U);
  const observe::SpanLink& link = restarted.exchange.links[0];
  EXPECT_EQ(observe::ToHex(link.trace_id), kTraceHex);
  EXPECT_EQ(observe::ToHex(link.span_id), kSpanHex);
  EXPECT_EQ(link.trace_flags, 1);
  EXPECT_EQ(link.trace_state, "a=1");
  EXPECT_EQ(restarted.upstream.find(std::string(kTraceHex)), std::string::npos);
  EXPECT_EQ(restarted.upstream.find("a=1"), std::string::npos);
}

TEST(RelayTraceTest, TakesNoSamplingOrderFromOutsideTheBoundary) {
  const model::TraceSettings boundary{
      .sample_ratio = 0.0, .client_ratio = 1.0, .is_boundary = true};
  for (const std::string& order :
       {kIncoming, std::string("b3: d\r\n"), std::string("x-client-trace-id: a\r\n"),
        kB3Multi + "X-B3-Flags: 1\r\n"}) {
    EXPECT_FALSE(TraceWith(boundary, order, Role::kServer, true).exchange.sampled()) << order;
  }
}

TEST(RelayTraceTest, ContinuesTheMeshsOwnTracesAtTheBoundary) {
  const model::TraceSettings boundary{.is_boundary = true};
  const TracedBy inside = TraceWith(boundary, kIncoming, Role::kServer, /*from_outside=*/false);
  EXPECT_EQ(observe::ToHex(inside.exchange.trace_id), kTraceHex);
  EXPECT_TRUE(inside.exchange.links.empty());
  // Without the option traces from outside are continued.
  const TracedBy open = TraceWith({}, kIncoming, Role::kServer, /*from_outside=*/true);
  EXPECT_EQ(observe::ToHex(open.exchange.trace_id), kTraceHex);
}

TEST(RelayTraceTest, TakesTagsFromHeadersOrTheirFallback) {
  const model::TraceSettings settings{
      .header_tags = {{.name = "tenant", .header = "x-tenant", .fallback = "none"},
                      {.name = "absent", .header = "x-absent", .fallback = ""},
                      {.name = "plan", .header = "x-plan", .fallback = "free"}}};
  const TracedBy both = TraceWith(settings,
                                  "X-Tenant: \xc3\xa9"
                                  "acme\r\nx-tenant: second\r\nX-Absent:\r\n",
                                  Role::kJoined);
  for (const auto& tags : {both.exchange.client_tags, both.exchange.server_tags}) {
    ASSERT_EQ(tags.size(), 2U);
    EXPECT_EQ(tags[0].name, "tenant");
    EXPECT_EQ(tags[0].value,
              "\xc3\xa9"
              "acme");
    EXPECT_EQ(tags[1].name, "plan");
    EXPECT_EQ(tags[1].value, "free");
  }
}

}  // namespace
}  // namespace weir::proxy
