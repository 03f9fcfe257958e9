#pragma once

#include <string>
#include <vector>

#include "agent/http/http1_parser.h"

namespace weir::test {

// A request stream that must be refused, and for what.
struct MalformedRequest {
  std::string name;
  std::string bytes;
  http::Http1Error error = http::Http1Error::kNone;
};

// Hand-written cases by theme, and each octet at each place where only some are allowed.
std::vector<MalformedRequest> MalformedRequests();

// A stream of well-formed requests and how many it holds.
struct GoodRequests {
  std::string name;
  std::string bytes;
  std::size_t count = 1;
};
std::vector<GoodRequests> WellFormedRequests();

// A response, to a request of `kind`, that must be refused.
struct MalformedResponse {
  std::string name;
  std::string bytes;
  http::Http1Error error = http::Http1Error::kNone;
  http::RequestKind kind;
};
std::vector<MalformedResponse> MalformedResponses();

}  // namespace weir::test
