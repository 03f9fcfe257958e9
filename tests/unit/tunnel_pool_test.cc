// Which tunnel a stream gets, and what becomes of those that get none.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>
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
using TunnelPoolTest = test::TunnelBed;

TEST_F(TunnelPoolTest, UsesPort15008AndH2WhereAskedTo) {
  sockets_.to = server_.address;
  key_.destination.port = 8080;
  key_.port = model::TunnelPort::kHbone15008;
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  EXPECT_EQ(sockets_.requests[0].destination.port, 15008);
  EXPECT_EQ(session.stream->connection()->alpn(), "h2");
}

TEST_F(TunnelPoolTest, ReusesATunnelButNeverForAnotherIdentityOrDestination) {
  for (int i = 0; i < 10; ++i) {
    Open();
  }
  ASSERT_TRUE(Until([&] { return sessions_.back()->accepted == 1; }));
  Open();
  EXPECT_EQ(pool_->size(), 1U);
  TunnelKey other = key_;
  other.source = kCarol;
  Session& carol = Open(other);
  ASSERT_TRUE(Until([&] { return carol.accepted == 1; }));
  EXPECT_EQ(pool_->size(), 2U);
  EXPECT_EQ(server_.peers[1], "spiffe://one.test/ns/a/sa/carol");
  TunnelKey elsewhere = key_;
  elsewhere.destination.address = base::IpAddress::V4(htonl(0x7f000002U));
  sockets_.to = server_.address;
  Session& third = Open(elsewhere);
  ASSERT_TRUE(Until([&] { return third.accepted == 1; }));
  EXPECT_EQ(pool_->size(), 3U);
}

TEST_F(TunnelPoolTest, ARenewedSvidGetsATunnelOfItsOwnAndOldStreamsGoOn) {
  Session& old = Open();
  ASSERT_TRUE(Until([&] { return old.accepted == 1; }));
  mesh_.svids[kAlice] = pki_.Workload("/ns/a/sa/alice", "node-a");
  Session& fresh = Open();
  ASSERT_TRUE(Until([&] { return fresh.accepted == 1; }));
  EXPECT_NE(old.stream->connection(), fresh.stream->connection());
  old.Send("still here");
  ASSERT_TRUE(Until([&] { return server_.sessions[0]->received == "still here"; }));
  old.stream->Reset();
  ASSERT_TRUE(Until([&] { return pool_->size() == 1; }));
}

TEST_F(TunnelPoolTest, TellsAStandingTunnelWhosePeerIsNotTheRightOneAnyMore) {
  Session& first = Open();
  ASSERT_TRUE(Until([&] { return first.accepted == 1; }));
  mesh_.expected = "spiffe://one.test/ns/b/sa/dora";
  Session& second = Open();
  ASSERT_TRUE(Until([&] { return second.refusals == 1; }));
  EXPECT_EQ(second.refused, Reason::kPeerIdentityMismatch);
  EXPECT_EQ(first.resets, 0);  // the scan of the sessions decides about that one
}

TEST_F(TunnelPoolTest, SaysWhyThereIsNoTunnel) {
  TunnelKey nobody = key_;
  nobody.source = model::LocalId{9};
  Session& no_identity = Open(nobody);
  EXPECT_EQ(no_identity.refusals, 0);  // never from within Open
  Turn();
  EXPECT_EQ(no_identity.refused, Reason::kNoIdentity);

  sockets_.fail_with = base::Error(base::ErrorCode::kNotFound, "gone");
  Session& gone = Open();
  Turn();
  EXPECT_EQ(gone.refused, Reason::kNamespaceGone);
  sockets_.fail_with.reset();

  base::UniqueFd closed = io::ListenTcp({.address = server_.address.address}, 1).value();
  TunnelKey refused_key = key_;
  refused_key.destination = base::LocalEndpoint(closed.get()).value();
  closed.Reset();
  Session& refused = Open(refused_key);
  ASSERT_TRUE(Until([&] { return refused.refusals == 1; }));
  EXPECT_EQ(refused.refused, Reason::kUpstreamRefused);
  EXPECT_EQ(pool_->size(), 0U);

  Session& withdrawn = Open(nobody);
  withdrawn.stream.reset();
  Turn();
  EXPECT_EQ(withdrawn.refusals, 0);
}

// A file is what epoll refuses to watch; it also does when it has no room.
TEST_F(TunnelPoolTest, ForgetsATunnelThatCannotBeWatched) {
  sockets_.make = [] { return base::UniqueFd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC)); };
  for (int i = 0; i < 3; ++i) {
    Session& session = Open();
    Settle();
    EXPECT_EQ(session.refusals, 1);
    EXPECT_EQ(session.refused, Reason::kLimitReached);
  }
  EXPECT_EQ(pool_->size(), 0U);
  EXPECT_EQ(counters_.open_client.value(), 0U);
  sockets_.make = nullptr;
  Session& next = Open();
  ASSERT_TRUE(Until([&] { return next.accepted == 1; }));
  EXPECT_EQ(counters_.open_client.value(), 1U);
}

TEST_F(TunnelPoolTest, KeepsNothingOfStreamsThatGaveUpWaiting) {
  server_.context.limits.mux.max_peer_streams = 1;
  for (std::size_t i = 0; i < TunnelPool::kMaxTunnelsPerKey; ++i) {
    Session& session = Open();
    ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  }
  Session& first = Open();
  const auto give_up = [&](int count) {
    for (int i = 0; i < count; ++i) {
      Open();
      sessions_.pop_back();
    }
  };
  give_up(100);
  const std::size_t before = ::mallinfo2().uordblks;
  give_up(50'000);
  EXPECT_LT(::mallinfo2().uordblks, before + 64'000);
  // Those that wait still are served in the order in which they came.
  Session& second = Open();
  Settle();
  EXPECT_EQ(first.accepted + second.accepted, 0);
  EXPECT_EQ(pool_->size(), TunnelPool::kMaxTunnelsPerKey);
  for (std::size_t i = 0; i < TunnelPool::kMaxTunnelsPerKey; ++i) {
    sessions_[i]->stream->Reset();
  }
  ASSERT_TRUE(Until([&] { return first.accepted == 1 && second.accepted == 1; }));
}

TEST_F(TunnelPoolTest, ServesThoseThatWaitInTurnAroundThoseThatGaveUp) {
  std::vector<Session*> waiting;
  for (int i = 0; i < 9; ++i) {
    waiting.push_back(&Open());
    waiting.back()->Send(std::string(1, static_cast<char>('a' + i)));
  }
  for (const std::size_t gone : {0U, 4U, 8U, 3U}) {
    waiting[gone]->stream.reset();
  }
  ASSERT_TRUE(Until([&] { return waiting[7]->accepted == 1; }));
  Settle();
  std::string order;
  for (const auto& session : server_.sessions) {
    order += session->received;
  }
  EXPECT_EQ(order, "bcfgh");
}

TEST_F(TunnelPoolTest, OpensAnotherTunnelAtThePeersStreamLimit) {
  server_.context.limits.mux.max_peer_streams = 2;
  Session& first = Open();
  ASSERT_TRUE(Until([&] { return first.accepted == 1; }));
  for (int i = 0; i < 5; ++i) {
    Open();
  }
  ASSERT_TRUE(Until([&] {
    return std::ranges::all_of(sessions_, [](const auto& s) { return s->accepted == 1; });
  }));
  EXPECT_GE(pool_->size(), 3U);
  EXPECT_LE(pool_->size(), TunnelPool::kMaxTunnelsPerKey);
  // Beyond what all of them carry, streams wait for one to end.
  for (int i = 0; i < 4; ++i) {
    Open();
  }
  Settle();
  EXPECT_EQ(sessions_.back()->accepted, 0);
  EXPECT_EQ(pool_->size(), TunnelPool::kMaxTunnelsPerKey);
  for (std::size_t i = 0; i < 4; ++i) {
    sessions_[i]->stream->Reset();
  }
  ASSERT_TRUE(Until([&] { return sessions_.back()->accepted == 1; }));
}

TEST_F(TunnelPoolTest, TriesStreamsThatADrainingPeerNeverSawAgain) {
  Session& first = Open();
  ASSERT_TRUE(Until([&] { return first.accepted == 1; }));
  server_.tunnels[0]->Close(Reason::kDraining, "test");
  Session& second = Open();  // does not know yet
  ASSERT_TRUE(Until([&] { return first.resets == 1; }));
  EXPECT_EQ(first.reset, Reason::kTunnelClosed);
  ASSERT_TRUE(Until([&] { return second.accepted == 1; }));
  EXPECT_EQ(second.refusals, 0);
  EXPECT_EQ(server_.tunnels.size(), 2U);
}

TEST_F(TunnelPoolTest, AWorkloadsEndClosesItsTunnelsAtOnce) {
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.accepted == 1; }));
  Session& waiting =
      Open({.source = kAlice,
            .destination = {.address = server_.address.address, .port = server_.address.port}});
  TunnelKey other = key_;
  other.source = kCarol;
  Session& carol = Open(other);
  Settle();
  pool_->CloseSource(kAlice);
  EXPECT_EQ(session.resets, 1);
  EXPECT_EQ(session.reset, Reason::kNamespaceGone);
  EXPECT_EQ(waiting.resets + waiting.refusals, 1);
  Settle();
  EXPECT_EQ(carol.resets, 0);
  EXPECT_EQ(server_.sessions[0]->resets, 1);
  EXPECT_EQ(pool_->size(), 1U);
}

TEST_F(TunnelPoolTest, ManyShortStreams) {
  for (int round = 0; round < 20; ++round) {
    sessions_.clear();
    server_.sessions.clear();
    for (int i = 0; i < 50; ++i) {
      Session& session = Open();
      session.end_when_sent = true;
      session.Send("hello");
    }
    ASSERT_TRUE(Until([&] {
      for (const auto& session : server_.sessions) {
        if (session->ends == 1 && session->to_send.empty()) {
          session->end_when_sent = true;
          session->Send("world");
        }
      }
      return std::ranges::all_of(sessions_, [](const auto& s) { return s->ends == 1; });
    }));
    for (const auto& session : sessions_) {
      ASSERT_EQ(session->received, "world");
    }
  }
  EXPECT_EQ(counters_.streams_opened.value(), 1000U);
  EXPECT_EQ(pool_->size(), 1U);
}

}  // namespace
}  // namespace weir::proxy
