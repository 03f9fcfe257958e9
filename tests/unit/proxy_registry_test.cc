// What becomes of connections that stand when the registry or the policy changes.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/support/proxy_bed.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

using model::TlsMode;
using observe::Direction;
using observe::Reason;
using observe::Verdict;

class RegistryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    client_ = bed_.AddPod(0, "client");
    server_ = bed_.AddPod(1, "server");
    neighbour_ = bed_.AddPod(0, "neighbour");
    far_ = bed_.Expose(server_);
    near_ = bed_.Expose(neighbour_);
    bed_.Publish();
  }
  struct Pair {
    base::UniqueFd client;
    base::UniqueFd server;
  };
  // A connection over which bytes have passed both ways.
  Pair Talking(const base::Endpoint& to, int listener) {
    Pair pair;
    pair.client = bed_.Connect(client_, to);
    EXPECT_TRUE(SendText(pair.client.get(), "*x"));
    pair.server = AcceptOne(listener);
    EXPECT_EQ(ReceiveText(pair.server.get(), 2), "*x");
    EXPECT_TRUE(SendText(pair.server.get(), "y"));
    EXPECT_EQ(ReceiveText(pair.client.get(), 1), "y");
    return pair;
  }
  Pair Talking(const ProxyBed::Application& to) { return Talking(to.endpoint, to.listener.get()); }
  void ExpectAlive(const Pair& pair) {
    EXPECT_TRUE(SendText(pair.client.get(), "more"));
    EXPECT_EQ(ReceiveText(pair.server.get(), 4), "more");
    EXPECT_TRUE(SendText(pair.server.get(), "back"));
    EXPECT_EQ(ReceiveText(pair.client.get(), 4), "back");
  }
  void ExpectCut(const Pair& pair, Reason reason) {
    EXPECT_EQ(ReceiveEnd(pair.client.get()), StreamEnd::kReset);
    EXPECT_EQ(ReceiveEnd(pair.server.get()), StreamEnd::kReset);
    const auto record = bed_.records(0).WaitFor(
        [](const auto& each) { return each.flow.direction == Direction::kOutbound; });
    ASSERT_TRUE(record.has_value());
    EXPECT_EQ(record->flow.reason, reason) << observe::ToString(record->flow.reason);
    EXPECT_EQ(record->flow.verdict, Verdict::kDeny);
    EXPECT_EQ(bed_.Reasons(0, reason), 1U);
  }
  template <typename Change>
  void Replace(std::size_t pod, Change change) {
    auto changed = std::make_shared<model::Workload>(*bed_.pod(pod).workload);
    change(*changed);
    bed_.pod(pod).workload = std::move(changed);
    bed_.Publish(/*only=*/0);
  }

  ProxyBed bed_;
  std::size_t client_ = 0;
  std::size_t server_ = 0;
  std::size_t neighbour_ = 0;
  ProxyBed::Application far_;
  ProxyBed::Application near_;
};

TEST_F(RegistryTest, CutsATunnelledStreamWhoseServerIsSomebodyElseNow) {
  const Pair pair = Talking(far_);
  Replace(server_, [](model::Workload& workload) {
    workload.identity = model::SpiffeId::Make("mesh.test", "/ns/test/sa/successor").value();
  });
  ExpectCut(pair, Reason::kPeerIdentityMismatch);
}

TEST_F(RegistryTest, CutsATunnelledStreamWhoseServerLivesOnAnotherNodeNow) {
  const Pair pair = Talking(far_);
  Replace(server_, [](model::Workload& workload) { workload.node = "node-7"; });
  ExpectCut(pair, Reason::kPeerNodeMismatch);
}

TEST_F(RegistryTest, LetsATunnelledStreamEndInItsOwnTimeWhenItsServerIsDropped) {
  const Pair pair = Talking(far_);
  Replace(server_, [&](model::Workload& workload) { workload.addresses = {bed_.FreshAddress()}; });
  ExpectAlive(pair);
}

TEST_F(RegistryTest, KeepsAStreamWhenOnlyOtherThingsChange) {
  const Pair far = Talking(far_);
  const Pair near = Talking(near_);
  Replace(server_, [](model::Workload& workload) { workload.labels["v"] = "2"; });
  Replace(neighbour_, [](model::Workload& workload) { workload.labels["v"] = "2"; });
  ExpectAlive(far);
  ExpectAlive(near);
}

TEST_F(RegistryTest, CutsAJoinWhoseAddressIsAnothersNow) {
  const Pair pair = Talking(near_);
  const base::IpAddress address = near_.endpoint.address;
  auto moved = std::make_shared<model::Workload>(*bed_.pod(neighbour_).workload);
  moved->addresses = {bed_.FreshAddress()};
  bed_.pod(neighbour_).workload = std::move(moved);
  Replace(server_, [&](model::Workload& workload) {
    workload.addresses.push_back(address);
    workload.inbounds.push_back({.port = near_.endpoint.port, .name = "taken", .hint = {}});
  });
  EXPECT_EQ(ReceiveEnd(pair.client.get()), StreamEnd::kReset);
  EXPECT_EQ(ReceiveEnd(pair.server.get()), StreamEnd::kReset);
  EXPECT_TRUE(
      ProxyBed::Eventually([&] { return bed_.Reasons(0, Reason::kPeerIdentityMismatch) == 1; }));
}

// Passing through is for what is outside of the mesh.
class PassthroughTest : public RegistryTest {
 protected:
  void SetUp() override {
    RegistryTest::SetUp();
    outside_ = Listen("127.0.0.1", 0);
    endpoint_ = {.address = base::IpAddress::Parse("127.0.0.1").value(),
                 .port = PortOf(outside_.get())};
  }
  base::UniqueFd outside_;
  base::Endpoint endpoint_;
};

TEST_F(PassthroughTest, IsCutWhenItsDestinationJoinsTheMesh) {
  const Pair pair = Talking(endpoint_, outside_.get());
  Replace(server_, [&](model::Workload& workload) {
    workload.addresses.push_back(endpoint_.address);
    workload.inbounds.push_back({.port = endpoint_.port, .name = "joined", .hint = {}});
  });
  ExpectCut(pair, Reason::kPlaintextRefused);
}

TEST_F(PassthroughTest, GoesOnWhileItsDestinationIsOutside) {
  const Pair pair = Talking(endpoint_, outside_.get());
  Replace(server_, [](model::Workload& workload) { workload.labels["v"] = "2"; });
  ExpectAlive(pair);
}

TEST_F(PassthroughTest, ToTheMeshsRangesIsCutWhenItsWorkloadBecomesStrict) {
  bed_.pod(client_).tls_mode = TlsMode::kPermissive;
  bed_.Publish();
  const base::IpAddress unregistered = bed_.FreshAddress();
  const auto listener = Listen(unregistered.ToString(), 0);
  const Pair pair =
      Talking({.address = unregistered, .port = PortOf(listener.get())}, listener.get());
  bed_.Publish();
  ExpectAlive(pair);
  bed_.pod(client_).tls_mode = TlsMode::kStrict;
  bed_.Publish();
  ExpectCut(pair, Reason::kUnknownDestination);
}

}  // namespace
}  // namespace weir::test
