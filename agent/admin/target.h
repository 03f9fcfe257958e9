#pragma once

#include <map>
#include <string>
#include <string_view>

#include "agent/admin/admin_server.h"
#include "agent/admin/flow_reader.h"
#include "agent/base/error.h"

// Request targets of the admin API. Internal to the admin module.
namespace weir::admin {

struct Target {
  std::string path;
  std::map<std::string, std::string, std::less<>> parameters;
};

// Splits and decodes "/path?name=value&...". kInvalidArgument for bad percent escapes,
// for a name given twice and for what is not UTF-8.
base::Result<Target> ParseTarget(std::string_view target);

// Parameters last, first, all, since, until, follow, max_rps, filter and format=json.
// Times are RFC 3339 or an age such as 5m.
QueryResult<FlowQuery> ParseFlowQuery(const Target& target, base::WallTime now);
// Parameters limit, since, slow, errors and service.
QueryResult<TraceQuery> ParseTraceQuery(const Target& target, base::WallTime now);
// Parameter subject; empty without it.
QueryResult<std::string> ParseCheckSubject(const Target& target);
// Parameter window, a duration; 5 minutes without it.
QueryResult<base::Nanoseconds> ParseMapWindow(const Target& target);
QueryResult<TopQuery> ParseTopQuery(const Target& target);

}  // namespace weir::admin
