#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>

#include "agent/database/detect.h"

namespace weir::database {
namespace {

Bytes AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::optional<System> Detect(std::string_view text) {
  return DetectClient(AsBytes(text));
}

using namespace std::string_literals;

TEST(DatabaseDetectTest, KnowsPostgresqlByItsStartup) {
  EXPECT_EQ(Detect("\0\0\0\x29\0\3\0\0user\0"s), System::kPostgresql);
  EXPECT_EQ(Detect("\0\0\0\x29\0\3\0\2user\0"s), System::kPostgresql);
  EXPECT_EQ(Detect("\0\0\0\x08\x04\xd2\x16\x2f"s), System::kPostgresql);  // SSLRequest
  EXPECT_EQ(Detect("\0\0\0\x08\x04\xd2\x16\x30"s), System::kPostgresql);  // GSSENCRequest
  EXPECT_EQ(Detect("\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\1\0\0\0\2"s), System::kPostgresql);
  EXPECT_EQ(Detect("\0\0\x27\x10\0\3\0\0"s), System::kPostgresql);  // 10,000 bytes
  EXPECT_EQ(Detect("\0\0\x27\x11\0\3\0\0"s), std::nullopt);
  EXPECT_EQ(Detect("\0\0\0\x09\x04\xd2\x16\x2f"s), std::nullopt);
  EXPECT_EQ(Detect("\0\0\0\x08\0\3\0\0"s), std::nullopt);
  EXPECT_EQ(Detect("\0\0\0\x29\0\2\0\0"s), std::nullopt);
  EXPECT_EQ(Detect("\0\0\0\x29\0\3\0"s), std::nullopt);
}

TEST(DatabaseDetectTest, KnowsRedisByItsArrays) {
  EXPECT_EQ(Detect("*1\r\n$4\r\nPING\r\n"), System::kRedis);
  EXPECT_EQ(Detect("*1234567\r\n$"), System::kRedis);
  EXPECT_EQ(Detect("*12345678\r\n$"), std::nullopt);
  EXPECT_EQ(Detect("*1\r\n"), std::nullopt);
  EXPECT_EQ(Detect("*\r\n$4"), std::nullopt);
  EXPECT_EQ(Detect("PING\r\n"), std::nullopt);
  EXPECT_EQ(Detect(""), std::nullopt);
}

TEST(DatabaseDetectTest, KnowsAGreetingOfMysql) {
  EXPECT_TRUE(
      IsMysqlGreeting(AsBytes("\x4a\0\0\0\x0a"
                              "8.0.36\0"s)));
  EXPECT_TRUE(IsMysqlGreeting(AsBytes("\x20\0\0\0\x0a"s)));
  EXPECT_FALSE(IsMysqlGreeting(AsBytes("\x1f\0\0\0\x0a"s)));
  EXPECT_FALSE(IsMysqlGreeting(AsBytes("\x4a\0\0\1\x0a"s)));
  EXPECT_FALSE(IsMysqlGreeting(AsBytes("\x4a\0\0\0\xff"s)));
  EXPECT_FALSE(IsMysqlGreeting(AsBytes("\x4a\0\0\0"s)));
  EXPECT_FALSE(IsMysqlGreeting(AsBytes("SSH-2.0-OpenSSH\r\n")));
}

}  // namespace
}  // namespace weir::database
