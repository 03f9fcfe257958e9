#include "agent/base/utf8.h"

#include <gtest/gtest.h>

namespace weir::base {
namespace {

std::string Mend(std::string_view text) {
  std::string scratch;
  return std::string(ToUtf8(text, scratch));
}

TEST(Utf8Test, AcceptsWellFormedText) {
  for (const char* text :
       {"", "plain", "/pfad/\xc3\xbc", "\xe2\x82\xac", "\xf0\x9f\x90\x9f", "\xed\x9f\xbf",
        "\xee\x80\x80", "\xf4\x8f\xbf\xbf", "sixteen bytes xx\xc2\x80"}) {
    EXPECT_TRUE(IsUtf8(text)) << text;
    EXPECT_EQ(Mend(text), text);
  }
}

TEST(Utf8Test, RefusesMalformedText) {
  for (const char* text :
       {"\x80", "\xc3", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "eight by\xfe"}) {
    EXPECT_FALSE(IsUtf8(text)) << text;
    EXPECT_TRUE(IsUtf8(Mend(text))) << text;
  }
}

TEST(Utf8Test, ReplacesEachBadByteAndKeepsTheRest) {
  EXPECT_EQ(Mend("a\xff"
                 "b\xc3\xbc\xe2\x82"),
            "a\xef\xbf\xbd"
            "b\xc3\xbc\xef\xbf\xbd\xef\xbf\xbd");
}

}  // namespace
}  // namespace weir::base
