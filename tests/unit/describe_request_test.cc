#include "agent/proxy/describe_request.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace weir::proxy {
namespace {

// What every text of a request may take in spans, flows and logs, to the byte.
TEST(DescribeRequestTest, CutsEachTextAtItsLimitOnACharacterBorder) {
  const std::pair<std::string observe::HttpExchange::*, std::size_t> limits[] = {
      {&observe::HttpExchange::method, 32},
      {&observe::HttpExchange::host, 255},
      {&observe::HttpExchange::path, 1024},
      {&observe::HttpExchange::query_keys, 1024},
      {&observe::HttpExchange::user_agent, 256}};
  for (const auto& [member, limit] : limits) {
    const auto described = [&](const std::string& text) {
      observe::HttpExchange exchange;
      DescribeRequest(
          {.method = text, .host = text, .path = text, .query = text, .user_agent = text},
          /*keep_query_values=*/false, exchange);
      return exchange.*member;
    };
    const std::string whole = std::string(limit - 2, 'a') + "\xc3\xa9";
    EXPECT_EQ(described(whole), whole) << limit;
    EXPECT_EQ(described(whole + "a"), std::string(limit - 3, 'a') + "\xe2\x80\xa6") << limit;
    EXPECT_EQ(described(std::string(limit - 4, 'a') + "\xf0\x9f\x98\x80" + "a"),
              std::string(limit - 4, 'a') + "\xe2\x80\xa6")
        << limit << ": no half of a character before the mark";
  }
}

}  // namespace
}  // namespace weir::proxy
