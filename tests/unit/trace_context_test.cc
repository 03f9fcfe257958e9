#include "agent/http/trace_context.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>
#include <string_view>

namespace weir::http {
namespace {

constexpr std::string_view kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr std::string_view kSpan = "00f067aa0ba902b7";

std::string Parent(std::string_view version, std::string_view trace, std::string_view span,
                   std::string_view flags) {
  return std::string(version) + "-" + std::string(trace) + "-" + std::string(span) + "-" +
         std::string(flags);
}

// What goes out for a traceparent that came in, "" if it is void.
std::string RoundTrip(std::string_view value) {
  const auto parent = ParseTraceParent(value);
  if (!parent) {
    return "";
  }
  const auto text = FormatTraceParent(*parent);
  return {text.data(), text.size()};
}

std::string Repeat(std::string_view text, std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i) {
    all += text;
  }
  return all;
}

// ---- traceparent; the rules R1, R7, R8, R10, R11, R19 and R21 are
// the relay's (request_trace_test.cc) ----

TEST(TraceParentTest, TakesLowerCaseHexOnly) {  // R2
  const std::string good = Parent("00", kTrace, kSpan, "01");
  EXPECT_EQ(RoundTrip(good), good);
  EXPECT_EQ(RoundTrip(Parent("00", "4BF92F3577B34DA6A3CE929D0E0E4736", kSpan, "01")), "");
  EXPECT_EQ(RoundTrip(Parent("00", kTrace, "00F067AA0BA902B7", "01")), "");
  EXPECT_EQ(RoundTrip(Parent("00", kTrace, kSpan, "0A")), "");
  EXPECT_EQ(RoundTrip(Parent("0A", kTrace, kSpan, "01")), "");
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = bad[i] == '-' ? 'a' : 'g';
    EXPECT_EQ(RoundTrip(bad), "") << i;
    bad[i] = '\0';
    EXPECT_EQ(RoundTrip(bad), "") << i;
  }
}

TEST(TraceParentTest, RefusesVersionFfAndAnOtherLengthOfVersion00) {  // R3
  const std::string good = Parent("00", kTrace, kSpan, "01");
  EXPECT_EQ(RoundTrip(Parent("ff", kTrace, kSpan, "01")), "");
  EXPECT_EQ(RoundTrip(good + "-"), "");
  EXPECT_EQ(RoundTrip(good + "-what-the-future"), "");
  EXPECT_EQ(RoundTrip(good + "0"), "");
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(RoundTrip(good.substr(0, size)), "") << size;
  }
}

TEST(TraceParentTest, ReadsAHigherVersionByItsFirst55Characters) {  // R4
  const std::string as_00 = Parent("00", kTrace, kSpan, "01");
  const std::string higher = Parent("cc", kTrace, kSpan, "01");
  EXPECT_EQ(RoundTrip(higher), as_00);
  EXPECT_EQ(RoundTrip(higher + "-what-the-future"), as_00);
  EXPECT_EQ(RoundTrip(higher + "-"), as_00);
  EXPECT_EQ(RoundTrip(higher + ".what"), "");
  EXPECT_EQ(RoundTrip(higher + "1"), "");
  EXPECT_EQ(RoundTrip(higher.substr(0, 54)), "");
}

TEST(TraceParentTest, RefusesZeroIds) {  // R5
  EXPECT_EQ(RoundTrip(Parent("00", Repeat("0", 32), kSpan, "01")), "");
  EXPECT_EQ(RoundTrip(Parent("00", kTrace, Repeat("0", 16), "01")), "");
  EXPECT_EQ(ParseTraceParent(Parent("00", Repeat("0", 32), kSpan, "01")).error(),
            TraceContextError::kZeroId);
}

TEST(TraceParentTest, TrimsWhiteSpaceAround) {  // R6
  const std::string good = Parent("00", kTrace, kSpan, "01");
  EXPECT_EQ(RoundTrip(" \t" + good + "\t "), good);
  EXPECT_EQ(RoundTrip("\x0b" + good), "");
}

TEST(TraceParentTest, KeepsSampledAndRandomFlagsOnly) {  // R9
  EXPECT_EQ(RoundTrip(Parent("00", kTrace, kSpan, "ff")), Parent("00", kTrace, kSpan, "03"));
  EXPECT_EQ(RoundTrip(Parent("00", kTrace, kSpan, "fd")), Parent("00", kTrace, kSpan, "01"));
  EXPECT_EQ(RoundTrip(Parent("00", kTrace, kSpan, "02")), Parent("00", kTrace, kSpan, "02"));
  EXPECT_EQ(RoundTrip(Parent("00", kTrace, kSpan, "fc")), Parent("00", kTrace, kSpan, "00"));
  EXPECT_EQ(RoundTrip(Parent("00", kTrace, kSpan, ".1")), "");
}

// ---- tracestate ----

// "!" when the whole header is to be dropped.
std::string State(std::string_view value) {
  return ParseTraceState(value).value_or("!");
}

TEST(TraceStateTest, KeepsTheOrderOfJoinedMembers) {  // R12
  EXPECT_EQ(State("foo=1,bar=2,baz=3"), "foo=1,bar=2,baz=3");
  EXPECT_EQ(State("foo=1 \t , \tbar=2, baz=3"), "foo=1,bar=2,baz=3");
}

TEST(TraceStateTest, DropsAllOf33Members) {  // R13
  std::string members = "k0=1";
  for (int i = 1; i < 32; ++i) {
    members += ",k" + std::to_string(i) + "=1";
  }
  EXPECT_EQ(State(members), members);
  EXPECT_EQ(State(members + ",one=more"), "!");
  EXPECT_EQ(ParseTraceState(members + ",one=more").error(), TraceContextError::kTooManyMembers);
  EXPECT_EQ(State(members + ",,"), members);  // empty ones do not count
}

TEST(TraceStateTest, ChecksKeys) {  // R14
  const std::string longest = "a" + Repeat("z", 255);
  for (const std::string& good :
       {std::string("foo"), std::string("0"), std::string("foo@"), std::string("foo@@bar"),
        std::string("a_-*/@9"), std::string("t@v"), longest}) {
    EXPECT_EQ(State(good + "=1"), good + "=1");
  }
  for (const std::string& bad :
       {std::string("@foo"), std::string("_a"), std::string("-a"), std::string("*"),
        std::string("/"), std::string("Foo"), std::string("fOo"), std::string("foo "),
        std::string("f o"), std::string("foo."), std::string("fo\xc3\xb6"), std::string(""),
        longest + "z"}) {
    EXPECT_EQ(State(bad + "=1"), "!") << bad;
  }
  EXPECT_EQ(State("foo"), "!");
}

TEST(TraceStateTest, ChecksValues) {  // R15
  const std::string longest = Repeat("v", 256);
  EXPECT_EQ(State("a=" + longest), "a=" + longest);
  EXPECT_EQ(State("a=" + longest + "v"), "!");
  EXPECT_EQ(State("a= b c"), "a= b c");
  EXPECT_EQ(State("a=~!\"#$%&'()*+-./:;<>?@[\\]^_`{|}"), "a=~!\"#$%&'()*+-./:;<>?@[\\]^_`{|}");
  EXPECT_EQ(State("a=b "), "a=b");  // white space behind a member is the list's
  EXPECT_EQ(State("a="), "!");
  EXPECT_EQ(State("a= "), "!");
  EXPECT_EQ(State("a=b=c"), "!");
  EXPECT_EQ(State("a=b\tc"), "!");
  EXPECT_EQ(State("a=\x7f"), "!");
  EXPECT_EQ(State("a=\xc3\xa9"), "!");
}

TEST(TraceStateTest, AllowsEmptyMembers) {  // R16
  EXPECT_EQ(State("foo=1,,bar=2, ,\t,"), "foo=1,bar=2");
  EXPECT_EQ(State(""), "");
  EXPECT_EQ(State(" ,"), "");
}

TEST(TraceStateTest, DropsTheWholeHeaderForOneBadMember) {  // R17
  EXPECT_EQ(State("foo=1,BAR=2,baz=3"), "!");
  EXPECT_EQ(State("foo=1,bar"), "!");
}

TEST(TraceStateTest, KeepsDuplicates) {  // R18
  EXPECT_EQ(State("foo=1,foo=2,foo=1"), "foo=1,foo=2,foo=1");
}

TEST(TraceStateTest, CutsWholeMembersLongOnesFirst) {  // R20
  // 512 characters pass whole.
  const std::string full = "a=" + Repeat("1", 254) + ",b=" + Repeat("2", 253);
  ASSERT_EQ(full.size(), kMaxTraceStateBytes);
  EXPECT_EQ(State(full), full);
  // One more: the last member of more than 128 characters goes, the short ones stay.
  EXPECT_EQ(State(full + ",c=3"), "a=" + Repeat("1", 254) + ",c=3");
  // 128 characters are not long: then members go from the end.
  const std::string member = "=" + Repeat("v", 126);
  const std::string five = "a" + member + ",b" + member + ",c" + member + ",d" + member;
  ASSERT_EQ(member.size() + 1, 128U);
  EXPECT_EQ(State(five), "a" + member + ",b" + member + ",c" + member);
}

// ---- sampling and ids ----

TEST(RatioSamplerTest, WritesTheThresholdOfTheRatio) {
  EXPECT_EQ(RatioSampler(1.0).member(), "ot=th:0");
  EXPECT_EQ(RatioSampler(0.5).member(), "ot=th:8");
  EXPECT_EQ(RatioSampler(0.25).member(), "ot=th:c");
  EXPECT_EQ(RatioSampler(0.01).member(), "ot=th:fd70a4");
  EXPECT_EQ(RatioSampler(0.0).member(), "");
}

TEST(RatioSamplerTest, KeepsAllOrNothingAtTheEnds) {
  IdGenerator ids(1);
  const RatioSampler all(1.0);
  const RatioSampler more(7.0);
  const RatioSampler none(0.0);
  const RatioSampler negative(-1.0);
  const RatioSampler not_a_number(std::nan(""));
  TraceId highest{};
  highest.fill(0xff);
  TraceId lowest{};
  lowest.fill(0);
  for (const TraceId& id : {ids.NewTraceId(), highest, lowest}) {
    EXPECT_TRUE(all.Keeps(id));
    EXPECT_TRUE(more.Keeps(id));
    EXPECT_FALSE(none.Keeps(id));
    EXPECT_FALSE(negative.Keeps(id));
    EXPECT_FALSE(not_a_number.Keeps(id));
  }
}

TEST(RatioSamplerTest, ComparesTheLow56BitsWithTheThreshold) {
  const RatioSampler half(0.5);
  TraceId id{};
  id.fill(0xff);
  id[9] = 0x80;  // the first of the seven random octets
  for (std::size_t i = 10; i < id.size(); ++i) {
    id[i] = 0;
  }
  EXPECT_TRUE(half.Keeps(id));
  id[9] = 0x7f;
  id[15] = 0xff;
  EXPECT_FALSE(half.Keeps(id));
}

TEST(RandomnessTest, PrefersTheExplicitValue) {
  TraceId id{};
  id[8] = 0xff;  // not one of the 56 bits
  id[9] = 0x12;
  id[15] = 0x34;
  EXPECT_EQ(RandomnessOf(id, ""), 0x12000000000034U);
  EXPECT_EQ(RandomnessOf(id, "a=1,ot=th:8;rv:00000000000abc,b=2"), 0xabcU);
  EXPECT_EQ(RandomnessOf(id, "ot=rv:ffffffffffffff"), 0xffffffffffffffU);
  // Not 14 lower-case digits, or not the ot member's.
  for (const char* none :
       {"ot=rv:abc", "ot=rv:0000000000ABCD", "ot=rv:000000000000abc", "ot=th:8",
        "dot=rv:00000000000abc", "a=rv:00000000000abc", "ot=xrv:0000000000abc"}) {
    EXPECT_EQ(RandomnessOf(id, none), 0x12000000000034U) << none;
  }
}

TEST(WithThresholdTest, WritesItsMemberFirstAndKeepsTheOtherSubKeys) {
  EXPECT_EQ(WithThreshold("", "8"), "ot=th:8");
  EXPECT_EQ(WithThreshold("a=1,b=2", "fd70a4"), "ot=th:fd70a4,a=1,b=2");
  EXPECT_EQ(WithThreshold("a=1,ot=rv:00000000000abc,b=2", "8"),
            "ot=th:8;rv:00000000000abc,a=1,b=2");
  EXPECT_EQ(WithThreshold("ot=th:c;rv:00000000000abc;x:y", "8"), "ot=th:8;rv:00000000000abc;x:y");
  EXPECT_EQ(WithThreshold("ot=th:c;x:y,a=1", ""), "ot=x:y,a=1");
  EXPECT_EQ(WithThreshold("ot=th:c,a=1", ""), "a=1");
}

TEST(WithThresholdTest, KeepsTheLimits) {
  const std::string long_ot = "ot=x:" + Repeat("y", 254);
  EXPECT_EQ(WithThreshold(long_ot, "8"), "ot=th:8");  // no room for the rest
  // A long member would be the first to be cut for the total: then only the threshold stays.
  const std::string others =
      ",a=" + Repeat("1", 120) + ",b=" + Repeat("2", 120) + ",c=" + Repeat("3", 110);
  EXPECT_EQ(WithThreshold("ot=x:" + Repeat("y", 150) + others, "8"), "ot=th:8" + others);
  std::string members = "k0=1";
  for (int i = 1; i < 32; ++i) {
    members += ",k" + std::to_string(i) + "=1";
  }
  const std::string cut = WithThreshold(members, "8");
  EXPECT_EQ(cut.substr(0, 12), "ot=th:8,k0=1");
  EXPECT_EQ(cut.find("k31"), std::string::npos);
  EXPECT_TRUE(ParseTraceState(cut).has_value());
}

TEST(RatioSamplerTest, KeepsItsShareWithin3SigmaAndNestsTheSets) {
  constexpr int kCount = 1'000'000;
  const std::array<double, 4> ratios = {0.001, 0.01, 0.1, 0.5};
  std::array<int, 4> kept{};
  IdGenerator ids(20);
  for (int i = 0; i < kCount; ++i) {
    const TraceId id = ids.NewTraceId();
    bool smaller = false;
    for (std::size_t r = 0; r < ratios.size(); ++r) {
      static const std::array<RatioSampler, 4> kSamplers = {
          RatioSampler(ratios[0]), RatioSampler(ratios[1]), RatioSampler(ratios[2]),
          RatioSampler(ratios[3])};
      const bool keeps = kSamplers[r].Keeps(id);
      ASSERT_TRUE(keeps || !smaller) << "a higher ratio lost what a lower one kept";
      smaller = keeps;
      kept[r] += keeps ? 1 : 0;
    }
  }
  for (std::size_t r = 0; r < ratios.size(); ++r) {
    const double sigma = std::sqrt(kCount * ratios[r] * (1 - ratios[r]));
    EXPECT_NEAR(kept[r], kCount * ratios[r], 3 * sigma) << ratios[r];
  }
}

TEST(IdGeneratorTest, MakesDifferentIdsThatAreNeverZero) {
  IdGenerator first;
  IdGenerator second;
  std::set<TraceId> traces;
  std::set<SpanId> spans;
  constexpr std::size_t kCount = 10'000;
  for (std::size_t i = 0; i < kCount; ++i) {
    traces.insert(first.NewTraceId());
    traces.insert(second.NewTraceId());
    spans.insert(first.NewSpanId());
  }
  EXPECT_EQ(traces.size(), 2 * kCount);
  EXPECT_EQ(spans.size(), kCount);
  EXPECT_FALSE(traces.contains(TraceId{}));
  EXPECT_FALSE(spans.contains(SpanId{}));
}

}  // namespace
}  // namespace weir::http
