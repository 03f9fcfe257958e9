#include "agent/proxy/refusal.h"

#include <gtest/gtest.h>

#include <string>

namespace weir::proxy {
namespace {

using observe::Reason;

TEST(RefusalTest, SaysTheReasonAcrossTheTunnel) {
  for (const Reason reason :
       {Reason::kUpstreamRefused, Reason::kUpstreamUnreachable, Reason::kUpstreamTimeout,
        Reason::kPlaintextRefused, Reason::kLimitReached, Reason::kDraining, Reason::kNamespaceGone,
        Reason::kPolicyDenied}) {
    EXPECT_EQ(ReasonOfRefusal(StatusOf(reason), observe::ToString(reason)), reason);
  }
}

TEST(RefusalTest, TakesAnIdentityThatIsRefusedForItsOwn) {
  for (const Reason reason : {Reason::kPeerIdentityMismatch, Reason::kPeerNodeMismatch}) {
    EXPECT_EQ(ReasonOfRefusal(StatusOf(reason), observe::ToString(reason)), Reason::kRefusedByPeer);
  }
}

TEST(RefusalTest, BelievesNothingThatOnlyTheNearEndCanKnow) {
  for (const Reason reason :
       {Reason::kNone, Reason::kDownstreamReset, Reason::kTunnelClosed, Reason::kInternal,
        Reason::kWitnessRefused, Reason::kPeerUntrusted, Reason::kBadRequest}) {
    EXPECT_EQ(ReasonOfRefusal(503, observe::ToString(reason)), Reason::kTunnelRefused);
  }
}

TEST(RefusalTest, TakesAnythingElseForARefusal) {
  for (const std::string& said :
       {std::string(), std::string("Upstream-Refused"), std::string("upstream-refused "),
        std::string("upstream-refused\x1b[31m"), std::string(1U << 20U, 'x')}) {
    EXPECT_EQ(ReasonOfRefusal(503, said), Reason::kTunnelRefused) << said.substr(0, 40);
  }
}

TEST(RefusalTest, GoesByTheStatusWhereNothingIsSaid) {
  EXPECT_EQ(ReasonOfRefusal(503, std::nullopt), Reason::kUpstreamRefused);
  EXPECT_EQ(ReasonOfRefusal(504, std::nullopt), Reason::kUpstreamTimeout);
  EXPECT_EQ(ReasonOfRefusal(502, std::nullopt), Reason::kUpstreamUnreachable);
  EXPECT_EQ(ReasonOfRefusal(403, std::nullopt), Reason::kPolicyDenied);
  EXPECT_EQ(ReasonOfRefusal(401, std::nullopt), Reason::kTunnelRefused);
  EXPECT_EQ(ReasonOfRefusal(302, std::nullopt), Reason::kTunnelRefused);
}

}  // namespace
}  // namespace weir::proxy
