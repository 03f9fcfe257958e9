#include "agent/identity/svid_manager.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "agent/tls/engine.h"
#include "tests/support/temporary_directory.h"

namespace weir::identity {
namespace {

using model::LocalId;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr LocalId kCart{1};
constexpr LocalId kShop{2};

class SvidManagerTest : public testing::Test {
 protected:
  SvidManagerTest() {
    EXPECT_TRUE(InitRoot({.directory = directory_, .trust_domain = "one.test"}, clock_));
    RenewNode();
  }
  void RenewNode() {
    EXPECT_TRUE(IssueNode({.directory = directory_, .node = "node-a", .force = true}, clock_));
  }
  static std::pair<LocalId, model::SpiffeId> Workload(LocalId id, const std::string& name) {
    return {id, *model::SpiffeId::Make("one.test", "/ns/a/sa/" + name)};
  }
  // Lets `span` pass, doing what is due when it is due, as the agent's loop does.
  void Run(std::chrono::nanoseconds span) {
    const auto end = clock_.Now() + span;
    while (manager_.NextDue() <= end) {
      if (manager_.NextDue() > clock_.Now()) {
        clock_.Advance(manager_.NextDue() - clock_.Now());
      }
      manager_.Tick();
    }
    clock_.Advance(end - clock_.Now());
  }
  SvidStatus StatusOf(LocalId id) {
    for (const auto& status : manager_.Status()) {
      if (status.id == id) {
        return status;
      }
    }
    return {};
  }
  std::int64_t Wall() {
    return std::chrono::floor<seconds>(clock_.WallNow()).time_since_epoch().count();
  }

  base::ManualClock clock_;
  test::TemporaryDirectory temporary_;
  std::string directory_ = temporary_.File("ca");
  std::string node_pem_ = directory_ + "/nodes/node-a.pem";
  std::map<LocalId, std::shared_ptr<const tls::WorkloadTls>> current_;
  int calls_ = 0;
  SvidManager manager_{{.files = {.certificate = node_pem_,
                                  .key = directory_ + "/nodes/node-a.key",
                                  .bundle = directory_ + "/root.pem"},
                        .node = "node-a",
                        .trust_domain = "one.test"},
                       clock_,
                       [this](LocalId id, const std::shared_ptr<const tls::WorkloadTls>& svid) {
                         ++calls_;
                         current_[id] = svid;
                       }};
};

TEST_F(SvidManagerTest, IssuesOnceEnrolled) {
  ASSERT_TRUE(manager_.Reload().has_value());
  EXPECT_TRUE(manager_.ready());
  manager_.SetWorkloads({Workload(kCart, "cart"), Workload(kShop, "shop")});
  EXPECT_FALSE(manager_.ready());
  EXPECT_LE(manager_.NextDue(), clock_.Now());
  manager_.Tick();
  EXPECT_TRUE(manager_.ready());
  ASSERT_NE(current_[kCart], nullptr);
  EXPECT_EQ(current_[kCart]->spiffe_id(), "spiffe://one.test/ns/a/sa/cart");
  EXPECT_EQ(current_[kShop]->spiffe_id(), "spiffe://one.test/ns/a/sa/shop");
  const SvidStatus status = StatusOf(kCart);
  EXPECT_EQ(status.not_after, Wall() + 86400);
  EXPECT_EQ(status.serial.size(), 32U);
  EXPECT_EQ(status.last_error, "");
}

TEST_F(SvidManagerTest, RenewsAtHalfLifeWithJitter) {
  std::vector<std::pair<LocalId, model::SpiffeId>> workloads;
  for (std::uint32_t i = 1; i <= 50; ++i) {
    workloads.push_back(Workload(LocalId{i}, "w" + std::to_string(i)));
  }
  manager_.SetWorkloads(workloads);
  manager_.Tick();
  std::set<std::int64_t> times;
  for (const auto& status : manager_.Status()) {
    const double share = static_cast<double>(status.next_renewal - Wall()) / 86400;
    EXPECT_GE(share, 0.449);
    EXPECT_LE(share, 0.551);
    times.insert(status.next_renewal);
  }
  EXPECT_GT(times.size(), 25U);
  const auto before = current_;
  Run(hours(10));
  EXPECT_EQ(calls_, 50);
  EXPECT_EQ(current_, before);
  Run(hours(4));
  EXPECT_EQ(calls_, 100);
  for (const auto& [id, svid] : before) {
    EXPECT_NE(current_[id], svid);
    EXPECT_GT(current_[id]->not_after(), svid->not_after());
  }
}

TEST_F(SvidManagerTest, TakesBackWhatIsNoLongerEnrolled) {
  manager_.SetWorkloads({Workload(kCart, "cart"), Workload(kShop, "shop")});
  manager_.Tick();
  manager_.SetWorkloads({Workload(kShop, "shop")});
  EXPECT_EQ(current_[kCart], nullptr);
  EXPECT_NE(current_[kShop], nullptr);
  EXPECT_EQ(manager_.Status().size(), 1U);
  EXPECT_EQ(calls_, 3);
}

TEST_F(SvidManagerTest, ReplacesTheSvidOfAChangedIdentity) {
  manager_.SetWorkloads({Workload(kCart, "cart")});
  manager_.Tick();
  manager_.SetWorkloads({Workload(kCart, "basket")});
  EXPECT_EQ(current_[kCart], nullptr);
  manager_.Tick();
  ASSERT_NE(current_[kCart], nullptr);
  EXPECT_EQ(current_[kCart]->spiffe_id(), "spiffe://one.test/ns/a/sa/basket");
}

TEST_F(SvidManagerTest, WorksOffALargeEnrolmentInBoundedSteps) {
  std::vector<std::pair<LocalId, model::SpiffeId>> workloads;
  for (std::uint32_t i = 1; i <= 500; ++i) {
    workloads.push_back(Workload(LocalId{i}, "w" + std::to_string(i)));
  }
  manager_.SetWorkloads(workloads);
  manager_.Tick();
  EXPECT_EQ(calls_, static_cast<int>(SvidManager::kIssuesPerTick));
  EXPECT_LE(manager_.NextDue(), clock_.Now());
  for (int i = 0; i < 8 && manager_.NextDue() <= clock_.Now(); ++i) {
    manager_.Tick();
  }
  EXPECT_EQ(calls_, 500);
  EXPECT_TRUE(manager_.ready());
}

TEST_F(SvidManagerTest, SaysWhyThereIsNoAuthorityAndRecoversWithinFiveSeconds) {
  std::filesystem::rename(node_pem_, node_pem_ + ".away");
  EXPECT_FALSE(manager_.Reload().has_value());
  manager_.SetWorkloads({Workload(kCart, "cart")});
  Run(minutes(60));
  EXPECT_FALSE(manager_.ready());
  EXPECT_NE(manager_.ca_status().last_error.find(node_pem_), std::string::npos);
  EXPECT_NE(StatusOf(kCart).last_error.find("no certificate authority"), std::string::npos);
  std::filesystem::rename(node_pem_ + ".away", node_pem_);
  Run(seconds(5));
  EXPECT_TRUE(manager_.ready());
  EXPECT_EQ(StatusOf(kCart).last_error, "");
  EXPECT_EQ(manager_.ca_status().last_error, "");
}

TEST_F(SvidManagerTest, KeepsServingWhileTheAuthorityIsAway) {
  manager_.SetWorkloads({Workload(kCart, "cart")});
  manager_.Tick();
  const auto before = current_[kCart];
  std::filesystem::rename(node_pem_, node_pem_ + ".away");
  Run(hours(1));
  EXPECT_EQ(current_[kCart], before);
  EXPECT_NE(manager_.ca_status().last_error, "");
  EXPECT_TRUE(manager_.ready());
}

TEST_F(SvidManagerTest, WithdrawsAtExpiryAndRecoversWithinFiveSecondsOfANewAuthority) {
  manager_.SetWorkloads({Workload(kCart, "cart")});
  manager_.Tick();
  Run(kMaxNodeLifetime - seconds(10));
  ASSERT_NE(current_[kCart], nullptr);
  EXPECT_LE(current_[kCart]->not_after(), manager_.ca_status().not_after);
  Run(minutes(30));
  EXPECT_EQ(current_[kCart], nullptr);
  EXPECT_FALSE(manager_.ready());
  EXPECT_NE(StatusOf(kCart).last_error.find("expired"), std::string::npos);
  EXPECT_NE(manager_.ca_status().last_error.find("weir ca node"), std::string::npos);
  RenewNode();
  Run(seconds(5));
  EXPECT_NE(current_[kCart], nullptr);
  EXPECT_TRUE(manager_.ready());
}

TEST_F(SvidManagerTest, TakesANewAuthorityAsSoonAsItsFilesChange) {
  manager_.SetWorkloads({Workload(kCart, "cart")});
  manager_.Tick();
  const auto before = current_[kCart];
  const std::string serial = manager_.ca_status().serial;
  RenewNode();
  Run(seconds(5));
  EXPECT_NE(manager_.ca_status().serial, serial);
  EXPECT_NE(current_[kCart], before);
}

TEST_F(SvidManagerTest, KeepsTheOldAuthorityWhenTheNewFilesAreBad) {
  manager_.SetWorkloads({Workload(kCart, "cart")});
  manager_.Tick();
  const auto before = current_[kCart];
  ASSERT_TRUE(IssueNode({.directory = directory_, .node = "node-b"}, clock_));
  std::filesystem::copy_file(directory_ + "/nodes/node-b.pem", node_pem_,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_FALSE(manager_.Reload().has_value());
  Run(seconds(10));
  EXPECT_EQ(current_[kCart], before);
  EXPECT_NE(manager_.ca_status().last_error.find("is not the key of"), std::string::npos);
  EXPECT_NE(manager_.ca_status().serial, "");
}

TEST_F(SvidManagerTest, IssuesAnewWhenTheWallClockStepsEitherWay) {
  for (const auto step : {hours(24), hours(-24)}) {
    manager_.SetWorkloads({});
    manager_.SetWorkloads({Workload(kCart, "cart")});
    manager_.Tick();
    clock_.StepWall(step);
    RenewNode();  // for the step back: nothing is valid before its authority
    Run(seconds(5));
    ASSERT_NE(current_[kCart], nullptr);
    EXPECT_GE(StatusOf(kCart).not_after, Wall() + 86400 - 10);
    EXPECT_LE(StatusOf(kCart).not_before, Wall());
  }
}

TEST_F(SvidManagerTest, IssuesAnewWhenTheWallClockStepsBeyondExpiry) {
  manager_.SetWorkloads({Workload(kCart, "cart")});
  manager_.Tick();
  clock_.StepWall(hours(25));  // the authority is still valid
  Run(seconds(5));
  EXPECT_NE(current_[kCart], nullptr);
  EXPECT_TRUE(manager_.ready());
  EXPECT_GE(StatusOf(kCart).not_after, Wall() + 86400 - 10);
}

TEST_F(SvidManagerTest, IgnoresSmallStepsOfTheWallClock) {
  manager_.SetWorkloads({Workload(kCart, "cart")});
  manager_.Tick();
  Run(minutes(10));
  for (const auto step : {minutes(5), minutes(-10)}) {
    clock_.StepWall(step);
    Run(seconds(10));
  }
  EXPECT_EQ(calls_, 1);
}

// Two workloads of one node talk over what the manager gave them, across a renewal.
TEST_F(SvidManagerTest, RenewalDoesNotTouchAnOpenConnection) {
  manager_.SetWorkloads({Workload(kCart, "cart"), Workload(kShop, "shop")});
  manager_.Tick();
  const auto client = tls::Engine::Client(current_[kCart], tls::kAlpnWeir);
  const auto server = tls::Engine::Server(current_[kShop]);
  io::ByteBuffer to_server;
  io::ByteBuffer to_client;
  io::ByteBuffer received;
  client->Start(to_server);
  for (int i = 0; i < 2; ++i) {
    server->Receive(to_server.Readable(), received, to_client);
    to_server.Clear();
    client->Receive(to_client.Readable(), received, to_server);
    to_client.Clear();
  }
  ASSERT_EQ(server->state(), tls::EngineState::kOpen);
  Run(hours(30));
  EXPECT_GE(calls_, 6);
  const std::string text = "still here";
  client->Send({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, to_server);
  server->Receive(to_server.Readable(), received, to_client);
  EXPECT_EQ(received.size(), text.size());
  EXPECT_EQ(server->peer().node, "node-a");
}

}  // namespace
}  // namespace weir::identity
