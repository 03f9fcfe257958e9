#pragma once

#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/model/access_logs.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

// Appends `record` by `backend` (of kind kOtlp) as a field `log_records` of ScopeLogs: its
// attributes and body, the ids of the record's trace and span, when the record began and
// `observed`, and the severity ERROR for what failed (a reason, or a 5xx), else INFO. Texts are
// UTF-8, whatever peers sent. Pure.
void AppendLogRecord(const model::LogBackend& backend, const observe::Record& record,
                     std::string_view node, base::WallTime observed, std::string& out);

}  // namespace weir::telemetry
