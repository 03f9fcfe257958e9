#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "agent/http/detect.h"

namespace weir::http {
namespace {

using namespace std::string_literals;

Detected DetectIn(std::string_view bytes, DetectMode mode = DetectMode::kMoreMayCome) {
  return Detect({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, mode);
}

const std::string kClientHello = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"s;
const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

TEST(DetectTest, KnowsTheProtocolsByTheirFirstBytes) {
  EXPECT_EQ(DetectIn("GET / HTTP/1.1\r\n"), Detected::kHttp1);
  EXPECT_EQ(DetectIn("M-SEARCH * HTTP/1.1\r\n"), Detected::kHttp1);
  EXPECT_EQ(DetectIn("VERSION-CONTROL /x HTTP/1.1\r\n"), Detected::kHttp1);
  EXPECT_EQ(DetectIn("CONNECT db:5432 HTTP/1.1\r\n"), Detected::kHttp1);
  EXPECT_EQ(DetectIn("CONNECT [::1]:80 HTTP/1.1\r\n"), Detected::kHttp1);
  EXPECT_EQ(DetectIn("GET http://a/ HTTP/1.0\r\n"), Detected::kHttp1);
  EXPECT_EQ(DetectIn("\r\nGET / HTTP/1.1\r\n"), Detected::kHttp1);
  EXPECT_EQ(DetectIn("GET / HTTP/1.1\n"), Detected::kHttp1);  // to be refused as HTTP
  EXPECT_EQ(DetectIn(kPreface), Detected::kHttp2Preface);
  EXPECT_EQ(DetectIn(kPreface + "\x00"s), Detected::kHttp2Preface);
  EXPECT_EQ(DetectIn(kClientHello), Detected::kTls);
}

TEST(DetectTest, LeavesOtherProtocolsOpaque) {
  const std::vector<std::string> others = {
      "*1\r\n$4\r\nPING\r\n",               // redis
      "GET key\r\n",                        // redis, inline
      "get key\r\n",                        // memcached
      "\x00\x00\x00\x08\x04\xd2\x16\x2f"s,  // postgres SSLRequest
      "\x00\x00\x00\x20\x00\x03\x00\x00"s,  // postgres startup
      "SSH-2.0-OpenSSH_9.2\r\n",
      "EHLO example.org\r\n",
      "\x16\x03\x03\x00\x02\x01"s,  // a record too short for a hello
      "\x16\x03\x03\x00\x20\x02"s,  // a ServerHello
      "\x16\x02\x00\x00\x20\x01"s,
      "\x16\xfe\xfd\x00\x20\x01"s,
      "\x16\x03\x05\x00\x20\x01"s,
      "GET",
      "G\x80T / HTTP/1.1\r\n",
      "GET \x01/ HTTP/1.1\r\n",
      "GET / FTP/1.1\r\n",
      std::string(33, 'G') + " / HTTP/1.1\r\n",
      std::string("\0\0\0\0\0\0", 6),
  };
  for (const std::string& bytes : others) {
    EXPECT_EQ(DetectIn(bytes, DetectMode::kFinal), Detected::kOpaque) << bytes;
  }
}

TEST(DetectTest, AsksForMoreOnEachPrefixAndNeverChangesItsMind) {
  const std::vector<std::pair<std::string, Detected>> all = {
      {"OPTIONS * HTTP/1.1\r\n", Detected::kHttp1},
      {"\r\nGET / HTTP/1.1\r\n", Detected::kHttp1},
      {"PUT /x?GET HTTP/1.1\r\n", Detected::kHttp1},
      {"PROPFIND /x HTTP/1.1\r\n", Detected::kHttp1},
      {kPreface, Detected::kHttp2Preface},
      {kClientHello, Detected::kTls},
      {"GET key\r\nGET / HTTP/1.1\r\n", Detected::kOpaque},
  };
  for (const auto& [bytes, expected] : all) {
    Detected found = Detected::kNeedMore;
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
      const Detected now = DetectIn(std::string_view(bytes).substr(0, size));
      if (found == Detected::kNeedMore) {
        found = now;
      }
      EXPECT_EQ(now, found) << bytes << " at " << size;
    }
    EXPECT_EQ(found, expected) << bytes;
  }
}

TEST(DetectTest, AnswersWithoutMoreBytesWhenItMust) {
  EXPECT_EQ(DetectIn("", DetectMode::kFinal), Detected::kOpaque);
  EXPECT_EQ(DetectIn("GE", DetectMode::kFinal), Detected::kOpaque);
  EXPECT_EQ(DetectIn("GET /slow", DetectMode::kFinal), Detected::kHttp1);
  EXPECT_EQ(DetectIn("\x16\x03", DetectMode::kFinal), Detected::kOpaque);
  EXPECT_EQ(DetectIn("PRI * HT", DetectMode::kFinal), Detected::kOpaque);
}

TEST(DetectTest, NeedsNoWholeLineOfALongTarget) {
  const std::string line = "GET /" + std::string(kDetectMaxBytes - 5, 'a');
  EXPECT_EQ(DetectIn(line.substr(0, kDetectMaxBytes - 1)), Detected::kNeedMore);
  EXPECT_EQ(DetectIn(line), Detected::kHttp1);
}

}  // namespace
}  // namespace weir::http
