// The formats of trace context beside W3C's, and reading and writing several of them in one
// request.
#include "agent/http/trace_headers.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/http/trace_formats.h"

namespace weir::http {
namespace {

const std::string kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string kShortTrace = "a3ce929d0e0e4736";
const std::string kSpan = "00f067aa0ba902b7";
const std::string kZeros = "0000000000000000";
const std::string kW3c = "00-" + kTrace + "-" + kSpan + "-01";
const std::string kOtherTrace = "11111111111111112222222222222222";

using Headers = std::vector<std::pair<std::string, std::string>>;

TraceContext Read(const Headers& headers) {
  TraceHeaders gathered;
  for (const auto& [name, value] : headers) {
    gathered.Note(name, value);
  }
  return gathered.Read(/*with_state=*/true);
}

// "TRACE-SPAN-DECISION", or "!" for a context without a parent and its decision.
std::string Text(const TraceContext& context) {
  static constexpr std::array<const char*, 4> kDecisions = {"none", "drop", "keep", "debug"};
  const std::string decision = kDecisions[static_cast<std::size_t>(context.decision)];
  return context.has_parent() ? FormatTraceId(context.trace_id) + "-" +
                                    FormatSpanId(context.parent_span_id) + "-" + decision
                              : "!" + decision;
}
std::string Text(const std::optional<ForeignContext>& foreign) {
  return foreign ? Text(TraceContext{.trace_id = foreign->trace_id,
                                     .parent_span_id = foreign->span_id,
                                     .decision = foreign->decision})
                 : "void";
}

// ---- B3 in one header ----

TEST(B3SingleTest, ReadsIdsStateAndParent) {
  const std::string ids = kTrace + "-" + kSpan;
  EXPECT_EQ(Text(ParseB3Single(ids)), ids + "-none");
  EXPECT_EQ(Text(ParseB3Single(ids + "-0")), ids + "-drop");
  EXPECT_EQ(Text(ParseB3Single(ids + "-1")), ids + "-keep");
  EXPECT_EQ(Text(ParseB3Single(ids + "-d")), ids + "-debug");
  EXPECT_EQ(Text(ParseB3Single(ids + "-1-05e3ac9a4f6e3b90")), ids + "-keep");
}

TEST(B3SingleTest, ReadsADecisionAlone) {
  EXPECT_EQ(Text(ParseB3Single("0")), "!drop");
  EXPECT_EQ(Text(ParseB3Single("1")), "!keep");
  EXPECT_EQ(Text(ParseB3Single("d")), "!debug");
}

TEST(B3SingleTest, FillsAShortTraceIdUpOnTheLeft) {
  EXPECT_EQ(Text(ParseB3Single(kShortTrace + "-" + kSpan + "-1")),
            kZeros + kShortTrace + "-" + kSpan + "-keep");
}

TEST(B3SingleTest, RefusesWhatIsMalformed) {
  const std::string ids = kTrace + "-" + kSpan;
  for (const std::string& bad : {std::string(),
                                 std::string("2"),
                                 std::string("-"),
                                 std::string("true"),
                                 kTrace,
                                 kTrace + "-",
                                 "-" + kSpan,
                                 ids + "-",
                                 ids + "-2",
                                 ids + "-D",
                                 ids + "-1-",
                                 ids + "-1-0",
                                 ids + "-1-" + kZeros,
                                 ids + "-1-" + kSpan + "-1",
                                 ids + " ",
                                 " " + ids,
                                 kTrace + "0-" + kSpan,
                                 kTrace.substr(1) + "-" + kSpan,
                                 kTrace + "-" + kSpan.substr(1),
                                 kZeros + kZeros + "-" + kSpan,
                                 kTrace + "-" + kZeros,
                                 kTrace + "-g0f067aa0ba902b7",
                                 kTrace + ":" + kSpan}) {
    EXPECT_EQ(Text(ParseB3Single(bad)), "void") << bad;
  }
}

// ---- B3 in several headers ----

TEST(B3MultiTest, ReadsIdsAndSampling) {
  const std::string ids = kTrace + "-" + kSpan;
  const auto read = [&](std::string_view sampled, std::string_view flags) {
    return Text(
        ParseB3Multi({.trace_id = kTrace, .span_id = kSpan, .sampled = sampled, .flags = flags}));
  };
  EXPECT_EQ(read("", ""), ids + "-none");
  EXPECT_EQ(read("1", ""), ids + "-keep");
  EXPECT_EQ(read("0", ""), ids + "-drop");
  EXPECT_EQ(read("true", ""), ids + "-keep");
  EXPECT_EQ(read("False", "0"), ids + "-drop");
  EXPECT_EQ(read("", "1"), ids + "-debug");
  EXPECT_EQ(read("0", "1"), ids + "-debug");  // debug implies sampled
  EXPECT_EQ(read("yes", ""), "void");
}

TEST(B3MultiTest, ReadsADecisionAlone) {
  EXPECT_EQ(Text(ParseB3Multi({.sampled = "0"})), "!drop");
  EXPECT_EQ(Text(ParseB3Multi({.flags = "1"})), "!debug");
  EXPECT_EQ(Text(ParseB3Multi({})), "void");
}

TEST(B3MultiTest, RefusesOneIdWithoutTheOtherAndBadIds) {
  EXPECT_EQ(Text(ParseB3Multi({.trace_id = kTrace, .sampled = "1"})), "void");
  EXPECT_EQ(Text(ParseB3Multi({.span_id = kSpan, .sampled = "1"})), "void");
  EXPECT_EQ(Text(ParseB3Multi({.trace_id = kZeros, .span_id = kSpan})), "void");
  EXPECT_EQ(Text(ParseB3Multi({.trace_id = kTrace, .span_id = kZeros})), "void");
  EXPECT_EQ(Text(ParseB3Multi({.trace_id = "12", .span_id = kSpan})), "void");
}

TEST(B3MultiTest, FillsAShortTraceIdUpOnTheLeft) {
  EXPECT_EQ(Text(ParseB3Multi({.trace_id = kShortTrace, .span_id = kSpan, .sampled = "1"})),
            kZeros + kShortTrace + "-" + kSpan + "-keep");
}

// ---- uber-trace-id ----

TEST(UberTraceIdTest, ReadsIdsAndFlags) {
  const std::string ids = kTrace + "-" + kSpan;
  EXPECT_EQ(Text(ParseUberTraceId(kTrace + ":" + kSpan + ":0:1")), ids + "-keep");
  EXPECT_EQ(Text(ParseUberTraceId(kTrace + ":" + kSpan + ":0:0")), ids + "-drop");
  EXPECT_EQ(Text(ParseUberTraceId(kTrace + ":" + kSpan + ":0:2")), ids + "-debug");
  EXPECT_EQ(Text(ParseUberTraceId(kTrace + ":" + kSpan + ":" + kSpan + ":03")), ids + "-debug");
  EXPECT_EQ(Text(ParseUberTraceId(kTrace + ":" + kSpan + "::9")), ids + "-keep");
}

TEST(UberTraceIdTest, TakesEncodedColons) {
  const std::string ids = kTrace + "-" + kSpan;
  EXPECT_EQ(Text(ParseUberTraceId(kTrace + "%3A" + kSpan + "%3A0%3A1")), ids + "-keep");
  EXPECT_EQ(Text(ParseUberTraceId(kTrace + "%3a" + kSpan + ":0%3a1")), ids + "-keep");
  EXPECT_EQ(Text(ParseUberTraceId(kTrace + "%3" + kSpan + "%3A0%3A1")), "void");
  EXPECT_EQ(Text(ParseUberTraceId("%%3A%3A%3A")), "void");
}

TEST(UberTraceIdTest, FillsShortIdsUpOnTheLeft) {
  EXPECT_EQ(Text(ParseUberTraceId("1:2:0:1")), kZeros + "0000000000000001-0000000000000002-keep");
  EXPECT_EQ(Text(ParseUberTraceId("ABC:0DEF:0:1")),
            kZeros + "0000000000000abc-0000000000000def-keep");
  EXPECT_EQ(Text(ParseUberTraceId(kShortTrace + ":" + kSpan + ":0:1")),
            kZeros + kShortTrace + "-" + kSpan + "-keep");
}

TEST(UberTraceIdTest, RefusesWhatIsMalformed) {
  for (const std::string& bad :
       {std::string(), std::string(":::"), std::string("1:2:0"), std::string("1:2:0:1:"),
        std::string("0:2:0:1"), std::string("1:0:0:1"), std::string("1:2:0:"),
        std::string("1:2:0:g"), std::string("1:2:0:001"), std::string("1:2:z:1"),
        std::string(":2:0:1"), kTrace + "0:2:0:1", "1:" + kSpan + "0:0:1",
        "1:2:" + kSpan + "0:1"}) {
    EXPECT_EQ(Text(ParseUberTraceId(bad)), "void") << bad;
  }
}

// ---- reading a request ----

TEST(TraceHeadersTest, IdentifiesNamesInAnyCase) {
  EXPECT_EQ(IdentifyTraceHeader("TraceParent"), TraceHeader::kTraceParent);
  EXPECT_EQ(IdentifyTraceHeader("X-B3-TraceId"), TraceHeader::kB3TraceId);
  EXPECT_EQ(IdentifyTraceHeader("B3"), TraceHeader::kB3);
  EXPECT_EQ(IdentifyTraceHeader("Uber-Trace-Id"), TraceHeader::kUberTraceId);
  for (const char* near :
       {"", "trace-parent", "traceparent2", "x-b3-trace-id", "b33", "uberctx-a", "baggage"}) {
    EXPECT_EQ(IdentifyTraceHeader(near), TraceHeader::kNone) << near;
  }
}

TEST(TraceHeadersTest, PrefersW3cThenB3SingleThenMultiThenJaeger) {
  const std::pair<std::string, std::string> w3c = {"traceparent", kW3c};
  const std::pair<std::string, std::string> single = {"b3", kTrace + "-0000000000000002-0"};
  const std::pair<std::string, std::string> uber = {"uber-trace-id", kTrace + ":4:0:1"};
  Headers headers = {uber,
                     {"X-B3-TraceId", kTrace},
                     {"X-B3-SpanId", "0000000000000003"},
                     {"X-B3-Sampled", "0"},
                     single,
                     w3c};
  EXPECT_EQ(Text(Read(headers)), kTrace + "-" + kSpan + "-keep");
  headers.pop_back();
  EXPECT_EQ(Text(Read(headers)), kTrace + "-0000000000000002-drop");
  headers.pop_back();
  EXPECT_EQ(Text(Read(headers)), kTrace + "-0000000000000003-drop");
  EXPECT_EQ(Text(Read({uber})), kTrace + "-0000000000000004-keep");
}

TEST(TraceHeadersTest, TakesTheNextFormatWhereOneIsVoid) {
  const Headers headers = {{"traceparent", "00-zz"},
                           {"tracestate", "a=1"},
                           {"b3", "nonsense"},
                           {"uber-trace-id", kTrace + ":" + kSpan + ":0:1"}};
  const TraceContext context = Read(headers);
  EXPECT_EQ(Text(context), kTrace + "-" + kSpan + "-keep");
  EXPECT_EQ(context.trace_state, "");
  EXPECT_TRUE(context.formats.Has(TraceFormat::kW3c));
  EXPECT_TRUE(context.formats.Has(TraceFormat::kB3Single));
  EXPECT_FALSE(context.formats.Has(TraceFormat::kB3Multi));
  EXPECT_TRUE(context.formats.Has(TraceFormat::kUber));
}

TEST(TraceHeadersTest, TakesEmptyHeadersAsNone) {
  const TraceContext context = Read({{"b3", ""},
                                     {"x-b3-traceid", " "},
                                     {"x-b3-sampled", ""},
                                     {"uber-trace-id", "\t"},
                                     {"traceparent", ""}});
  EXPECT_EQ(Text(context), "!none");
  EXPECT_EQ(context.formats, TraceFormats());
  // An empty b3 does not hide the others.
  EXPECT_EQ(Text(Read({{"b3", ""}, {"X-B3-TraceId", kTrace}, {"X-B3-SpanId", kSpan}})),
            kTrace + "-" + kSpan + "-none");
}

TEST(TraceHeadersTest, VoidsAFormatWhoseHeaderStandsThereTwice) {
  const std::string single = kTrace + "-" + kSpan + "-1";
  EXPECT_EQ(Text(Read({{"b3", single}, {"B3", single}})), "!none");
  EXPECT_EQ(
      Text(Read({{"x-b3-traceid", kTrace}, {"x-b3-traceid", kTrace}, {"x-b3-spanid", kSpan}})),
      "!none");
  const std::string uber = kTrace + ":" + kSpan + ":0:1";
  EXPECT_EQ(Text(Read({{"uber-trace-id", uber}, {"uber-trace-id", uber}})), "!none");
}

TEST(TraceHeadersTest, KeepsTheDebugFlagOfAnotherFormatOfTheSameTrace) {
  const std::string unsampled = "00-" + kTrace + "-" + kSpan + "-00";
  const TraceContext same = Read({{"traceparent", unsampled}, {"b3", kTrace + "-" + kSpan + "-d"}});
  EXPECT_EQ(Text(same), kTrace + "-" + kSpan + "-debug");
  EXPECT_EQ(same.flags & kSampledFlag, kSampledFlag);
  const TraceContext other =
      Read({{"traceparent", unsampled}, {"b3", kOtherTrace + "-" + kSpan + "-d"}});
  EXPECT_EQ(Text(other), kTrace + "-" + kSpan + "-drop");
  EXPECT_EQ(other.flags, 0);
}

TEST(TraceHeadersTest, ForgetsTheRequestBefore) {
  TraceHeaders headers;
  headers.Note("traceparent", kW3c);
  headers.Note("tracestate", "a=1");
  headers.Note("tracestate", "b=2");
  EXPECT_EQ(headers.Read(true).trace_state, "a=1,b=2");
  EXPECT_EQ(headers.Read(false).trace_state, "");
  headers.Clear();
  headers.Note("tracestate", "c=3");
  headers.Note("traceparent", kW3c);
  EXPECT_EQ(headers.Read(true).trace_state, "c=3");
}

// ---- writing one ----

std::string Write(bool sampled, bool debug, std::initializer_list<TraceFormat> formats,
                  std::string_view state = {}) {
  TraceFormats set;
  for (const TraceFormat format : formats) {
    set.Add(format);
  }
  TraceParent parent = *ParseTraceParent(kW3c);
  parent.flags = sampled ? kSampledFlag : 0;
  const OutgoingTraceHeaders headers({.parent = parent, .debug = debug}, state, set);
  std::string text;
  for (const HeaderView& header : headers.all()) {
    text.append(header.name).append("=").append(header.value).append(" ");
  }
  return text;
}

TEST(OutgoingTraceHeadersTest, WritesW3cAlways) {
  EXPECT_EQ(Write(true, false, {}), "traceparent=" + kW3c + " ");
  EXPECT_EQ(Write(true, false, {}, "a=b"), "traceparent=" + kW3c + " tracestate=a=b ");
}

TEST(OutgoingTraceHeadersTest, WritesEachFormatAskedForWithoutTheParentsId) {
  const std::string unsampled = "traceparent=00-" + kTrace + "-" + kSpan + "-00 ";
  const std::string sampled = "traceparent=" + kW3c + " ";
  EXPECT_EQ(Write(true, false, {TraceFormat::kB3Single}),
            sampled + "b3=" + kTrace + "-" + kSpan + "-1 ");
  EXPECT_EQ(Write(false, false, {TraceFormat::kB3Single}),
            unsampled + "b3=" + kTrace + "-" + kSpan + "-0 ");
  EXPECT_EQ(Write(true, false, {TraceFormat::kB3Multi}),
            sampled + "x-b3-traceid=" + kTrace + " x-b3-spanid=" + kSpan + " x-b3-sampled=1 ");
  EXPECT_EQ(Write(false, false, {TraceFormat::kUber}),
            unsampled + "uber-trace-id=" + kTrace + ":" + kSpan + ":0:0 ");
}

TEST(OutgoingTraceHeadersTest, KeepsTheDebugFlag) {
  const std::string text =
      Write(true, true, {TraceFormat::kB3Single, TraceFormat::kB3Multi, TraceFormat::kUber}, "a=b");
  EXPECT_EQ(text, "traceparent=" + kW3c + " tracestate=a=b b3=" + kTrace + "-" + kSpan +
                      "-d x-b3-traceid=" + kTrace + " x-b3-spanid=" + kSpan +
                      " x-b3-flags=1 uber-trace-id=" + kTrace + ":" + kSpan + ":0:3 ");
}

}  // namespace
}  // namespace weir::http
