// What comes from outside, and who may: strict and permissive workloads, identities.
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <thread>

#include "agent/io/socket.h"
#include "agent/tls/engine.h"
#include "tests/support/proxy_bed.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

using model::ProtocolHint;
using model::TlsMode;
using observe::Direction;
using observe::MtlsState;
using observe::Reason;
using observe::Verdict;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A server on node-1; the client's node is node-0.
class InboundTest : public ::testing::Test {
 protected:
  void Start(TlsMode mode, ProtocolHint hint = ProtocolHint::kNone) {
    client_ = bed_.AddPod(0, "client");
    server_ = bed_.AddPod(1, "server", mode);
    application_ = bed_.Expose(server_, hint);
    bed_.Publish();
  }
  base::UniqueFd Outside() { return bed_.ConnectFromOutside(application_.endpoint); }
  base::UniqueFd Served() { return AcceptOne(application_.listener.get()); }
  // Nobody was let through to the application.
  bool NobodyCame() { return !AcceptOne(application_.listener.get(), milliseconds(20)).valid(); }
  std::optional<observe::Record> InboundRecord() {
    return bed_.records(1).WaitFor(
        [](const auto& record) { return record.flow.direction == Direction::kInbound; });
  }

  ProxyBed bed_;
  std::size_t client_ = 0;
  std::size_t server_ = 0;
  ProxyBed::Application application_;
};

TEST_F(InboundTest, ResetsPlainTextToAStrictWorkload) {
  Start(TlsMode::kStrict);
  const auto client = Outside();
  ASSERT_TRUE(SendText(client.get(), "GET / HTTP/1.1\r\n\r\n"));
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  const auto record = InboundRecord();
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.reason, Reason::kPlaintextRefused);
  EXPECT_EQ(record->flow.policy, "strict-needs-mtls");
  EXPECT_EQ(record->flow.verdict, Verdict::kDeny);
  EXPECT_EQ(record->flow.destination.workload->name, "server");
  EXPECT_TRUE(bed_.SeesReason(1, Reason::kPlaintextRefused));
  EXPECT_TRUE(NobodyCame());
}

TEST_F(InboundTest, ClosesASilentConnectionToAStrictWorkloadAfterTheHandshakeTimeout) {
  bed_.limits().tls_handshake_timeout = milliseconds(200);
  Start(TlsMode::kStrict);
  const auto client = Outside();
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(1, Reason::kTlsHandshakeTimeout));
}

TEST_F(InboundTest, ClosesAClientHelloThatTricklesAfterTheHandshakeTimeout) {
  bed_.limits().tls_handshake_timeout = milliseconds(200);
  Start(TlsMode::kStrict);
  const auto client = Outside();
  ASSERT_TRUE(SendText(client.get(), "\x16\x03\x01\x02"));
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(1, Reason::kTlsHandshakeTimeout));
}

TEST_F(InboundTest, RefusesAnApplicationsOwnTlsToAStrictWorkload) {
  Start(TlsMode::kStrict);
  const auto client = Outside();
  const std::string hello("\x16\x03\x01\x00\x30\x01\x00\x00\x2c\x03\x03", 11);
  ASSERT_TRUE(SendText(client.get(),
                       hello + std::string(32, 'r') + std::string("\0\0\2\x13\x01\1\0\0\0\0", 10)));
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(1, Reason::kPlaintextRefused));
}

TEST_F(InboundTest, SurvivesGarbageThatBeginsLikeATunnel) {
  Start(TlsMode::kStrict);
  // A whole ClientHello with ALPN weir/1, and noise behind it.
  auto engine = tls::Engine::Client(bed_.pki().Workload("/ns/test/sa/client", "node-0"), "weir/1");
  io::ByteBuffer hello;
  (void)engine->Start(hello);
  const auto bytes = hello.Readable();
  const auto client = Outside();
  ASSERT_TRUE(
      SendText(client.get(), std::string(bytes.begin(), bytes.end()) + std::string(5000, '\x17')));
  std::string rest;
  EXPECT_TRUE(bed_.SeesReason(1, Reason::kTlsHandshakeFailed));
  // Others are not affected.
  const auto good = bed_.Connect(client_, application_.endpoint);
  const auto served = Served();
  ASSERT_TRUE(SendText(good.get(), "*still"));
  EXPECT_EQ(ReceiveText(served.get(), 6), "*still");
}

TEST_F(InboundTest, DeliversPlainTextToAPermissiveWorkload) {
  Start(TlsMode::kPermissive);
  auto client = Outside();
  ASSERT_TRUE(SendText(client.get(), "*hello"));
  auto served = Served();
  EXPECT_EQ(ReceiveText(served.get(), 6), "*hello");
  EXPECT_EQ(base::RemoteEndpoint(served.get())->address,
            base::LocalEndpoint(client.get())->address);
  client.Reset();
  EXPECT_EQ(ReceiveEnd(served.get()), StreamEnd::kFin);
  served.Reset();
  const auto record = InboundRecord();
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.mtls, MtlsState::kOff);
  EXPECT_EQ(record->flow.verdict, Verdict::kAllow);
  EXPECT_EQ(record->flow.policy, "permissive");
  EXPECT_EQ(record->flow.reason, Reason::kNone);
  EXPECT_EQ(record->flow.source.workload, nullptr);
}

TEST_F(InboundTest, MakesAServerSpanOfAPlainRequestToAPermissiveWorkload) {
  Start(TlsMode::kPermissive);
  const auto client = Outside();
  ASSERT_TRUE(SendText(client.get(), "GET /p HTTP/1.1\r\nHost: s\r\n\r\n"));
  const auto served = Served();
  EXPECT_TRUE(ReceiveText(served.get(), 17).starts_with("GET /p HTTP/1.1\r\n"));
  ASSERT_TRUE(SendText(served.get(), "HTTP/1.1 204 No Content\r\n\r\n"));
  EXPECT_EQ(ReceiveText(client.get(), 27), "HTTP/1.1 204 No Content\r\n\r\n");
  const auto record = InboundRecord();
  ASSERT_TRUE(record.has_value() && record->span.has_value());
  EXPECT_FALSE(record->span->is_client);
  EXPECT_EQ(record->flow.http->status, 204);
}

TEST_F(InboundTest, LetsAServerSpeakFirstToASilentPlainClient) {
  bed_.limits().detect_timeout = milliseconds(300);
  Start(TlsMode::kPermissive);
  const auto banner = [&] {
    const auto before = steady_clock::now();
    const auto client = Outside();
    const auto served = Served();
    EXPECT_TRUE(SendText(served.get(), "220 mail"));
    EXPECT_EQ(ReceiveText(client.get(), 8), "220 mail");
    return steady_clock::now() - before;
  };
  const auto first = banner();
  EXPECT_GE(first, milliseconds(290));
  EXPECT_LT(first, milliseconds(1500));
  EXPECT_LT(banner(), milliseconds(200)) << "the finding was not remembered";
}

TEST_F(InboundTest, ConnectsAtOnceWhereTheServerIsSaidToSpeakFirst) {
  Start(TlsMode::kPermissive, ProtocolHint::kServerFirst);
  const auto before = steady_clock::now();
  const auto client = Outside();
  const auto served = Served();
  ASSERT_TRUE(SendText(served.get(), "220"));
  EXPECT_EQ(ReceiveText(client.get(), 3), "220");
  EXPECT_LT(steady_clock::now() - before, milliseconds(90));
}

TEST_F(InboundTest, TakesATunnelToAPermissiveWorkloadToo) {
  Start(TlsMode::kPermissive);
  const auto client = bed_.Connect(client_, application_.endpoint);
  ASSERT_TRUE(SendText(client.get(), "*t"));
  auto served = Served();
  EXPECT_EQ(ReceiveText(served.get(), 2), "*t");
  EXPECT_EQ(bed_.workers(1).at(0).stats().tunnels.open_server.value(), 1U);
}

TEST_F(InboundTest, EndsPlainSessionsWhenTheWorkloadBecomesStrict) {
  Start(TlsMode::kPermissive);
  const auto client = Outside();
  ASSERT_TRUE(SendText(client.get(), "*x"));
  const auto served = Served();
  EXPECT_EQ(ReceiveText(served.get(), 2), "*x");
  bed_.pod(server_).tls_mode = TlsMode::kStrict;
  bed_.Publish();
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_EQ(ReceiveEnd(served.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(1, Reason::kPlaintextRefused));
}

TEST_F(InboundTest, RefusesAPeerOfAnotherIdentity) {
  Start(TlsMode::kStrict);
  bed_.IssueCredential(client_, "/ns/test/sa/somebody-else");
  const auto client = bed_.Connect(client_, application_.endpoint);
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(1, Reason::kPeerIdentityMismatch));
  EXPECT_TRUE(NobodyCame());
}

TEST_F(InboundTest, EndsAStreamWhosePeerTheRegistryContradicts) {
  Start(TlsMode::kStrict);
  const auto client = bed_.Connect(client_, application_.endpoint);
  ASSERT_TRUE(SendText(client.get(), "*x"));
  const auto served = Served();
  ASSERT_EQ(ReceiveText(served.get(), 2), "*x");
  auto other = std::make_shared<model::Workload>(*bed_.pod(client_).workload);
  other->identity = model::SpiffeId::Make("mesh.test", "/ns/test/sa/successor").value();
  bed_.pod(client_).workload = std::move(other);
  bed_.Publish(/*only=*/1);
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_EQ(ReceiveEnd(served.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(1, Reason::kPeerIdentityMismatch));
}

TEST_F(InboundTest, RefusesAPeerWhoseNodeIsNotWhereItLives) {
  Start(TlsMode::kStrict);
  bed_.IssueCredential(client_, "", "node-7");
  const auto client = bed_.Connect(client_, application_.endpoint);
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(1, Reason::kPeerNodeMismatch));
  EXPECT_TRUE(NobodyCame());
}

TEST_F(InboundTest, RefusesAServerOfAnotherIdentityAndNeverTalksPlainly) {
  Start(TlsMode::kPermissive);
  bed_.IssueCredential(server_, "/ns/test/sa/impostor");
  const auto client = bed_.Connect(client_, application_.endpoint);
  if (SendText(client.get(), "*secret")) {  // else the reset was faster
    EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  }
  EXPECT_TRUE(bed_.SeesReason(0, Reason::kPeerIdentityMismatch));
  EXPECT_TRUE(NobodyCame());
}

TEST_F(InboundTest, NeverTalksPlainlyWhereTheRegistryDropsTheServerInTheHandshake) {
  Start(TlsMode::kStrict);
  bed_.pod(client_).tls_mode = TlsMode::kPermissive;  // would talk plainly to the unknown
  bed_.Publish();
  const auto between = Listen("127.0.0.1", 0);
  bed_.kernel().Divert(
      application_.endpoint,
      {.address = base::IpAddress::Parse("127.0.0.1").value(), .port = PortOf(between.get())});
  const auto client = bed_.Connect(client_, application_.endpoint);
  ASSERT_TRUE(SendText(client.get(), "*secret"));
  const auto near = AcceptOne(between.get());
  ASSERT_TRUE(near.valid());
  auto moved = std::make_shared<model::Workload>(*bed_.pod(server_).workload);
  moved->addresses = {bed_.FreshAddress()};
  bed_.pod(server_).workload = std::move(moved);
  bed_.Publish(/*only=*/0);
  ASSERT_TRUE(
      ProxyBed::Eventually([&] { return bed_.workers(0).at(0).stats().snapshots.value() >= 3; }));
  // Only now does the handshake go on.
  const auto far = bed_.ConnectFromOutside(application_.endpoint);
  PassBothWays(near.get(), far.get());
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_EQ(bed_.kernel().connects(seam::LegKind::kPassthrough), 0);
}

TEST_F(InboundTest, RefusesAServerOfAnotherNode) {
  Start(TlsMode::kStrict);
  bed_.IssueCredential(server_, "", "node-7");
  const auto client = bed_.Connect(client_, application_.endpoint);
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(0, Reason::kPeerNodeMismatch));
}

TEST_F(InboundTest, RefusesAPeerOfAnotherRoot) {
  Start(TlsMode::kStrict);
  const TestPki other("mesh.test", base::SystemClock());
  bed_.workers(0).InstallCredential(bed_.pod(client_).id,
                                    other.Workload("/ns/test/sa/client", "node-0"));
  const auto client = bed_.Connect(client_, application_.endpoint);
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_TRUE(NobodyCame());
  const auto record =
      bed_.records(0).WaitFor([](const auto& each) { return each.flow.reason != Reason::kNone; });
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.reason, Reason::kPeerUntrusted);
}

TEST_F(InboundTest, RefusesWithoutACredential) {
  Start(TlsMode::kStrict);
  bed_.workers(0).InstallCredential(bed_.pod(client_).id, nullptr);
  const auto client = bed_.Connect(client_, application_.endpoint);
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(0, Reason::kNoIdentity));
  EXPECT_EQ(bed_.kernel().connects(seam::LegKind::kTunnel), 0);
}

TEST_F(InboundTest, NeverFallsBackToPlainTextWhereAPlainServerAnswers) {
  Start(TlsMode::kStrict);
  const auto plain = Listen("127.0.0.1", 0);
  bed_.kernel().Divert(
      application_.endpoint,
      {.address = base::IpAddress::Parse("127.0.0.1").value(), .port = PortOf(plain.get())});
  const auto client = bed_.Connect(client_, application_.endpoint);
  (void)SendText(client.get(), "*secret");
  const auto reached = AcceptOne(plain.get());
  ASSERT_TRUE(reached.valid());
  ASSERT_TRUE(SendText(reached.get(), "HTTP/1.1 400 Bad Request\r\n\r\n"));
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  const std::string wire = ReceiveText(reached.get(), 100'000);
  EXPECT_EQ(wire.find("secret"), std::string::npos);
  EXPECT_TRUE(bed_.SeesReason(0, Reason::kTlsHandshakeFailed));
}

TEST_F(InboundTest, KeepsServingUnderARenewedCredential) {
  Start(TlsMode::kStrict);
  const auto old_client = bed_.Connect(client_, application_.endpoint);
  const auto old_served = Served();
  ASSERT_TRUE(SendText(old_client.get(), "*1"));
  EXPECT_EQ(ReceiveText(old_served.get(), 2), "*1");
  for (int i = 0; i < 5; ++i) {
    bed_.IssueCredential(client_);
    bed_.IssueCredential(server_);
    ASSERT_TRUE(SendText(old_client.get(), "2"));
    EXPECT_EQ(ReceiveText(old_served.get(), 1), "2");
    const auto client = bed_.Connect(client_, application_.endpoint);
    const auto served = Served();
    ASSERT_TRUE(SendText(client.get(), "*3"));
    EXPECT_EQ(ReceiveText(served.get(), 2), "*3");
  }
}

TEST_F(InboundTest, WaitsForTheRegistryToHearOfANewPeer) {
  Start(TlsMode::kStrict);
  bed_.limits().unknown_destination_wait = milliseconds(4000);
  bed_.Publish();
  const auto late = bed_.AddPod(0, "late");
  bed_.Publish(/*only=*/0);  // the other node does not know yet
  const auto client = bed_.Connect(late, application_.endpoint);
  ASSERT_TRUE(SendText(client.get(), "*early bird"));
  ASSERT_TRUE(ProxyBed::Eventually(
      [&] { return bed_.workers(1).at(0).stats().open_sessions.value() > 0; }));
  bed_.Publish();
  const auto served = Served();
  EXPECT_EQ(ReceiveText(served.get(), 11), "*early bird");
}

TEST_F(InboundTest, RefusesAPeerThatTheRegistryNeverHearsOf) {
  Start(TlsMode::kStrict);
  bed_.limits().unknown_destination_wait = milliseconds(100);
  bed_.Publish();
  const auto late = bed_.AddPod(0, "late");
  bed_.Publish(/*only=*/0);
  const auto client = bed_.Connect(late, application_.endpoint);
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(1, Reason::kPeerIdentityMismatch));
  EXPECT_TRUE(bed_.SeesReason(0, Reason::kRefusedByPeer)) << "what the far agent says";
  EXPECT_TRUE(NobodyCame());
}

}  // namespace
}  // namespace weir::test
