// The cases of the W3C's test suite for Trace Context services, put to the whole of a service
// in the mesh: weir delivers a request to the application (SERVER), which forwards its trace
// headers, and weir sends that on (CLIENT). What goes out at the end is what the suite's
// callback would get.
#include <gtest/gtest.h>

#include <cctype>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/http/http1_parser.h"
#include "agent/http/trace_context.h"
#include "tests/support/http1_relay_rig.h"

namespace weir::proxy {
namespace {

using Rig = test::Http1RelayRig;
using Headers = std::vector<std::pair<std::string, std::string>>;

const std::string kTraceId = "12345678901234567890123456789012";
const std::string kParentId = "1234567890123456";
const std::string kGood = "00-" + kTraceId + "-" + kParentId + "-01";

struct Context {
  std::string trace_id;
  std::string parent_id;
  std::string flags;
  std::string state;
  std::vector<std::pair<std::string, std::string>> members;  // of the state, in order

  [[nodiscard]] bool continues() const { return trace_id == kTraceId; }
  [[nodiscard]] std::string Member(std::string_view key) const {
    for (const auto& [name, value] : members) {
      if (name == key) {
        return value;
      }
    }
    return "!";
  }
};

// The trace headers of the one request in `bytes`.
Headers TraceHeadersOf(std::string_view bytes) {
  http::RequestHead head;
  EXPECT_EQ(http::ParseRequestHead(bytes, head), http::Http1Error::kNone);
  Headers headers;
  for (const http::Field& field : head.fields) {
    if (http::IdentifyTraceHeader(field.name) != http::TraceHeader::kNone) {
      headers.emplace_back(field.name, field.value);
    }
  }
  return headers;
}

std::string Request(const Headers& headers) {
  std::string request = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (const auto& [name, value] : headers) {
    request += name + ": " + value + "\r\n";
  }
  return request + "\r\n";
}

Context Parse(const Headers& headers) {
  Context context;
  std::size_t parents = 0;
  for (const auto& [name, value] : headers) {
    if (name == "traceparent") {
      ++parents;
      EXPECT_EQ(value.size(), http::kTraceParentBytes);
      EXPECT_EQ(value.substr(0, 3), "00-");
      context.trace_id = value.substr(3, 32);
      context.parent_id = value.substr(36, 16);
      context.flags = value.substr(53);
    } else {
      EXPECT_EQ(name, "tracestate");
      context.state += (context.state.empty() ? "" : ",") + value;
    }
  }
  EXPECT_EQ(parents, 1U);
  std::string_view rest = context.state;
  while (!rest.empty()) {
    const std::string member(rest.substr(0, rest.find(',')));
    rest.remove_prefix(std::min(member.size() + 1, rest.size()));
    context.members.emplace_back(member.substr(0, member.find('=')),
                                 member.substr(member.find('=') + 1));
  }
  return context;
}

// What a caller of such a service sees arrive at the service's own callee.
Context Call(const Headers& headers) {
  Rig delivers(Rig::Role::kServer);
  delivers.Downstream(Request(headers));
  const std::string at_application = delivers.upstream();
  Rig sends(Rig::Role::kClient);
  sends.Downstream(Request(TraceHeadersOf(at_application)));
  return Parse(TraceHeadersOf(sends.upstream()));
}

Context CallWithState(const Headers& states) {
  Headers headers = {{"traceparent", kGood}};
  headers.insert(headers.end(), states.begin(), states.end());
  return Call(headers);
}

void ExpectRestarts(const Headers& headers) {
  const Context context = Call(headers);
  EXPECT_FALSE(context.continues()) << headers[0].second;
  EXPECT_NE(context.trace_id, std::string(32, '0'));
  for (const auto& [name, value] : headers) {
    EXPECT_EQ(context.state.find("foo"), std::string::npos) << value;
  }
}

// ---- traceparent ----

TEST(W3cConformanceTest, MakesATraceWhenBothAreMissing) {
  const Context context = Call({});
  EXPECT_NE(context.trace_id, std::string(32, '0'));
  EXPECT_NE(context.parent_id, std::string(16, '0'));
}

TEST(W3cConformanceTest, ContinuesATraceWithoutTracestate) {
  const Context context = Call({{"traceparent", kGood}});
  EXPECT_TRUE(context.continues());
  EXPECT_NE(context.parent_id, kParentId);
  EXPECT_EQ(context.flags, "01");
  EXPECT_EQ(context.state, "");
}

TEST(W3cConformanceTest, RestartsAtADuplicatedTraceparent) {
  ExpectRestarts({{"traceparent", kGood}, {"traceparent", kGood}, {"tracestate", "foo=1"}});
  ExpectRestarts({{"traceparent", kGood},
                  {"traceparent", "00-12345678901234567890123456789011-1234567890123455-01"}});
}

TEST(W3cConformanceTest, IgnoresNamesThatAreNear) {
  for (const char* name : {"trace-parent", "trace.parent", "trace_parent", "traceparents"}) {
    EXPECT_FALSE(Call({{name, kGood}}).continues()) << name;
  }
}

TEST(W3cConformanceTest, TakesTheNameInAnyCase) {
  for (const char* name : {"TraceParent", "TrAcEpArEnT", "TRACEPARENT"}) {
    EXPECT_TRUE(Call({{name, kGood}}).continues()) << name;
  }
}

TEST(W3cConformanceTest, ReadsVersions) {
  const std::string rest = kGood.substr(2);
  ExpectRestarts({{"traceparent", "00" + rest + "."}, {"tracestate", "foo=1"}});
  ExpectRestarts({{"traceparent", "00" + rest + "-what-the-future-will-be-like"}});
  EXPECT_TRUE(Call({{"traceparent", "cc" + rest}}).continues());
  EXPECT_TRUE(Call({{"traceparent", "cc" + rest + "-what-the-future-will-be-like"}}).continues());
  ExpectRestarts({{"traceparent", "cc" + rest + ".what-the-future-will-be-like"}});
  ExpectRestarts({{"traceparent", "ff" + rest}});
  for (const char* bad : {".0", "0.", "000", "0000", "0"}) {
    ExpectRestarts({{"traceparent", bad + rest}});
  }
}

TEST(W3cConformanceTest, RestartsAtABadTraceId) {
  for (const std::string& bad :
       {std::string(32, '0'), "." + kTraceId.substr(1), kTraceId.substr(1) + ".", kTraceId + "3",
        kTraceId.substr(1), std::string("1234567890123456789012345678901X")}) {
    ExpectRestarts(
        {{"traceparent", "00-" + bad + "-" + kParentId + "-01"}, {"tracestate", "foo=1"}});
  }
}

TEST(W3cConformanceTest, RestartsAtABadParentId) {
  for (const std::string& bad : {std::string(16, '0'), "." + kParentId.substr(1),
                                 kParentId.substr(1) + ".", kParentId + "7", kParentId.substr(1)}) {
    ExpectRestarts({{"traceparent", "00-" + kTraceId + "-" + bad + "-01"}});
  }
}

TEST(W3cConformanceTest, RestartsAtBadFlags) {
  for (const char* bad : {".0", "0.", "001", "1", "", "0G"}) {
    ExpectRestarts({{"traceparent", "00-" + kTraceId + "-" + kParentId + "-" + bad}});
  }
}

TEST(W3cConformanceTest, TrimsWhiteSpaceAroundTraceparent) {
  for (const std::string& value :
       {" " + kGood, "\t" + kGood, kGood + " ", kGood + "\t", "\t " + kGood + " \t"}) {
    EXPECT_TRUE(Call({{"traceparent", value}}).continues());
  }
}

TEST(W3cConformanceTest, ZeroesFlagsThatItDoesNotKnow) {
  EXPECT_EQ(Call({{"traceparent", kGood.substr(0, 53) + "ff"}}).flags, "03");
  EXPECT_EQ(Call({{"traceparent", kGood.substr(0, 53) + "00"}}).flags, "00");
}

// ---- tracestate ----

TEST(W3cConformanceTest, DropsATracestateWithoutTraceparent) {
  const Context one = Call({{"tracestate", "foo=1"}});
  const Context two = Call({{"tracestate", "foo=1,bar=2"}});
  EXPECT_EQ(one.members.size(), two.members.size());
  EXPECT_EQ(one.Member("foo"), "!");
}

TEST(W3cConformanceTest, KeepsATracestate) {
  const Context context = CallWithState({{"tracestate", "foo=1,bar=2"}});
  EXPECT_TRUE(context.continues());
  EXPECT_EQ(context.state, "foo=1,bar=2");
}

TEST(W3cConformanceTest, ReadsTheTracestateByItsNameInAnyCase) {
  EXPECT_EQ(CallWithState({{"TraceState", "foo=1"}}).Member("foo"), "1");
  EXPECT_EQ(CallWithState({{"TRACESTATE", "foo=1"}}).Member("foo"), "1");
  EXPECT_EQ(CallWithState({{"trace-state", "foo=1"}}).Member("foo"), "!");
  EXPECT_EQ(CallWithState({{"trace.state", "foo=1"}}).Member("foo"), "!");
}

TEST(W3cConformanceTest, AllowsAnEmptyTracestate) {
  EXPECT_TRUE(CallWithState({{"tracestate", ""}}).continues());
  EXPECT_EQ(CallWithState({{"tracestate", "foo=1"}, {"tracestate", ""}}).Member("foo"), "1");
  EXPECT_EQ(CallWithState({{"tracestate", ""}, {"tracestate", "foo=1"}}).Member("foo"), "1");
}

TEST(W3cConformanceTest, JoinsSeveralTracestates) {
  EXPECT_EQ(CallWithState({{"tracestate", "foo=1,"}}).state, "foo=1");
  EXPECT_EQ(
      CallWithState(
          {{"tracestate", "foo=1"}, {"tracestate", "bar=2"}, {"tracestate", "rojo=3,congo=4"}})
          .state,
      "foo=1,bar=2,rojo=3,congo=4");
}

TEST(W3cConformanceTest, KeepsOrTakesOneOfDuplicatedKeys) {
  EXPECT_EQ(CallWithState({{"tracestate", "foo=1,foo=1"}}).Member("foo"), "1");
  const std::string either = CallWithState({{"tracestate", "foo=1,foo=2"}}).Member("foo");
  EXPECT_TRUE(either == "1" || either == "2");
}

TEST(W3cConformanceTest, AllowsEveryCharacterThatIsAllowed) {
  const std::string key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
  EXPECT_EQ(CallWithState({{"tracestate", key + "=1"}}).Member(key), "1");
  const std::string vendor = "0123456789abcdefghijklmnopqrstuvwxyz_-*/@a-z0-9_-*/";
  EXPECT_EQ(CallWithState({{"tracestate", vendor + "=1"}}).Member(vendor), "1");
  std::string value;
  for (char c = ' '; c <= '~'; ++c) {
    value += c == ',' || c == '=' ? '\'' : c;
  }
  EXPECT_EQ(CallWithState({{"tracestate", "foo=" + value}}).Member("foo"), value);
}

TEST(W3cConformanceTest, TrimsWhiteSpaceAroundMembers) {
  for (const char* value :
       {"foo=1 \t , \t bar=2, \t baz=3", " foo=1,bar=2,baz=3", "foo=1\t,bar=2,baz=3 "}) {
    EXPECT_EQ(CallWithState({{"tracestate", value}}).state, "foo=1,bar=2,baz=3") << value;
  }
}

TEST(W3cConformanceTest, DropsATracestateWithABadKeyAndKeepsTheTrace) {
  for (const char* bad :
       {"foo =1", "FOO=1", "foo.bar=1", "@foo=1", "@=1", "foo@ =1", " =1", "=1"}) {
    const Context context = CallWithState({{"tracestate", bad}});
    EXPECT_TRUE(context.continues()) << bad;
    EXPECT_EQ(context.state, "") << bad;
  }
  // Level 2 takes away level 1's rules for what stands around an @.
  for (const char* good : {"foo@=1,bar=2", "foo@@bar=1,bar=2", "foo@bar@baz=1,bar=2"}) {
    EXPECT_EQ(CallWithState({{"tracestate", good}}).state, good);
  }
}

TEST(W3cConformanceTest, DropsATracestateWithABadValueAndKeepsTheTrace) {
  for (const char* bad : {"foo=bar=baz", "foo=,bar=3", "foo", "foo=b\xc3\xa4r"}) {
    const Context context = CallWithState({{"tracestate", bad}});
    EXPECT_TRUE(context.continues()) << bad;
    EXPECT_EQ(context.state, "") << bad;
  }
}

TEST(W3cConformanceTest, Keeps32MembersAndDrops33) {
  std::string members;
  for (int i = 0; i < 32; ++i) {
    members += (members.empty() ? "bar" : ",bar") + std::to_string(i) + "=" + std::to_string(i);
  }
  EXPECT_EQ(CallWithState({{"tracestate", members}}).members.size(), 32U);
  const Context more = CallWithState({{"tracestate", members + ",bar32=32"}});
  EXPECT_TRUE(more.continues());
  EXPECT_EQ(more.state, "");
}

TEST(W3cConformanceTest, LimitsKeysAndValuesTo256) {
  const std::string key(256, 'z');
  EXPECT_EQ(CallWithState({{"tracestate", key + "=1"}}).Member(key), "1");
  EXPECT_EQ(CallWithState({{"tracestate", key + "z=1"}}).state, "");
  const std::string value(256, 'v');
  EXPECT_EQ(CallWithState({{"tracestate", "foo=" + value}}).Member("foo"), value);
  EXPECT_EQ(CallWithState({{"tracestate", "foo=" + value + "v"}}).state, "");
}

// ---- several requests ----

TEST(W3cConformanceTest, GivesEachOfManyCallsASpanOfItsOwn) {
  std::set<std::string> parents;
  Rig rig(Rig::Role::kClient);
  for (int i = 0; i < 50; ++i) {
    rig.Forget();
    rig.Downstream(Request({{"traceparent", kGood}, {"tracestate", "foo=1"}}));
    const Context context = Parse(TraceHeadersOf(rig.upstream()));
    EXPECT_TRUE(context.continues());
    EXPECT_EQ(context.Member("foo"), "1");
    parents.insert(context.parent_id);
    rig.Upstream("HTTP/1.1 204 No Content\r\n\r\n");
  }
  EXPECT_EQ(parents.size(), 50U);
  EXPECT_FALSE(parents.contains(kParentId));
}

}  // namespace
}  // namespace weir::proxy
