#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "agent/observe/record.h"

namespace weir::observe {

// Gives what is known of a command under the names of OpenTelemetry's conventions for database
// client spans: text(name, std::string_view) and number(name, std::int64_t). Of rows they know
// the returned ones; the others have a name of weir's own. Pure.
template <typename Text, typename Number>
void DescribeCall(const DatabaseCall& call, Text&& text, Number&& number) {
  text("db.system.name", call.system);
  for (const auto& [name, value] :
       {std::pair("db.operation.name", &call.operation),
        std::pair("db.collection.name", &call.collection),
        std::pair("db.query.summary", &call.summary), std::pair("db.namespace", &call.name_space),
        std::pair("db.response.status_code", &call.status)}) {
    if (!value->empty()) {
      text(name, std::string_view(*value));
    }
  }
  if (call.returned_rows >= 0) {
    number("db.response.returned_rows", call.returned_rows);
  }
  if (call.affected_rows >= 0) {
    number("weir.db.affected_rows", call.affected_rows);
  }
  if (call.batch_size > 1) {
    number("db.operation.batch.size", static_cast<std::int64_t>(call.batch_size));
  }
}

}  // namespace weir::observe
