#include "agent/model/access_log_format.h"

#include <gtest/gtest.h>

#include <string>

namespace weir::model {
namespace {

std::string Refusal(std::string_view text) {
  const auto compiled = CompileLogText(text, "default");
  return compiled ? "" : compiled.error().message();
}

TEST(AccessLogFormatTest, SplitsTextIntoLiteralsAndOperators) {
  const auto text = CompileLogText("a %% %DURATION% %REQ(X-Id?:PATH):10%%KUMA_MESH%!\n", "blue");
  ASSERT_TRUE(text.has_value()) << text.error().ToString();
  ASSERT_EQ(text->pieces.size(), 5U);
  EXPECT_EQ(text->pieces[0].text, "a % ");
  EXPECT_EQ(text->pieces[1].op, LogOperator::kDuration);
  EXPECT_EQ(text->pieces[3].text, "x-id");
  EXPECT_EQ(text->pieces[3].alternative, ":path");
  EXPECT_EQ(text->pieces[3].limit_bytes, 10U);
  EXPECT_EQ(text->pieces[4].text, "blue!");
  EXPECT_TRUE(text->unrecorded.empty());
}

TEST(AccessLogFormatTest, NamesHeadersThatNoRecordHas) {
  const auto text = CompileLogText("%REQ(X-Request-Id)% %RESP(Server)% %REQ(User-Agent)%", "m");
  ASSERT_TRUE(text.has_value());
  EXPECT_EQ(text->unrecorded, (std::vector<std::string>{"x-request-id", "server"}));
}

TEST(AccessLogFormatTest, CompilesKumasDefaults) {
  EXPECT_EQ(Refusal(kDefaultHttpLogText), "");
  EXPECT_EQ(Refusal(kDefaultTcpLogText), "");
}

TEST(AccessLogFormatTest, RefusesWhatIsNoOperator) {
  EXPECT_NE(Refusal("%DURATOIN%").find("%DURATOIN%"), std::string::npos);
  for (const std::string_view bad :
       {"100%", "%", "% %", "%DURATION", "%duration%", "%DURATION(x)%", "%KUMA_MESH(x)%", "%REQ%",
        "%REQ()%", "%REQ(a%", "%REQ(a):0%", "%REQ(a):-1%", "%REQ(a):99999999999999999999%",
        "%REQ(a):x%", "%START_TIME(%Q)%", "%START_TIME(%3)%", "%START_TIME(%)%", "a\nb", "a\x7f"}) {
    EXPECT_NE(Refusal(bad), "") << bad;
  }
}

TEST(AccessLogFormatTest, KeepsItsLimitsExactly) {
  EXPECT_EQ(Refusal(std::string(kMaxLogTextBytes, 'a')), "");
  EXPECT_NE(Refusal(std::string(kMaxLogTextBytes + 1, 'a')), "");
  std::string operators;
  for (std::size_t i = 0; i < kMaxLogOperators; ++i) {
    operators += "%DURATION%";
  }
  EXPECT_EQ(Refusal(operators), "");
  EXPECT_NE(Refusal(operators + "%DURATION%"), "");
}

}  // namespace
}  // namespace weir::model
