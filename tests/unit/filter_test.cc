#include "agent/admin/filter.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "tests/support/flow_records.h"

namespace weir::admin {
namespace {

bool Matches(const std::string& text, const observe::Record& record) {
  const auto filter = Filter::Compile(text);
  EXPECT_TRUE(filter.has_value()) << text << ": " << filter.error().message;
  return filter && filter->Matches(record.flow);
}

bool MatchesRequest(const std::string& text) {
  return Matches(text, test::MakeRequest());
}

FilterError ErrorOf(const std::string& text) {
  auto filter = Filter::Compile(text);
  EXPECT_FALSE(filter.has_value()) << text;
  return filter ? FilterError{} : filter.error();
}

TEST(FilterTest, MatchesEverythingWhenEmpty) {
  EXPECT_TRUE(MatchesRequest(""));
  EXPECT_TRUE(MatchesRequest("  \t"));
  EXPECT_TRUE(Filter().Matches(test::MakeRequest().flow));
}

TEST(FilterTest, ComparesNamesWithAndWithoutNamespaceAndByWildcard) {
  for (const char* text : {"src=shop/cart", "src=cart", "src=shop/*", "src=c?rt", "dst=*price",
                           "workload=shop/price", "src.ns=shop", "dst.node=node-b",
                           "id=spiffe://mesh.test/ns/shop/sa/*", "src='shop/cart'"}) {
    EXPECT_TRUE(MatchesRequest(text)) << text;
  }
  for (const char* text : {"src=shop/price", "src=shop", "dst=cart", "src=shop/c", "src='shop/*'",
                           "workload=shop/db", "node=node-c", "src=*x*"}) {
    EXPECT_FALSE(MatchesRequest(text)) << text;
  }
}

TEST(FilterTest, NamesThoseOutsideTheMeshByTheirAddress) {
  const auto record = test::MakeDeniedConnection();
  EXPECT_TRUE(Matches("src=203.0.113.9", record));
  EXPECT_TRUE(Matches("src.ns!=shop", record));
  EXPECT_FALSE(Matches("src.id^=spiffe:", record));
}

TEST(FilterTest, TellsServicesVmsRulesAndGrpcStatusApart) {
  auto record = test::MakeRequest();
  auto labelled = std::make_shared<model::Workload>(*record.flow.destination.workload);
  labelled->labels["kuma.io/service"] = "pricing";
  record.flow.destination.workload = labelled;
  auto vm = std::make_shared<model::Workload>(*record.flow.source.workload);
  vm->ns.clear();
  record.flow.source.workload = vm;
  record.flow.policy = "trust-domain-member";
  record.flow.retries = 2;
  record.flow.http->grpc_status = 14;
  record.flow.parent_span_id = {0xab};
  for (const char* text : {"service=pricing", "dst.service=price", "src.service=cart", "vm=cart",
                           "src.vm=c*", "policy=trust-domain-member", "policy^=trust", "retries>1",
                           "grpc=14", "grpc=UNAVAILABLE", "parent-span=ab00000000000000"}) {
    EXPECT_TRUE(Matches(text, record)) << text;
  }
  for (const char* text : {"dst.vm=price", "service=pri", "policy=strict", "grpc=0"}) {
    EXPECT_FALSE(Matches(text, record)) << text;
  }
}

TEST(FilterTest, ComparesTextsByEveryOperator) {
  for (const char* text :
       {"path=/p/42", "path!=/p/4", "path^=/p", "path$=42", "path*=p/4", "path~^/p/[0-9]+$",
        "path~'^/(p|q)/'", "host=price.shop:8080", "query=lang", "agent^=curl", "method=GET",
        "via*=tunnel", "comm=cart-server", "trace=4bf92f3577b34da6a3ce929d0e0e4736",
        "span=00f067aa0ba902b7", "tls=1.3"}) {
    EXPECT_TRUE(MatchesRequest(text)) << text;
  }
  for (const char* text : {"path=/p/4", "path!=/p/42", "path^=p", "path$=/p", "path*=q",
                           "path~^[0-9]+$", "method=get", "sni=x"}) {
    EXPECT_FALSE(MatchesRequest(text)) << text;
  }
}

TEST(FilterTest, ComparesNumbersDurationsAndSizesWithTheirUnits) {
  for (const char* text :
       {"status=200",       "status=2xx",         "status>=200",     "status<300",
        "status<=2xx",      "status!=5xx",        "duration>3ms",    "duration>=3100us",
        "duration<0.0032s", "duration=3100000ns", "tunnel-wait<1ms", "first-byte<=2.9ms",
        "received>5KiB",    "bytes=5420",         "sent<1KB",        "received>=5.3KB",
        "conn=7",           "pid=4242",           "dst.port=8080",   "port>40000",
        "bytes<1MiB"}) {
    EXPECT_TRUE(MatchesRequest(text)) << text;
  }
  for (const char* text : {"status>2xx", "status<2xx", "status in (404,5xx)", "duration>1h",
                           "bytes>1GB", "src.port=8080", "connect>0s", "connect<1h"}) {
    EXPECT_FALSE(MatchesRequest(text)) << text;
  }
}

TEST(FilterTest, ComparesAddressesByRange) {
  EXPECT_TRUE(MatchesRequest("src.ip=198.18.0.0/15"));
  EXPECT_TRUE(MatchesRequest("ip=198.18.2.3"));
  EXPECT_TRUE(MatchesRequest("dst.ip in (10.0.0.0/8, 198.18.2.0/24)"));
  EXPECT_TRUE(MatchesRequest("ip!=::1"));
  EXPECT_FALSE(MatchesRequest("src.ip=198.18.2.0/24"));
  EXPECT_FALSE(MatchesRequest("ip=fd00::/8"));
}

TEST(FilterTest, ComparesWords) {
  for (const char* text : {"dir=out", "kind=request", "proto=http1", "verdict=allow", "reason=none",
                           "mtls=on", "mtls=mtls", "parent=turn", "verdict in (allow,deny)",
                           "verdict not in (deny,error)", "proto=http*"}) {
    EXPECT_TRUE(MatchesRequest(text)) << text;
  }
  EXPECT_TRUE(Matches("mtls=off", test::MakeDeniedConnection()));
  EXPECT_FALSE(MatchesRequest("mtls=off"));
  EXPECT_FALSE(MatchesRequest("mtls=local"));
}

TEST(FilterTest, BindsNotTighterThanAndTighterThanOr) {
  EXPECT_TRUE(MatchesRequest("status=200 or status=404 and dir=in"));
  EXPECT_FALSE(MatchesRequest("(status=200 or status=404) and dir=in"));
  EXPECT_TRUE(MatchesRequest("not status=404 and dir=out"));
  EXPECT_FALSE(MatchesRequest("not (status=200 and dir=out)"));
  EXPECT_TRUE(MatchesRequest("not not dir=out"));
  EXPECT_TRUE(
      MatchesRequest("dst=shop/price and (status>=500 or duration>2ms) and not path^=/health"));
}

TEST(FilterTest, FindsGrpcCallsByTheirStatus) {
  observe::Record record = test::MakeRequest();
  EXPECT_FALSE(Matches("grpc=OK", record) || Matches("grpc=0", record));
  record.flow.protocol = observe::Protocol::kGrpc;
  record.flow.http->grpc_status = 5;
  for (const char* text : {"proto=grpc", "grpc=NOT_FOUND", "grpc=5", "grpc!=OK", "grpc*=FOUND"}) {
    EXPECT_TRUE(Matches(text, record)) << text;
  }
}

TEST(FilterTest, FindsCommandsOfDatabases) {
  observe::Record record = test::MakeRequest();
  EXPECT_FALSE(Matches("operation*='' or table*='' or db-status*=''", record));
  record.flow.http.reset();
  record.flow.protocol = observe::Protocol::kPostgresql;
  record.flow.database = std::make_shared<const observe::DatabaseCall>(
      observe::DatabaseCall{.system = "postgresql",
                            .operation = "INSERT",
                            .collection = "orders",
                            .summary = "INSERT orders",
                            .name_space = "shop",
                            .status = "23505",
                            .is_error = true});
  for (const char* text : {"proto=postgresql", "operation=INSERT", "table=orders", "database=shop",
                           "summary*=orders", "db-status=23505"}) {
    EXPECT_TRUE(Matches(text, record)) << text;
  }
}

TEST(FilterTest, EqualsNothingWhenTheFlowLacksTheField) {
  const auto record = test::MakeDeniedConnection();
  EXPECT_FALSE(Matches("status=200", record));
  EXPECT_TRUE(Matches("status!=200", record));
  EXPECT_FALSE(Matches("status<=599", record) || Matches("path*=''", record));
  EXPECT_FALSE(Matches("trace~.", record));
  EXPECT_FALSE(Matches("duration<1us", record));
}

TEST(FilterTest, PointsAtTheColumnOfAnError) {
  const std::pair<const char*, std::size_t> cases[] = {{"statsu>=500", 1},
                                                       {"status>=500 and statsu=1", 17},
                                                       {"status>=", 9},
                                                       {"status>=banana", 9},
                                                       {"status", 7},
                                                       {"status 500", 8},
                                                       {"(status=500", 12},
                                                       {"status=500)", 11},
                                                       {"status=500 status=404", 12},
                                                       {"status in 500", 11},
                                                       {"status in (500", 15},
                                                       {"status=500 and", 15},
                                                       {"path='/x", 6},
                                                       {"path~[", 6},
                                                       {"path>3", 5},
                                                       {"duration>200", 10},
                                                       {"verdict=alow", 9},
                                                       {"ip=300.1.1.1", 4},
                                                       {"path=\xc3\xa4 and x=1", 12},
                                                       {"not", 4},
                                                       {"status not 500", 12},
                                                       {"bytes>5XB", 7},
                                                       {"status=999", 8},
                                                       {"pid=-1", 5}};
  for (const auto& [text, column] : cases) {
    EXPECT_EQ(ErrorOf(text).column, column) << text << ": " << ErrorOf(text).message;
  }
}

TEST(FilterTest, NamesTheNearestFieldAndWordAndAllCandidates) {
  const FilterError field = ErrorOf("statsu=200");
  EXPECT_NE(field.message.find("'status'"), std::string::npos);
  EXPECT_EQ(field.candidates.size(), FilterFields().size());
  const FilterError word = ErrorOf("verdict=alow");
  EXPECT_NE(word.message.find("'allow'"), std::string::npos);
  EXPECT_EQ(word.candidates.front(), "allow");
}

TEST(FilterTest, RefusesWhatExceedsItsLimits) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '(') + "dir=out" + std::string(depth, ')');
  };
  EXPECT_TRUE(Filter::Compile(nested(Filter::kMaxDepth - 1)).has_value());
  EXPECT_NE(ErrorOf(nested(Filter::kMaxDepth)).message.find("deeper"), std::string::npos);

  const std::string longest = "path=" + std::string(Filter::kMaxBytes - 5, 'a');
  EXPECT_TRUE(Filter::Compile(longest).has_value());
  EXPECT_EQ(ErrorOf(longest + "a").column, Filter::kMaxBytes + 1);

  std::string values = "port in (1";
  for (std::size_t i = 1; i < Filter::kMaxValues; ++i) {
    values += ",1";
  }
  EXPECT_TRUE(Filter::Compile(values + ")").has_value());
  EXPECT_NE(ErrorOf(values + ",1)").message.find("values"), std::string::npos);

  std::string regexes = "path~a";
  for (std::size_t i = 1; i < Filter::kMaxRegexes; ++i) {
    regexes += " or path~a";
  }
  EXPECT_TRUE(Filter::Compile(regexes).has_value());
  EXPECT_NE(ErrorOf(regexes + " or path~a").message.find("'|'"), std::string::npos);
}

// A pattern that a backtracking engine needs 2^1000 steps for.
TEST(FilterTest, MatchesHostilePatternsInLinearTime) {
  auto record = test::MakeRequest();
  record.flow.http->path = std::string(1000, 'a');
  EXPECT_FALSE(Matches("path~'^(a+)+$x'", record));
  EXPECT_FALSE(Matches("path~'(a|a)*b'", record));
  EXPECT_FALSE(Matches("path=*a*a*a*a*a*a*a*a*a*a*b", record));
}

TEST(FilterTest, TellsTheOnlyTermThatFails) {
  const auto filter = Filter::Compile("dst=shop/price and status>=500 and dir=out");
  ASSERT_TRUE(filter.has_value());
  ASSERT_EQ(filter->term_count(), 3U);
  EXPECT_EQ(filter->term(1), "status>=500");
  EXPECT_EQ(filter->OnlyFailingTerm(test::MakeRequest().flow), 1U);
  EXPECT_EQ(filter->OnlyFailingTerm(test::MakeDeniedConnection().flow), std::nullopt);
  EXPECT_EQ(filter->OnlyFailingTerm(test::MakeFailedRequest().flow), std::nullopt);
  EXPECT_EQ(Filter::Compile("(status=200 and dir=out) or dir=in")->term_count(), 1U);
}

}  // namespace
}  // namespace weir::admin
