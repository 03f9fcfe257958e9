#include "agent/daemon/process_cpu.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "agent/base/file.h"

namespace weir::daemon {
namespace {

TEST(ProcessCpuTest, ReadsTimesBehindAnyName) {
  const std::string stat =
      "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 1000 0 0";
  const auto cpu = ReadProcessStat(stat, "a) b (c", /*ticks=*/100, /*up_seconds=*/30);
  ASSERT_TRUE(cpu.has_value());
  EXPECT_DOUBLE_EQ(cpu->cpu_seconds, 3);
  EXPECT_DOUBLE_EQ(cpu->age_seconds, 20);
  EXPECT_FALSE(ReadProcessStat(stat, "another", 100, 30).has_value()) << "the number is used again";
  for (const char* bad : {"", "42", "42 (x", "42 (x) S 1 2"}) {
    EXPECT_FALSE(ReadProcessStat(bad, "x", 100, 30).has_value()) << bad;
  }
}

TEST(ProcessCpuTest, SeesWhatThisProcessUses) {
  auto name = base::ReadFile("/proc/self/comm", 64).value();
  name.pop_back();
  const auto before = CpuOf(static_cast<std::uint32_t>(::getpid()), name);
  ASSERT_TRUE(before.has_value());
  while (CpuOf(static_cast<std::uint32_t>(::getpid()), name)->cpu_seconds == before->cpu_seconds) {
    // uses CPU time until the kernel has counted it
  }
  EXPECT_FALSE(CpuOf(static_cast<std::uint32_t>(::getpid()), "another").has_value());
  EXPECT_FALSE(CpuOf(0xffffffffU, name).has_value());
}

}  // namespace
}  // namespace weir::daemon
