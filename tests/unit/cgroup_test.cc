#include "agent/datapath/cgroup.h"

#include <gtest/gtest.h>

namespace weir::datapath {
namespace {

TEST(CgroupMountTest, FindsTheUnifiedTree) {
  const auto found = FindCgroupMount(
      "22 1 0:21 / /sys rw,nosuid - sysfs sysfs rw\n"
      "26 22 0:24 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, (CgroupMount{.path = "/sys/fs/cgroup", .whole = true, .hybrid = false}));
}

TEST(CgroupMountTest, FindsTheTreeOfAHybridHost) {
  const auto found = FindCgroupMount(
      "30 29 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
      "31 29 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->path, "/sys/fs/cgroup/unified");
  EXPECT_TRUE(found->hybrid);
}

TEST(CgroupMountTest, PrefersTheMountOfTheWholeHierarchy) {
  const auto found = FindCgroupMount(
      "31 29 0:27 /pod /container rw shared:3 master:4 - cgroup2 cgroup2 rw\n"
      "32 29 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->path, "/sys/fs/cgroup");
  EXPECT_TRUE(found->whole);
}

TEST(CgroupMountTest, SaysWhatIsMountedInstead) {
  const auto v1 = FindCgroupMount("30 29 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
  ASSERT_FALSE(v1);
  EXPECT_EQ(v1.error().code(), base::ErrorCode::kNotFound);
  EXPECT_NE(v1.error().message().find("only cgroup v1"), std::string::npos);
  EXPECT_FALSE(v1.error().remedy().empty());
  EXPECT_FALSE(FindCgroupMount(""));
}

TEST(CgroupMountTest, SkipsLinesThatAreNoMounts) {
  EXPECT_FALSE(FindCgroupMount("nonsense\n- cgroup2\n1 2 3 4 5 6 -\n"));
}

TEST(CgroupTest, RefusesADirectoryOfAnotherFileSystem) {
  const auto found = IdentifyCgroup("/proc");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), base::ErrorCode::kInvalidArgument);
  EXPECT_EQ(IdentifyCgroup("/does/not/exist").error().code(), base::ErrorCode::kNotFound);
}

}  // namespace
}  // namespace weir::datapath
