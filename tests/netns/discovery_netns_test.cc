#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/config/discovery.h"
#include "agent/io/event_loop.h"
#include "tests/support/root_test.h"
#include "tests/support/sandbox.h"

namespace weir::config {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uid_t kSomeUser = 65534;

WorkloadConfig Wanted(const std::string& name, MatchKind kind, const std::string& match) {
  WorkloadConfig workload;
  workload.name = name;
  workload.match_kind = kind;
  workload.match = match;
  return workload;
}

// Real namespaces and cgroups that come and go.
class DiscoveryNetnsTest : public test::RootTest {
 protected:
  void SetUp() override {
    RootTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    sandbox_.emplace();
    loop_ = io::EventLoop::Create(base::SystemClock()).value();
    discovery_ =
        WorkloadDiscovery::Create(
            *loop_, {.cgroup_root = sandbox_->cgroup(),
                     .on_appeared = [this](const Appeared& one) { appeared_.push_back(one); },
                     .on_vanished = [this](const Vanished& one) { vanished_.push_back(one); }})
            .value();
  }

  // Turns the loop until `done`, at most 10 s.
  bool Until(const std::function<bool()>& done) {
    const auto deadline = base::SystemClock().Now() + seconds(10);
    while (!done() && base::SystemClock().Now() < deadline) {
      loop_->RunOnce(milliseconds(100));
    }
    return done();
  }

  std::optional<test::Sandbox> sandbox_;
  std::unique_ptr<io::EventLoop> loop_;
  std::unique_ptr<WorkloadDiscovery> discovery_;
  std::vector<Appeared> appeared_;
  std::vector<Vanished> vanished_;
};

TEST_F(DiscoveryNetnsTest, NamedNamespaceIsSeenWhenItComesAndGoes) {
  auto& first = sandbox_->AddNamespace("pod");
  const std::string name = first.name();
  discovery_->SetWorkloads({Wanted("pod", MatchKind::kNetns, name)});
  ASSERT_EQ(appeared_.size(), 1U);
  EXPECT_EQ(appeared_[0].path, "/run/netns/" + name);
  sandbox_->RemoveNamespace(first);
  ASSERT_TRUE(Until([&] { return vanished_.size() == 1; }));
  EXPECT_EQ(vanished_[0].workload, "pod");
}

TEST_F(DiscoveryNetnsTest, LaterNamespaceIsSeenWithoutATick) {
  const std::string name = "weir-t" + std::to_string(::getpid()) + "-late";
  discovery_->SetWorkloads({Wanted("pod", MatchKind::kNetns, name)});
  EXPECT_TRUE(appeared_.empty());
  ASSERT_TRUE(test::RunCommand({"ip", "netns", "add", name}).has_value());
  const auto began = base::SystemClock().Now();
  EXPECT_TRUE(Until([&] { return appeared_.size() == 1; }));
  const auto waited = base::SystemClock().Now() - began;
  ASSERT_TRUE(test::RunCommand({"ip", "netns", "del", name}).has_value());
  EXPECT_LT(waited, milliseconds(900));
  EXPECT_TRUE(Until([&] { return vanished_.size() == 1; }));
}

TEST_F(DiscoveryNetnsTest, SuccessorOfTheSameNameIsAnotherOne) {
  const std::string name = "weir-t" + std::to_string(::getpid()) + "-again";
  ASSERT_TRUE(test::RunCommand({"ip", "netns", "add", name}).has_value());
  discovery_->SetWorkloads({Wanted("pod", MatchKind::kNetns, name)});
  // The kernel may give the successor the number that has just become free.
  ASSERT_TRUE(test::RunCommand({"ip", "netns", "del", name}).has_value());
  ASSERT_TRUE(test::RunCommand({"ip", "netns", "add", name}).has_value());
  EXPECT_TRUE(Until([&] { return appeared_.size() == 2; }));
  EXPECT_EQ(vanished_.size(), 1U);
  ASSERT_TRUE(test::RunCommand({"ip", "netns", "del", name}).has_value());
}

TEST_F(DiscoveryNetnsTest, AnotherMountOfTheSameNumberIsASuccessor) {
  // Its number would only be used again by chance: a second mount of the namespace itself
  // has the same number, as the successor then has.
  const std::string name = "weir-t" + std::to_string(::getpid()) + "-number";
  ASSERT_TRUE(test::RunCommand({"ip", "netns", "add", name}).has_value());
  discovery_->SetWorkloads({Wanted("pod", MatchKind::kNetns, name)});
  ASSERT_EQ(appeared_.size(), 1U);
  const std::string path = "/run/netns/" + name;
  ASSERT_EQ(::mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr), 0);
  EXPECT_TRUE(Until([&] { return appeared_.size() == 2; }));
  EXPECT_EQ(vanished_.size(), 1U);
  EXPECT_EQ(appeared_[0].inode, appeared_[1].inode);
  ASSERT_EQ(::umount2(path.c_str(), MNT_DETACH), 0);
  ASSERT_TRUE(test::RunCommand({"ip", "netns", "del", name}).has_value());
}

TEST_F(DiscoveryNetnsTest, UnitIsFoundInItsSliceWhenItStartsAndStops) {
  discovery_->SetWorkloads({Wanted("app", MatchKind::kUnit, "app.service")});
  EXPECT_TRUE(appeared_.empty());
  (void)sandbox_->AddCgroup("system.slice");
  (void)sandbox_->AddCgroup("system.slice/nested.slice");
  const std::string unit = sandbox_->AddCgroup("system.slice/nested.slice/app.service");
  ASSERT_TRUE(Until([&] { return appeared_.size() == 1; }));
  EXPECT_EQ(appeared_[0].path, unit);
  EXPECT_EQ(appeared_[0].kind, MatchKind::kUnit);
  fs::remove(unit);
  ASSERT_TRUE(Until([&] { return vanished_.size() == 1; }));
  (void)sandbox_->AddCgroup("system.slice/nested.slice/app.service");
  ASSERT_TRUE(Until([&] { return appeared_.size() == 2; }));
  EXPECT_NE(appeared_[0].inode, appeared_[1].inode);
}

TEST_F(DiscoveryNetnsTest, CgroupWithAUnitsNameInsideAnotherUnitIsNotTheUnit) {
  (void)sandbox_->AddCgroup("other.service");
  (void)sandbox_->AddCgroup("other.service/app.service");
  discovery_->SetWorkloads({Wanted("app", MatchKind::kUnit, "app.service")});
  EXPECT_TRUE(appeared_.empty());
}

TEST_F(DiscoveryNetnsTest, CgroupsThatAUserMadeAreNoUnits) {
  const std::string slice = sandbox_->AddCgroup("user.slice");
  const std::string unit = sandbox_->AddCgroup("user.slice/app.service");
  ASSERT_EQ(::chown(unit.c_str(), kSomeUser, kSomeUser), 0);
  discovery_->SetWorkloads({Wanted("app", MatchKind::kUnit, "app.service")});
  EXPECT_TRUE(appeared_.empty());
  ASSERT_EQ(::chown(unit.c_str(), 0, 0), 0);
  ASSERT_EQ(::chown(slice.c_str(), kSomeUser, kSomeUser), 0);
  discovery_->SetWorkloads({Wanted("app", MatchKind::kUnit, "app.service")});
  EXPECT_TRUE(appeared_.empty());
}

TEST_F(DiscoveryNetnsTest, CgroupIsFoundBelowTheRootAndByItsPath) {
  const std::string path = sandbox_->AddCgroup("batch");
  discovery_->SetWorkloads(
      {Wanted("below", MatchKind::kCgroup, "batch"), Wanted("absolute", MatchKind::kCgroup, path)});
  ASSERT_EQ(appeared_.size(), 2U);
  EXPECT_EQ(appeared_[0].path, path);
  EXPECT_EQ(appeared_[1].inode, appeared_[0].inode);
}

}  // namespace
}  // namespace weir::config
