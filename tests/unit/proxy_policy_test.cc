// What the policy of a destination decides, on the way by a tunnel and on the same node.
#include <gtest/gtest.h>

#include <string>

#include "agent/policy/decide.h"
#include "tests/support/proxy_bed.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

using model::PermissionEffect;
using model::PermissionMatch;
using model::ProtocolHint;
using observe::Direction;
using observe::Reason;
using observe::Verdict;
using policy::Outcome;
using proxy::DecisionScope;
using std::chrono::milliseconds;

PermissionMatch Exactly(const std::string& name) {
  return {.kind = PermissionMatch::Kind::kExact,
          .spiffe_id = "spiffe://mesh.test/ns/test/sa/" + name,
          .server_name = {}};
}

PermissionMatch ByServerName(const std::string& name) {
  return {.kind = PermissionMatch::Kind::kAnyone, .spiffe_id = {}, .server_name = name};
}

// A TLS 1.2 ClientHello that asks for `name` (RFC 5246 section 7.4.1.2, RFC 6066 section 3).
std::string HelloFor(const std::string& name) {
  const auto sized = [](std::size_t bytes, const std::string& text) {
    std::string result;
    for (std::size_t i = bytes; i > 0; --i) {
      result += static_cast<char>((text.size() >> (8 * (i - 1))) & 0xffU);
    }
    return result + text;
  };
  const std::string list = sized(2, std::string(1, '\0') + sized(2, name));
  const std::string extension = std::string(2, '\0') + sized(2, list);
  const std::string hello = std::string("\x03\x03") + std::string(32, 'r') + sized(1, "") +
                            sized(2, "\x13\x01") + sized(1, std::string(1, '\0')) +
                            sized(2, extension);
  return std::string("\x16\x03\x01") + sized(2, '\x01' + sized(3, hello));
}

enum class Way : std::uint8_t { kTunnel, kJoin };

class PolicyTest : public ::testing::TestWithParam<Way> {
 protected:
  void Start(ProtocolHint hint = ProtocolHint::kNone) {
    client_ = bed_.AddPod(0, "client");
    node_ = GetParam() == Way::kTunnel ? 1 : 0;
    server_ = bed_.AddPod(node_, "server");
    application_ = bed_.Expose(server_, hint);
  }
  void Permit(const std::vector<BedRule>& rules) {
    bed_.pod(server_).permissions = MakePermissions(rules);
    bed_.Publish();
  }
  base::UniqueFd Connect() { return bed_.Connect(client_, application_.endpoint); }
  base::UniqueFd Served() { return AcceptOne(application_.listener.get()); }
  bool NobodyCame() { return !AcceptOne(application_.listener.get(), milliseconds(20)).valid(); }
  // The record where the connection arrives.
  std::optional<observe::Record> Arrival(bool is_request) {
    return bed_.records(node_).WaitFor([&](const observe::Record& record) {
      return record.flow.direction == Direction::kInbound && record.flow.is_request == is_request;
    });
  }
  void ExpectDenied(bool is_request, const std::string& rule) {
    const auto record = Arrival(is_request);
    ASSERT_TRUE(record.has_value());
    EXPECT_EQ(record->flow.verdict, Verdict::kDeny);
    EXPECT_EQ(record->flow.reason, Reason::kPolicyDenied);
    EXPECT_EQ(record->flow.policy, rule);
    EXPECT_EQ(record->flow.source.workload->name, "client");
    EXPECT_TRUE(NobodyCame());
  }
  std::uint64_t Decisions(DecisionScope scope, Outcome outcome) {
    return bed_.workers(node_)
        .at(0)
        .stats()
        .decisions[static_cast<std::size_t>(scope)][static_cast<std::size_t>(outcome)]
        .value();
  }

  ProxyBed bed_;
  std::size_t client_ = 0;
  std::size_t server_ = 0;
  std::size_t node_ = 0;
  ProxyBed::Application application_;
};

INSTANTIATE_TEST_SUITE_P(Ways, PolicyTest, ::testing::Values(Way::kTunnel, Way::kJoin),
                         [](const auto& one) {
                           return one.param == Way::kTunnel ? "Tunnel" : "Join";
                         });

TEST_P(PolicyTest, NamesTheRuleThatLetAConnectionIn) {
  Start();
  Permit({{.match = Exactly("client"), .name = "client-may"}});
  auto client = Connect();
  ASSERT_TRUE(SendText(client.get(), "*hello"));
  auto served = Served();
  EXPECT_EQ(ReceiveText(served.get(), 6), "*hello");
  client.Reset();
  served.Reset();
  const auto record = Arrival(/*is_request=*/false);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.verdict, Verdict::kAllow);
  EXPECT_EQ(record->flow.policy, "client-may");
  EXPECT_EQ(Decisions(DecisionScope::kConnection, Outcome::kAllow), 1U);
}

TEST_P(PolicyTest, AnswersADeniedRequest403AndConnectsNoApplication) {
  Start();
  Permit({{.match = Exactly("somebody-else")}});
  const auto client = Connect();
  ASSERT_TRUE(SendText(client.get(),
                       "POST /orders?id=7 HTTP/1.1\r\nHost: s\r\nContent-Length: "
                       "5\r\n\r\nhello"));
  const std::string answer = ReceiveText(client.get(), 4096);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 403 Forbidden\r\n")) << answer;
  EXPECT_TRUE(answer.ends_with("\r\n\r\nweir: forbidden by policy\n")) << answer;
  EXPECT_EQ(answer.find("spiffe"), std::string::npos);
  ExpectDenied(/*is_request=*/true, "default-deny");
  const auto record = Arrival(/*is_request=*/true);
  EXPECT_EQ(record->flow.http->status, 403);
  EXPECT_EQ(record->flow.http->method, "POST");
  EXPECT_EQ(record->flow.http->path, "/orders");
  ASSERT_TRUE(record->span.has_value());
  EXPECT_EQ(Decisions(DecisionScope::kRequest, Outcome::kDeny), 1U);
  EXPECT_EQ(Decisions(DecisionScope::kConnection, Outcome::kDeny), 0U);
  EXPECT_TRUE(bed_.SeesReason(node_, Reason::kPolicyDenied));
}

TEST_P(PolicyTest, ResetsADeniedConnectionThatIsNoHttp) {
  Start();
  Permit({{.effect = PermissionEffect::kDeny, .match = Exactly("client"), .name = "not-client"}});
  const auto client = Connect();
  ASSERT_TRUE(SendText(client.get(), "*hello"));
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  ExpectDenied(/*is_request=*/false, "not-client");
  EXPECT_EQ(Decisions(DecisionScope::kConnection, Outcome::kDeny), 1U);
  // The client's node knows why, too.
  const auto sent = bed_.records(0).WaitFor(
      [](const observe::Record& record) { return record.flow.direction == Direction::kOutbound; });
  ASSERT_TRUE(sent.has_value());
  EXPECT_EQ(sent->flow.reason, Reason::kPolicyDenied);
  EXPECT_EQ(sent->flow.verdict, Verdict::kDeny);
}

TEST_P(PolicyTest, ResetsADeniedConnectionThatStaysSilent) {
  bed_.limits().detect_timeout = milliseconds(200);
  Start();
  Permit({});
  const auto client = Connect();
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  ExpectDenied(/*is_request=*/false, "default-deny");
}

TEST_P(PolicyTest, RefusesADeniedConnectionAtOnceWhereThePortSpeaksNoHttp) {
  bed_.limits().detect_timeout = milliseconds(60000);
  bed_.limits().detect_timeout_hinted = milliseconds(60000);
  Start(ProtocolHint::kTcp);
  Permit({});
  const auto client = Connect();
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  ExpectDenied(/*is_request=*/false, "default-deny");
}

TEST_P(PolicyTest, WaitsForTheFirstRequestWhereThePortSpeaksHttp) {
  bed_.limits().detect_timeout_hinted = milliseconds(1);
  Start(ProtocolHint::kHttp);
  Permit({});
  const auto client = Connect();
  EXPECT_TRUE(NobodyCame());  // and longer than the detection would wait
  ASSERT_TRUE(SendText(client.get(), "GET / HTTP/1.1\r\nHost: s\r\n\r\n"));
  EXPECT_TRUE(ReceiveText(client.get(), 4096).starts_with("HTTP/1.1 403 Forbidden\r\n"));
}

TEST_P(PolicyTest, CountsWhatIsAllowedUnderAShadowDenial) {
  Start();
  Permit({{.effect = PermissionEffect::kAllowWithShadowDeny,
           .match = Exactly("client"),
           .name = "for-now"}});
  const auto client = Connect();
  ASSERT_TRUE(SendText(client.get(), "GET / HTTP/1.1\r\nHost: s\r\n\r\n"));
  const auto served = Served();
  EXPECT_TRUE(ReceiveText(served.get(), 14).starts_with("GET / HTTP/1.1"));
  ASSERT_TRUE(SendText(served.get(), "HTTP/1.1 204 No Content\r\n\r\n"));
  EXPECT_EQ(ReceiveText(client.get(), 27), "HTTP/1.1 204 No Content\r\n\r\n");
  const auto record = Arrival(/*is_request=*/true);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.verdict, Verdict::kAllow);
  EXPECT_EQ(record->flow.policy, "for-now");
  EXPECT_EQ(Decisions(DecisionScope::kRequest, Outcome::kShadowDeny), 1U);
}

TEST_P(PolicyTest, CutsAConnectionThatAChangeDenies) {
  Start();
  Permit({{.match = Exactly("client"), .name = "client-may"}});
  const auto client = Connect();
  ASSERT_TRUE(SendText(client.get(), "*x"));
  const auto served = Served();
  ASSERT_EQ(ReceiveText(served.get(), 2), "*x");
  Permit({{.effect = PermissionEffect::kDeny, .match = Exactly("client"), .name = "no-more"},
          {.match = Exactly("client"), .name = "client-may"}});
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_EQ(ReceiveEnd(served.get()), StreamEnd::kReset);
  ExpectDenied(/*is_request=*/false, "no-more");
}

TEST_P(PolicyTest, KeepsAConnectionThatAChangeStillAllows) {
  Start();
  Permit({{.match = Exactly("client"), .name = "client-may"}});
  const auto client = Connect();
  ASSERT_TRUE(SendText(client.get(), "*x"));
  const auto served = Served();
  ASSERT_EQ(ReceiveText(served.get(), 2), "*x");
  Permit({{.match = Exactly("client"), .name = "another-rule"}, {.match = Exactly("other")}});
  ASSERT_TRUE(SendText(client.get(), "more"));
  EXPECT_EQ(ReceiveText(served.get(), 4), "more");
}

// It has no application behind it, so it cannot go on.
TEST_P(PolicyTest, ResetsADeniedConnectionThatAChangeWouldAllow) {
  Start(ProtocolHint::kHttp);
  Permit({});
  const auto client = Connect();
  ASSERT_TRUE(SendText(client.get(), "GET / HT"));
  EXPECT_TRUE(NobodyCame());
  Permit({{.match = Exactly("client")}});
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_TRUE(NobodyCame());
}

TEST_P(PolicyTest, JudgesARequestByTheRulesOfItsOwnTime) {
  Start();
  Permit({{.match = Exactly("client"), .name = "first"}});
  const auto client = Connect();
  ASSERT_TRUE(SendText(client.get(), "GET /1 HTTP/1.1\r\nHost: s\r\n\r\n"));
  const auto served = Served();
  EXPECT_TRUE(ReceiveText(served.get(), 15).starts_with("GET /1 HTTP/1.1"));
  ASSERT_TRUE(SendText(served.get(), "HTTP/1.1 204 No Content\r\n\r\n"));
  ASSERT_EQ(ReceiveText(client.get(), 27), "HTTP/1.1 204 No Content\r\n\r\n");
  Permit({{.match = Exactly("client"), .name = "second"}});
  ASSERT_TRUE(SendText(client.get(), "GET /2 HTTP/1.1\r\nHost: s\r\n\r\n"));
  EXPECT_NE(ReceiveText(served.get(), 200).find("GET /2"), std::string::npos);
  ASSERT_TRUE(SendText(served.get(), "HTTP/1.1 204 No Content\r\n\r\n"));
  const auto record = bed_.records(node_).WaitFor([](const observe::Record& one) {
    return one.flow.direction == Direction::kInbound && one.flow.http &&
           one.flow.http->path == "/2";
  });
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.policy, "second");
}

TEST_P(PolicyTest, AdmitsByTheServerNameOfTheApplicationsOwnTls) {
  Start();
  Permit({{.match = ByServerName("db.test"), .name = "db"}});
  const auto client = Connect();
  const std::string hello = HelloFor("db.test");
  ASSERT_TRUE(SendText(client.get(), hello));
  const auto served = Served();
  EXPECT_EQ(ReceiveText(served.get(), hello.size()), hello);
  ASSERT_TRUE(SendText(served.get(), "back"));
  EXPECT_EQ(ReceiveText(client.get(), 4), "back");
  EXPECT_EQ(Decisions(DecisionScope::kConnection, Outcome::kAllow), 1U);
}

TEST_P(PolicyTest, ResetsWhoAsksForAServerNameThatIsNotPermitted) {
  Start();
  Permit({{.match = ByServerName("db.test"), .name = "db"}});
  const auto client = Connect();
  ASSERT_TRUE(SendText(client.get(), HelloFor("other.test")));
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  ExpectDenied(/*is_request=*/false, "default-deny");
}

TEST_P(PolicyTest, DeniesAServerNameAlsoWhereThePortIsSaidToBeTcp) {
  Start(ProtocolHint::kTcp);
  Permit({{.match = Exactly("client")},
          {.effect = PermissionEffect::kDeny, .match = ByServerName("db.test"), .name = "not-db"}});
  const auto client = Connect();
  ASSERT_TRUE(SendText(client.get(), HelloFor("db.test")));
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  const auto record = Arrival(/*is_request=*/false);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.policy, "not-db");
}

// Nobody proved anything there, so no rule about identities has a say.
TEST(PlainTextPolicyTest, IsLetInAndCountedWherePermissive) {
  ProxyBed bed;
  const std::size_t server = bed.AddPod(0, "server", model::TlsMode::kPermissive);
  const auto application = bed.Expose(server);
  bed.pod(server).permissions = MakePermissions({});
  bed.Publish();
  const auto client = bed.ConnectFromOutside(application.endpoint);
  ASSERT_TRUE(SendText(client.get(), "GET / HTTP/1.1\r\nHost: s\r\n\r\n"));
  const auto served = AcceptOne(application.listener.get());
  EXPECT_TRUE(ReceiveText(served.get(), 14).starts_with("GET / HTTP/1.1"));
  const auto& decisions = bed.workers(0).at(0).stats().decisions;
  constexpr auto kPlain = static_cast<std::size_t>(Outcome::kPlainText);
  EXPECT_EQ(decisions[static_cast<std::size_t>(DecisionScope::kConnection)][kPlain].value(), 1U);
  EXPECT_EQ(decisions[static_cast<std::size_t>(DecisionScope::kRequest)][kPlain].value(), 1U);
}

TEST(PlainTextPolicyTest, IsCountedAsADenialWhereStrict) {
  ProxyBed bed;
  const auto application = bed.Expose(bed.AddPod(0, "server"));
  bed.Publish();
  const auto client = bed.ConnectFromOutside(application.endpoint);
  ASSERT_TRUE(SendText(client.get(), "GET / HTTP/1.1\r\nHost: s\r\n\r\n"));
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  const auto& decisions = bed.workers(0).at(0).stats().decisions;
  EXPECT_TRUE(ProxyBed::Eventually(
      [&] { return decisions[0][static_cast<std::size_t>(Outcome::kDeny)].value() == 1; }));
}

}  // namespace
}  // namespace weir::test
