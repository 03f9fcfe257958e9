#include <gtest/gtest.h>

#include <set>

#include "agent/datapath/worker_table.h"

namespace weir::datapath {
namespace {

constexpr unsigned kAttempts = 16;

TEST(LegPortsTest, PrefersThePortsAboveTheDefaultRange) {
  const auto ports = LegPortsOutside({.low = 32768, .high = 60999});
  EXPECT_EQ(ports.preferred, (PortRange{.low = 61000, .high = 65535}));
  EXPECT_EQ(ports.other, (PortRange{.low = 10240, .high = 32767}));
}

TEST(LegPortsTest, NeverPicksAPortOfTheLocalRange) {
  for (const PortRange local :
       {PortRange{.low = 32768, .high = 60999}, PortRange{.low = 20000, .high = 65535},
        PortRange{.low = 1024, .high = 65530}}) {
    const auto ports = LegPortsOutside(local);
    for (std::uint32_t turn = 0; turn < 70000; turn += 7) {
      for (const unsigned attempt : {0U, kAttempts - 1}) {
        const auto port = PickLegPort(ports, turn, attempt);
        EXPECT_TRUE(port < local.low || port > local.high) << port;
      }
    }
  }
}

TEST(LegPortsTest, WalksAllPortsThatAreLeft) {
  const auto ports = LegPortsOutside({.low = 1024, .high = 65530});
  std::set<std::uint16_t> seen;
  for (std::uint32_t turn = 0; turn < 5; ++turn) {
    seen.insert(PickLegPort(ports, turn, 0));
  }
  EXPECT_EQ(seen, (std::set<std::uint16_t>{65531, 65532, 65533, 65534, 65535}));
}

TEST(LegPortsTest, StillPicksOneWhenTheRangeLeavesNone) {
  const auto ports = LegPortsOutside({.low = 1024, .high = 65535});
  EXPECT_GE(PickLegPort(ports, 4000000000U, kAttempts - 1), 1024);
}

}  // namespace
}  // namespace weir::datapath
