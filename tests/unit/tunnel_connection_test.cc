// One tunnel: TLS, streams, back-pressure, silence and the end.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/tunnel_bed.h"

namespace weir::proxy {
namespace {

using observe::Reason;
using test::AsBytes;
using test::kAlice;
using test::kCarol;
using test::Pattern;
using Session = test::TunnelSession;
using TunnelConnectionTest = test::TunnelBed;

TEST_F(TunnelConnectionTest, CarriesAStreamWithEarlyData) {
  server_.accept_streams = false;
  Session& session = Open();
  EXPECT_FALSE(session.stream->opened());
  session.Send("early");
  ASSERT_TRUE(
      Until([&] { return !server_.sessions.empty() && !server_.sessions[0]->received.empty(); }));
  EXPECT_EQ(server_.sessions[0]->received, "early");
  EXPECT_EQ(server_.authorities[0], server_.address.ToString());
  EXPECT_EQ(session.accepted, 0);
  server_.sessions[0]->stream->Accept();
  server_.sessions[0]->Send("answer");
  ASSERT_TRUE(Until([&] { return session.received == "answer"; }));
  EXPECT_EQ(session.accepted, 1);
  EXPECT_EQ(server_.peers[0], "spiffe://one.test/ns/a/sa/alice");
  EXPECT_EQ(session.stream->connection()->peer().spiffe_id, "spiffe://one.test/ns/b/sa/bob");
  EXPECT_EQ(session.stream->connection()->peer().node, "node-b");
  EXPECT_EQ(session.stream->connection()->tls_version(), 0x0304);
  EXPECT_EQ(session.stream->connection()->alpn(), "weir/1");
  ASSERT_EQ(sockets_.requests.size(), 1U);
  EXPECT_EQ(sockets_.requests[0].from, kAlice);
  EXPECT_EQ(sockets_.requests[0].kind, seam::LegKind::kTunnel);
  EXPECT_EQ(sockets_.requests[0].worker, 3U);
}

TEST_F(TunnelConnectionTest, MovesMuchBothWaysAndHalfCloses) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  Session& served = *server_.sessions[0];
  const std::string there = Pattern(24U << 20U, 1);
  const std::string back = Pattern(24U << 20U, 2);
  session.end_when_sent = served.end_when_sent = true;
  session.Send(there);
  served.Send(back);
  ASSERT_TRUE(Until([&] { return session.ends == 1 && served.ends == 1; }));
  EXPECT_TRUE(served.received == there);
  EXPECT_TRUE(session.received == back);
  Settle();
  EXPECT_EQ(session.stream->connection()->stream_count(), 0U);
  EXPECT_EQ(session.resets + served.resets, 0);
}

TEST_F(TunnelConnectionTest, AReaderThatStopsStopsTheWriter) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  Session& served = *server_.sessions[0];
  served.return_credit = false;
  session.Send(Pattern(8U << 20U));
  Settle();
  EXPECT_EQ(served.received.size(), 256U << 10U);
  EXPECT_EQ(session.sent, 256U << 10U);
  // Others on the same tunnel go on.
  Session& other = Open();
  other.Send(Pattern(2U << 20U, 5));
  ASSERT_TRUE(Until([&] {
    return server_.sessions.size() == 2 && server_.sessions[1]->received.size() == 2U << 20U;
  }));
  EXPECT_EQ(pool_->size(), 1U);
  served.return_credit = true;
  served.stream->ReturnCredit(served.received.size());
  ASSERT_TRUE(Until([&] { return served.received.size() == 8U << 20U; }));
}

// A peer whose socket takes nothing: writers stop at the output limit, nothing spins, and all
// goes on when the peer reads again.
TEST_F(TunnelConnectionTest, AFullSocketStopsWritersAndLosesNothing) {
  context_.limits.output_limit_bytes = 256U << 10U;
  server_.context.limits.mux.stream_window_bytes = 4U << 20U;
  server_.context.limits.mux.tunnel_window_bytes = 64U << 20U;
  std::vector<Session*> writers;
  for (int i = 0; i < 8; ++i) {
    writers.push_back(&Open());
  }
  ASSERT_TRUE(Until([&] { return writers[7]->accepted == 1; }));
  Settle();
  std::size_t sent = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    writers[i]->Send(Pattern(4U << 20U, static_cast<std::uint32_t>(i)));
  }
  std::size_t before = SIZE_MAX;
  for (int i = 0; i < 200; ++i) {
    client_loop_->RunOnce(std::chrono::milliseconds(0));
  }
  int asked = 0;
  for (const Session* writer : writers) {
    asked += writer->writables;
    sent += writer->sent;
  }
  before = sent;
  for (int i = 0; i < 200; ++i) {
    client_loop_->RunOnce(std::chrono::milliseconds(0));
  }
  sent = 0;
  for (const Session* writer : writers) {
    asked -= writer->writables;
    sent += writer->sent;
  }
  EXPECT_EQ(sent, before) << "the socket was not full yet";
  EXPECT_EQ(asked, 0) << "writers are asked although nothing can be taken";
  EXPECT_LT(sent, 16U << 20U);
  ASSERT_TRUE(Until([&] {
    return std::ranges::all_of(server_.sessions,
                               [](const auto& s) { return s->received.size() == 4U << 20U; });
  }));
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(server_.sessions[i]->received == Pattern(4U << 20U, static_cast<std::uint32_t>(i)));
  }
}

TEST_F(TunnelConnectionTest, RefusesAPeerOfAnotherTrustDomain) {
  const test::TestPki other("two.test", clock_);
  server_.workload = other.Workload("/ns/b/sa/bob", "node-b");
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.refusals == 1 && !server_.closed.empty(); }));
  EXPECT_EQ(session.refused, Reason::kPeerUntrusted);
  EXPECT_EQ(server_.closed[0], Reason::kRefusedByPeer);
}

TEST_F(TunnelConnectionTest, IsToldWhenTheServerRefusesItsCertificate) {
  const test::TestPki other("two.test", clock_);
  tls::TrustBundles both = other.Bundles();  // it trusts the server, and not the other way round
  both.merge(pki_.Bundles());
  mesh_.svids[kAlice] =
      tls::WorkloadTls::Create(other.Issue("/ns/a/sa/alice", "node-a"), both, clock_).value();
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.refusals == 1 && !server_.closed.empty(); }));
  EXPECT_EQ(server_.closed[0], Reason::kPeerUntrusted);
  EXPECT_EQ(session.refused, Reason::kRefusedByPeer);
  EXPECT_TRUE(server_.authorities.empty());
}

TEST_F(TunnelConnectionTest, ClosesATunnelWhosePeerTheOwnerDoesNotAdmit) {
  server_.admit = Reason::kPeerNodeMismatch;
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.refusals == 1; }));
  EXPECT_EQ(server_.closed, std::vector<Reason>{Reason::kPeerNodeMismatch});
  EXPECT_EQ(session.refused, Reason::kRefusedByPeer);
}

TEST_F(TunnelConnectionTest, HandsOnTheReasonOfARefusal) {
  server_.refuse_with = Reason::kPlaintextRefused;
  Session& session = Open();
  session.Send("lost");
  ASSERT_TRUE(Until([&] { return session.refusals == 1; }));
  EXPECT_EQ(session.status, 502);
  EXPECT_EQ(session.refused, Reason::kPlaintextRefused);
  EXPECT_EQ(session.stream->connection(), nullptr);
  EXPECT_EQ(pool_->size(), 1U);
}

TEST_F(TunnelConnectionTest, HandsOnAReset) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  server_.sessions[0]->stream->Reset(http::H2Error::kConnectError);
  ASSERT_TRUE(Until([&] { return session.resets == 1; }));
  EXPECT_EQ(session.reset, Reason::kUpstreamReset);
  EXPECT_EQ(server_.sessions[0]->resets, 0);
}

TEST_F(TunnelConnectionTest, BoundsTheHandshake) {
  const base::UniqueFd silent = io::ListenTcp({.address = server_.address.address}, 8).value();
  sockets_.to = base::LocalEndpoint(silent.get()).value();
  Session& session = Open();
  const base::UniqueFd mute = io::ConnectTcp(server_.address).value();
  Settle();
  ASSERT_EQ(server_.tunnels.size(), 1U);
  clock_.Advance(std::chrono::milliseconds(4900));
  Settle();
  EXPECT_EQ(session.refusals, 0);
  EXPECT_TRUE(server_.closed.empty());
  clock_.Advance(std::chrono::milliseconds(200));
  Settle();
  EXPECT_EQ(session.refused, Reason::kTlsHandshakeTimeout);
  EXPECT_EQ(server_.closed, std::vector<Reason>{Reason::kTlsHandshakeTimeout});
}

TEST_F(TunnelConnectionTest, RefusesGarbage) {
  const base::UniqueFd raw = io::ConnectTcp(server_.address).value();
  Settle();
  ASSERT_GT(::send(raw.get(), "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 0);
  ASSERT_TRUE(Until([&] { return !server_.closed.empty(); }));
  EXPECT_EQ(server_.closed[0], Reason::kTlsHandshakeFailed);
}

TEST_F(TunnelConnectionTest, ClosesWhenIdle) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  clock_.Advance(std::chrono::seconds(20));
  Settle();
  session.stream->Reset();
  Settle();
  for (int second = 0; second < 55; ++second) {
    clock_.Advance(std::chrono::seconds(1));
    Turn();
  }
  EXPECT_EQ(pool_->size(), 1U);
  for (int second = 0; second < 10; ++second) {
    clock_.Advance(std::chrono::seconds(1));
    Turn();
  }
  Settle();
  EXPECT_EQ(pool_->size(), 0U);
  EXPECT_EQ(server_.closed, std::vector<Reason>{Reason::kNone});
  EXPECT_EQ(counters_.closed[0].value(), 1U);
}

TEST_F(TunnelConnectionTest, KeepsATunnelWhoseStreamsAreSilent) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  for (int second = 0; second < 7200; ++second) {  // two idle hours (F35)
    clock_.Advance(std::chrono::seconds(1));
    Turn();
  }
  EXPECT_EQ(session.resets, 0);
  session.Send("awake");
  ASSERT_TRUE(Until([&] { return server_.sessions[0]->received == "awake"; }));
}

TEST_F(TunnelConnectionTest, NoticesAPeerThatIsGone) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  Settle();
  for (int second = 0; second < 39; ++second) {
    clock_.Advance(std::chrono::seconds(1));
    client_loop_->RunOnce(std::chrono::milliseconds(0));  // the server's loop stands still
  }
  EXPECT_EQ(session.resets, 0);
  for (int second = 0; second < 5; ++second) {
    clock_.Advance(std::chrono::seconds(1));
    client_loop_->RunOnce(std::chrono::milliseconds(0));
  }
  EXPECT_EQ(session.resets, 1);
  EXPECT_EQ(session.reset, Reason::kTunnelClosed);
  EXPECT_EQ(pool_->size(), 0U);
}

TEST_F(TunnelConnectionTest, DrainsWithoutALoss) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  server_.tunnels[0]->Drain();
  Settle();
  session.Send("goes on");
  ASSERT_TRUE(Until([&] { return server_.sessions[0]->received == "goes on"; }));
  Session& next = Open();
  ASSERT_TRUE(Until([&] { return next.accepted == 1; }));
  EXPECT_EQ(server_.tunnels.size(), 2U);
  session.stream->Reset();
  ASSERT_TRUE(Until([&] { return server_.closed.size() == 1; }));
  EXPECT_EQ(server_.closed[0], Reason::kNone);
  EXPECT_EQ(session.resets + next.resets, 0);
}

TEST_F(TunnelConnectionTest, StreamsMayOutliveTheirTunnel) {
  Session& ended = Open();
  Session& open = Open();
  ASSERT_TRUE(Until([&] { return open.accepted == 1; }));
  server_.sessions[0]->return_credit = false;
  ended.end_when_sent = true;
  ended.Send("kept");
  server_.sessions[0]->end_when_sent = true;
  server_.sessions[0]->Send("");
  ASSERT_TRUE(Until([&] { return server_.sessions[0]->ends == 1 && ended.ends == 1; }));
  pool_.reset();
  EXPECT_EQ(open.resets, 1);
  EXPECT_EQ(ended.resets, 0);
  open.Send("nowhere");
  ended.stream->ReturnCredit(0);
  Settle();
  server_.tunnels.clear();
  server_.sessions[0]->stream->ReturnCredit(4);  // of a tunnel that is gone
}

}  // namespace
}  // namespace weir::proxy
