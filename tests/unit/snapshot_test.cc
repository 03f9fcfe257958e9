#include "agent/model/snapshot.h"

#include <gtest/gtest.h>

namespace weir::model {
namespace {

std::shared_ptr<const Workload> MakeWorkload(std::string name, std::string address,
                                             std::uint16_t port) {
  return std::make_shared<const Workload>(
      Workload{.name = name,
               .ns = "",
               .service_account = "",
               .identity = SpiffeId::Make("mesh.test", "/workload/" + name).value(),
               .node = "a",
               .addresses = {base::IpAddress::Parse(address).value()},
               .inbounds = {{.port = port, .name = "main", .hint = ProtocolHint::kHttp}},
               .labels = {}});
}

Snapshot MakeSnapshot() {
  auto one = MakeWorkload("one", "198.18.0.1", 80);
  auto local = std::make_shared<LocalWorkload>();
  local->id = LocalId{7};
  local->workload = one;
  return Snapshot({.revision = 1,
                   .trust_domain = "mesh.test",
                   .node_name = "a",
                   .mesh_ranges = {base::Cidr::Parse("198.18.0.0/16").value()},
                   .workloads = {one, MakeWorkload("two", "198.18.0.2", 80),
                                 MakeWorkload("three", "198.18.0.2", 81)},
                   .locals = {local},
                   .limits = {}});
}

base::Endpoint At(std::string_view text) {
  return base::Endpoint::Parse(text).value();
}

TEST(SnapshotTest, FindsTheOnlyWorkloadOfAnAddressOnAnyPort) {
  const Snapshot snapshot = MakeSnapshot();
  ASSERT_NE(snapshot.FindByAddress(At("198.18.0.1:9999")), nullptr);
  EXPECT_EQ(snapshot.FindByAddress(At("198.18.0.1:9999"))->name, "one");
  EXPECT_EQ(snapshot.FindByAddress(At("198.18.0.3:80")), nullptr);
}

TEST(SnapshotTest, TellsWorkloadsOnOneAddressApartByTheirPorts) {
  const Snapshot snapshot = MakeSnapshot();
  EXPECT_EQ(snapshot.FindByAddress(At("198.18.0.2:80"))->name, "two");
  EXPECT_EQ(snapshot.FindByAddress(At("198.18.0.2:81"))->name, "three");
  EXPECT_EQ(snapshot.FindByAddress(At("198.18.0.2:82")), nullptr);
  EXPECT_EQ(snapshot.FindBySource(At("198.18.0.2:1").address), nullptr);
}

TEST(SnapshotTest, KnowsLocalsByIdAndByRegistryEntry) {
  const Snapshot snapshot = MakeSnapshot();
  const LocalWorkload* local = snapshot.FindLocal(LocalId{7});
  ASSERT_NE(local, nullptr);
  EXPECT_EQ(snapshot.FindLocal(*local->workload), local);
  EXPECT_EQ(snapshot.FindLocal(LocalId{8}), nullptr);
  EXPECT_EQ(snapshot.FindLocal(*snapshot.FindByAddress(At("198.18.0.2:80"))), nullptr);
}

TEST(SnapshotTest, SharesItsEntriesWithRecordsThatOutliveIt) {
  std::shared_ptr<const Workload> two;
  std::shared_ptr<const LocalWorkload> local;
  {
    const Snapshot snapshot = MakeSnapshot();
    two = snapshot.Shared(snapshot.FindByAddress(At("198.18.0.2:80")));
    local = snapshot.Shared(snapshot.FindLocal(LocalId{7}));
    EXPECT_EQ(snapshot.Shared(snapshot.FindByAddress(At("198.18.0.3:80"))), nullptr);
  }
  ASSERT_NE(two, nullptr);
  EXPECT_EQ(two->name, "two");
  ASSERT_NE(local, nullptr);
  EXPECT_EQ(local->id, LocalId{7});
}

TEST(SnapshotTest, FindsAPeerByItsAddressAndItsIdentityTogether) {
  const Snapshot snapshot = MakeSnapshot();
  const Workload* three = snapshot.FindByAddress(At("198.18.0.2:81"));
  EXPECT_EQ(snapshot.FindPeer(At("198.18.0.2:1").address, three->identity.uri()), three);
  EXPECT_EQ(snapshot.FindPeer(At("198.18.0.1:1").address, three->identity.uri()), nullptr);
  EXPECT_TRUE(snapshot.KnowsAddress(At("198.18.0.2:1").address));
  EXPECT_FALSE(snapshot.KnowsAddress(At("198.18.0.3:1").address));
}

TEST(SnapshotTest, KnowsTheMeshRanges) {
  const Snapshot snapshot = MakeSnapshot();
  EXPECT_TRUE(snapshot.InMeshRange(At("198.18.255.1:1").address));
  EXPECT_FALSE(snapshot.InMeshRange(At("198.19.0.1:1").address));
}

TEST(SpiffeIdTest, AcceptsWhatTheStandardAllows) {
  for (const auto* uri :
       {"spiffe://mesh.test", "spiffe://mesh.test/ns/shop/sa/Cart_1.2-x", "spiffe://a_b-c.1/x"}) {
    ASSERT_TRUE(SpiffeId::Parse(uri).has_value()) << uri;
    EXPECT_EQ(SpiffeId::Parse(uri)->uri(), uri);
  }
  EXPECT_EQ(SpiffeId::Parse("spiffe://mesh.test/a/b")->trust_domain(), "mesh.test");
  EXPECT_EQ(SpiffeId::Parse("spiffe://mesh.test/a/b")->path(), "/a/b");
  EXPECT_EQ(SpiffeId::Parse("spiffe://mesh.test")->path(), "");
}

TEST(SpiffeIdTest, RefusesWhatTheStandardForbids) {
  for (const auto* uri :
       {"", "https://mesh.test/a", "spiffe://", "spiffe:///a", "spiffe://Mesh.test/a",
        "spiffe://mesh.test/", "spiffe://mesh.test//a", "spiffe://mesh.test/a/",
        "spiffe://mesh.test/a/../b", "spiffe://mesh.test/./b", "spiffe://mesh.test/a%2Fb",
        "spiffe://mesh.test/a?b", "spiffe://mesh.test/a#b", "spiffe://mesh.test:80/a",
        "spiffe://user@mesh.test/a", "SPIFFE://mesh.test/a"}) {
    EXPECT_FALSE(SpiffeId::Parse(uri).has_value()) << uri;
  }
  EXPECT_TRUE(SpiffeId::Make(std::string(255, 'a'), "/x").has_value());
  EXPECT_FALSE(SpiffeId::Make(std::string(256, 'a'), "/x").has_value());
  EXPECT_TRUE(SpiffeId::Make("t", "/" + std::string(2048 - 11, 'x')).has_value());
  EXPECT_FALSE(SpiffeId::Make("t", "/" + std::string(2048 - 10, 'x')).has_value());
}

}  // namespace
}  // namespace weir::model
