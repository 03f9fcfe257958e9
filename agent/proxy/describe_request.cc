#include "agent/proxy/describe_request.h"

#include <cstddef>

#include "agent/observe/finish.h"

namespace weir::proxy {
namespace {
constexpr std::size_t kMaxMethodBytes = 32;
constexpr std::size_t kMaxHostBytes = 255;
constexpr std::size_t kMaxPathBytes = 1024;
constexpr std::size_t kMaxUserAgentBytes = 256;
}  // namespace

void DescribeRequest(const RequestText& request, bool keep_query_values,
                     observe::HttpExchange& exchange) {
  exchange.method = observe::CleanText(request.method, kMaxMethodBytes);
  exchange.host = observe::CleanText(request.host, kMaxHostBytes);
  exchange.path = observe::CleanText(request.path, kMaxPathBytes);
  exchange.query_keys = observe::RedactQuery(request.query, keep_query_values, kMaxPathBytes);
  exchange.user_agent = observe::CleanText(request.user_agent, kMaxUserAgentBytes);
}

}  // namespace weir::proxy
