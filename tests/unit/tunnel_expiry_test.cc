// Tunnels and the time that their certificates are good for.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "tests/support/tunnel_bed.h"

namespace weir::proxy {
namespace {

using observe::Reason;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using test::kAlice;
using Session = test::TunnelSession;

class TunnelExpiryTest : public test::TunnelBed {
 protected:
  void RenewServer(seconds life) {
    server_.workload = pki_.Workload("/ns/b/sa/bob", "node-b", life);
  }
  void RenewClient(seconds life) {
    mesh_.svids[kAlice] = pki_.Workload("/ns/a/sa/alice", "node-a", life);
  }
  Session& Accepted() {
    Session& session = Open();
    EXPECT_TRUE(Until([&] { return session.accepted == 1 || session.refusals == 1; }));
    EXPECT_EQ(session.refused, Reason::kNone);
    return session;
  }
};

TEST_F(TunnelExpiryTest, NewStreamsLeaveItBeforeThePeersCertificateExpires) {
  RenewServer(minutes(40));
  Session& old = Accepted();
  Pass(minutes(28));
  EXPECT_EQ(Accepted().stream->connection(), old.stream->connection());
  RenewServer(hours(24));  // the standing tunnel knows nothing of it
  Pass(minutes(3));        // now the last quarter has begun
  Session& fresh = Accepted();
  EXPECT_NE(fresh.stream->connection(), old.stream->connection());
  EXPECT_GT(fresh.stream->connection()->peer().not_after,
            old.stream->connection()->peer().not_after);
  // What is under way has until the end.
  old.Send("still here");
  ASSERT_TRUE(Until([&] { return server_.sessions[0]->received == "still here"; }));
  EXPECT_EQ(old.resets + fresh.resets, 0);
}

TEST_F(TunnelExpiryTest, BothEndsCloseItWhenThePeersCertificateExpires) {
  RenewServer(minutes(40));
  Session& session = Accepted();
  Pass(minutes(39) + seconds(50));
  EXPECT_EQ(session.resets, 0);
  Pass(seconds(15));
  EXPECT_EQ(session.resets, 1);
  EXPECT_EQ(session.reset, Reason::kCertificateExpired);
  EXPECT_EQ(server_.sessions[0]->resets, 1);
  EXPECT_EQ(pool_->size(), 0U);
  ASSERT_EQ(server_.closed.size(), 1U);
  EXPECT_TRUE(server_.closed[0] == Reason::kCertificateExpired ||
              server_.closed[0] == Reason::kTunnelClosed);
}

// The client's loop stands still: it is the server that must not go on.
TEST_F(TunnelExpiryTest, TheServerClosesItByItself) {
  RenewClient(seconds(35));
  (void)Accepted();
  for (int i = 0; i < 36; ++i) {  // less than it takes to notice a peer that is silent
    clock_.Advance(seconds(1));
    server_.Turn();
  }
  EXPECT_EQ(server_.sessions[0]->resets, 1);
  EXPECT_EQ(server_.sessions[0]->reset, Reason::kCertificateExpired);
}

TEST_F(TunnelExpiryTest, ClosesItWhenItsOwnCertificateExpires) {
  RenewClient(minutes(40));
  Session& session = Accepted();
  Pass(minutes(40) + seconds(2));
  EXPECT_EQ(session.resets, 1);
  EXPECT_EQ(session.reset, Reason::kCertificateExpired);
}

TEST_F(TunnelExpiryTest, NoticesAStepOfTheWallClock) {
  Session& session = Accepted();
  clock_.StepWall(hours(25));
  EXPECT_FALSE(session.stream->connection()->usable());
  Pass(seconds(31));
  EXPECT_EQ(session.resets, 1);
  EXPECT_EQ(session.reset, Reason::kCertificateExpired);
}

TEST_F(TunnelExpiryTest, RefusesAPeerWhoseCertificateHasExpired) {
  RenewServer(seconds(30));
  clock_.Advance(seconds(40));
  Session& session = Open();
  ASSERT_TRUE(Until([&] { return session.refusals == 1; }));
  EXPECT_EQ(session.refused, Reason::kCertificateExpired);
  // As soon as there is a new one all is well.
  RenewServer(hours(24));
  Session& next = Open();
  ASSERT_TRUE(Until([&] { return next.accepted == 1; }));
}

// The server's certificates last 20 minutes and the client's 50, renewed at half of that; streams
// of up to two minutes are under way all the time.
TEST_F(TunnelExpiryTest, NobodyNoticesRenewalsAtHalfLife) {
  RenewServer(minutes(20));
  RenewClient(minutes(50));
  std::size_t opened = 0;
  for (int second = 1; second <= 2 * 3600; ++second) {
    if (second % 600 == 0) {
      RenewServer(minutes(20));
    }
    if (second % 1500 == 130) {
      RenewClient(minutes(50));
    }
    if (second % 20 == 0) {
      Open();
      ++opened;
    }
    clock_.Advance(seconds(1));
    Turn();
    Turn();
    ASSERT_TRUE(std::ranges::all_of(
        sessions_, [](const auto& s) { return s->resets == 0 && s->refusals == 0; }))
        << "after " << second << " s";
    if (sessions_.size() > 6) {
      EXPECT_EQ(sessions_.front()->accepted, 1);
      sessions_.erase(sessions_.begin());
    }
  }
  EXPECT_EQ(counters_.streams_opened.value(), opened);
  EXPECT_GE(server_.tunnels.size(), 10U) << "nothing was renewed";
  EXPECT_LE(server_.tunnels.size(), 20U) << "tunnels are not kept";
}

TEST_F(TunnelExpiryTest, ATunnelOfVeryShortCertificatesIsUsedToItsEnd) {
  RenewServer(seconds(3));
  Session& session = Accepted();
  Pass(std::chrono::milliseconds(1500), std::chrono::milliseconds(100));
  EXPECT_EQ(Accepted().stream->connection(), session.stream->connection());
  Pass(seconds(2), std::chrono::milliseconds(100));
  EXPECT_EQ(session.reset, Reason::kCertificateExpired);
  EXPECT_LE(server_.tunnels.size(), 2U);
}

}  // namespace
}  // namespace weir::proxy
