#pragma once

#include <string_view>

#include "agent/observe/record.h"

namespace weir::proxy {

// A request as its codec saw it, whatever the HTTP version.
struct RequestText {
  std::string_view method;
  std::string_view host;
  std::string_view path;  // without the query
  std::string_view query;
  std::string_view user_agent;
};

// Keeps of `request` what records hold, cut and cleaned (agent/observe/record.h). Worker.
void DescribeRequest(const RequestText& request, bool keep_query_values,
                     observe::HttpExchange& exchange);

}  // namespace weir::proxy
