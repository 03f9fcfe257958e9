#pragma once

#include <string>
#include <string_view>

#include "agent/model/access_log_format.h"
#include "agent/observe/record.h"

// One record as one line of an access log. Pure; any thread. No line has a control character
// in it but the line break at its end, whatever peers sent, and its length is bounded by its
// format: kMaxLogOperators values of kMaxLogValueBytes a text, escaped.
namespace weir::telemetry {

// Whether `flow` is a line of its own: a request, or a connection that is not HTTP or that
// failed. A good HTTP connection is in the lines of its requests.
bool IsLogged(const observe::Flow& flow);

// Appends `record` by `format`. In Plain texts a quotation mark, a backslash and control
// characters of values are \xHH, and what is absent is "-". In Json an operator that is alone
// in its text keeps its type: a number, or null where absent.
void AppendLogLine(const model::LogFormat& format, const observe::Record& record,
                   std::string_view node, std::string& out);

// Appends `text` for `record` as it is, not escaped; what is absent is "-".
void AppendLogText(const model::LogText& text, const observe::Record& record, std::string_view node,
                   std::string& out);

// Appends `record` as weir's own log has it: a JSON object with the names of the Elastic
// Common Schema 8.11, and weir.* for what that has no name for. What is absent has no field.
void AppendEcsLine(const observe::Record& record, std::string_view node, std::string& out);

// Appends `text` as a JSON string (RFC 8259 section 7) in quotes. What is not UTF-8 becomes
// U+FFFD.
void AppendJsonText(std::string_view text, std::string& out);

// "2027-01-15T08:00:00.000Z", or by a strftime format with %f and %1f to %9f for fractions of
// the second, %f for nanoseconds.
void AppendTime(base::WallTime time, std::string_view format, std::string& out);

// Envoy's response flag for a reason; empty for none.
std::string_view ResponseFlag(observe::Reason reason);

}  // namespace weir::telemetry
