#pragma once

#include <gtest/gtest.h>

namespace weir::test {

// Whether a test that lacks what it needs must fail, not skip: WEIR_REQUIRE_ROOT=1, as in CI.
[[nodiscard]] bool SkippingFails();

// RootTest skips visibly without root; with WEIR_REQUIRE_ROOT=1, as in CI, it fails
// instead.
class RootTest : public ::testing::Test {
 protected:
  void SetUp() override;
};

}  // namespace weir::test
