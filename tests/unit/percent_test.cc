#include "agent/base/percent.h"

#include <gtest/gtest.h>

namespace weir::base {
namespace {

TEST(PercentTest, DecodesEscapesInEitherCase) {
  EXPECT_EQ(DecodePercent("a%20b%2Fc%2f%C3%A4"), "a b/c/\xC3\xA4");
}

TEST(PercentTest, LeavesWhatIsNoEscapeAsItIs) {
  EXPECT_EQ(DecodePercent("100%"), "100%");
  EXPECT_EQ(DecodePercent("%2"), "%2");
  EXPECT_EQ(DecodePercent("%zz%2x%-1"), "%zz%2x%-1");
  EXPECT_EQ(DecodePercent("%%41"), "%A");
  EXPECT_EQ(DecodePercent(""), "");
}

}  // namespace
}  // namespace weir::base
