#include <gtest/gtest.h>

#include <string>

#include "agent/config/discovery.h"
#include "tests/unit/config_support.h"

namespace weir::config {
namespace {

TEST(Cgroup2RootTest, IsFoundOnAHybridHost) {
  const TemporaryDirectory directory;
  directory.Write(
      "mountinfo",
      "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs ro\n"
      "31 30 0:27 / /sys/fs/cgroup/with\\040space rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
      "32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
  EXPECT_EQ(FindCgroup2Root(directory.File("mountinfo")).value(), "/sys/fs/cgroup/with space");
}

TEST(Cgroup2RootTest, ItsAbsenceIsAnErrorWithARemedy) {
  const TemporaryDirectory directory;
  directory.Write("mountinfo", "32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
  const auto root = FindCgroup2Root(directory.File("mountinfo"));
  ASSERT_FALSE(root.has_value());
  EXPECT_EQ(root.error().code(), base::ErrorCode::kNotFound);
  EXPECT_FALSE(root.error().remedy().empty());
}

class DiscoveryTest : public testing::Test {
 protected:
  DiscoveryTest() : loop_(io::EventLoop::Create(base::SystemClock()).value()) {}

  std::unique_ptr<WorkloadDiscovery> Create() {
    return WorkloadDiscovery::Create(
               *loop_, {.cgroup_root = directory_.path(),
                        .netns_directory = directory_.path(),
                        .on_appeared = [this](const Appeared& one) { appeared_.push_back(one); },
                        .on_vanished = [this](const Vanished& one) { vanished_.push_back(one); }})
        .value();
  }

  TemporaryDirectory directory_;
  std::unique_ptr<io::EventLoop> loop_;
  std::vector<Appeared> appeared_;
  std::vector<Vanished> vanished_;
};

TEST_F(DiscoveryTest, FindsANamespaceByPath) {
  const auto discovery = Create();
  discovery->SetWorkloads({LocalAt("self", "/proc/self/ns/net")});
  ASSERT_EQ(appeared_.size(), 1U);
  EXPECT_EQ(appeared_[0].workload, "self");
  EXPECT_EQ(appeared_[0].kind, MatchKind::kNetns);
  EXPECT_GT(appeared_[0].inode, 0U);
  EXPECT_EQ(discovery->Present().size(), 1U);
}

TEST_F(DiscoveryTest, TellsNothingTwice) {
  const auto discovery = Create();
  const std::vector<WorkloadConfig> workloads = {LocalAt("self", "/proc/self/ns/net")};
  discovery->SetWorkloads(workloads);
  discovery->SetWorkloads(workloads);
  EXPECT_EQ(appeared_.size(), 1U);
  EXPECT_TRUE(vanished_.empty());
}

TEST_F(DiscoveryTest, WorkloadThatIsNoLongerConfiguredVanishes) {
  const auto discovery = Create();
  discovery->SetWorkloads({LocalAt("self", "/proc/self/ns/net")});
  discovery->SetWorkloads({});
  ASSERT_EQ(vanished_.size(), 1U);
  EXPECT_EQ(vanished_[0].workload, "self");
  EXPECT_TRUE(discovery->Present().empty());
}

TEST_F(DiscoveryTest, FileThatIsNoNamespaceAndDirectoryThatIsNoCgroupAreNotTaken) {
  directory_.Write("pod", "");
  std::filesystem::create_directory(directory_.File("app.service"));
  const auto discovery = Create();
  discovery->SetWorkloads({LocalAt("file", "pod"), LocalAt("unit", "app.service", MatchKind::kUnit),
                           LocalAt("group", "app.service", MatchKind::kCgroup),
                           LocalAt("missing", "/nonexistent")});
  EXPECT_TRUE(appeared_.empty());
}

}  // namespace
}  // namespace weir::config
