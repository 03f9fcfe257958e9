#include "agent/http/forwarded.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace weir::http {
namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

// "HOST|SCHEME|CLIENT".
std::string Read(const Headers& headers) {
  ForwardedHeaders gathered;
  for (const auto& [name, value] : headers) {
    gathered.Note(name, value);
  }
  const ForwardedFacts facts = gathered.Read();
  return std::string(facts.host) + "|" + std::string(facts.scheme) + "|" + facts.client;
}

std::string Forwarded(const std::string& value) {
  return Read({{"Forwarded", value}});
}

TEST(ForwardedTest, ReadsTheFirstElement) {
  EXPECT_EQ(Forwarded("for=192.0.2.43;host=shop.test:81;proto=https"),
            "shop.test:81|https|192.0.2.43");
  EXPECT_EQ(Forwarded("For=\"[2001:db8:cafe::17]:4711\" ; Host=\"a.test\";by=203.0.113.60"),
            "a.test||2001:db8:cafe::17");
  EXPECT_EQ(Forwarded("for=192.0.2.43, for=198.51.100.17;host=second.test"), "||192.0.2.43");
  EXPECT_EQ(Forwarded("for=192.0.2.43:8080;proto=HTTP"), "|http|192.0.2.43");
}

TEST(ForwardedTest, LeavesOutWhatIsNoHostSchemeOrAddress) {
  EXPECT_EQ(Forwarded("for=unknown;proto=gopher;host=\"a b\""), "||");
  EXPECT_EQ(Forwarded("for=_hidden;host=\"\""), "||");
  EXPECT_EQ(Forwarded("host=\"a\\\"b\";proto=https"), "||");  // escaped: not read on
  for (const char* bad :
       {"", "=", "for", "for=", "for=[", "for=[]", ";;", ",", "for=\"", "a b=c"}) {
    EXPECT_EQ(Forwarded(bad), "||") << bad;
  }
}

TEST(ForwardedTest, TakesTheOlderHeadersWhereForwardedIsSilent) {
  EXPECT_EQ(Read({{"X-Forwarded-For", "192.0.2.1, 10.0.0.1"},
                  {"X-Forwarded-Host", "shop.test, inner.test"},
                  {"x-forwarded-proto", "https"}}),
            "shop.test|https|192.0.2.1");
  EXPECT_EQ(Read({{"X-Forwarded-Host", "old.test"}, {"Forwarded", "host=new.test"}}), "new.test||");
  EXPECT_EQ(Read({{"X-Forwarded-For", "2001:db8::1"}}), "||2001:db8::1");
  EXPECT_EQ(Read({{"X-Forwarded-Host", "first.test"}, {"X-Forwarded-Host", "second.test"}}),
            "first.test||");
}

}  // namespace
}  // namespace weir::http
