#include "agent/base/nearest_name.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace weir::base {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"from", "to", "verdict", "status"};

TEST(NearestNameTest, FindsSwappedMissingAndWrongLetters) {
  EXPECT_EQ(NearestName("fron", kNames), "from");
  EXPECT_EQ(NearestName("verdit", kNames), "verdict");
  EXPECT_EQ(NearestName("tsatus", kNames), "status");
  EXPECT_EQ(NearestName("ot", kNames), "to");
}

TEST(NearestNameTest, GivesNothingWhenNothingIsNear) {
  EXPECT_EQ(NearestName("namespace", kNames), "");
  EXPECT_EQ(NearestName("", kNames), "");
  EXPECT_EQ(NearestName("from", {}), "");
}

TEST(NearestNameTest, GivesNothingForWordsBeyondItsLimit) {
  const std::string longest(64, 'a');
  const std::array<std::string_view, 1> names = {longest};
  EXPECT_EQ(NearestName(longest, names), longest);
  EXPECT_EQ(NearestName(longest + "a", names), "");
}

}  // namespace
}  // namespace weir::base
