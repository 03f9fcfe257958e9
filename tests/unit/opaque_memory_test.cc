#include "agent/proxy/opaque_memory.h"

#include <gtest/gtest.h>

namespace weir::proxy {
namespace {

base::Endpoint At(std::uint32_t host) {
  return {.address = base::IpAddress::V4(host), .port = 25};
}

TEST(OpaqueMemoryTest, KnowsWhatItWasToldAndNothingElse) {
  OpaqueMemory memory;
  const base::MonotonicTime now{std::chrono::hours(1)};
  memory.Remember(At(1), now);
  EXPECT_TRUE(memory.Knows(At(1), now));
  EXPECT_FALSE(memory.Knows(At(2), now));
}

TEST(OpaqueMemoryTest, ForgetsAfterItsLifetime) {
  OpaqueMemory memory;
  const base::MonotonicTime now{std::chrono::hours(1)};
  memory.Remember(At(1), now);
  EXPECT_TRUE(memory.Knows(At(1), now + OpaqueMemory::kLifetime));
  EXPECT_FALSE(memory.Knows(At(1), now + OpaqueMemory::kLifetime + base::Nanoseconds(1)));
  EXPECT_EQ(memory.size(), 0U);
}

TEST(OpaqueMemoryTest, DropsTheLeastRecentlyUsedAtItsLimit) {
  OpaqueMemory memory;
  const base::MonotonicTime now{std::chrono::hours(1)};
  for (std::uint32_t i = 0; i < OpaqueMemory::kLimit; ++i) {
    memory.Remember(At(i), now);
  }
  EXPECT_TRUE(memory.Knows(At(0), now));  // used: the next oldest goes
  memory.Remember(At(100'000), now);
  EXPECT_EQ(memory.size(), OpaqueMemory::kLimit);
  EXPECT_TRUE(memory.Knows(At(0), now));
  EXPECT_FALSE(memory.Knows(At(1), now));
}

}  // namespace
}  // namespace weir::proxy
