#include "agent/export/log_encoder.h"

#include <otlp/logs.pb.h>

#include <cstddef>
#include <cstdint>

#include "agent/base/utf8.h"
#include "agent/export/access_log_line.h"
#include "agent/export/otlp_fields.h"
#include "agent/export/wire.h"

namespace weir::telemetry {
namespace {

namespace otlp = opentelemetry::proto;
using model::LogValue;
using observe::Record;
using otlp::common::v1::AnyValue;
using otlp::common::v1::ArrayValue;
using otlp::common::v1::KeyValue;
using otlp::common::v1::KeyValueList;
using otlp::logs::v1::LogRecord;
using otlp::logs::v1::ScopeLogs;

std::uint64_t UnixNanoseconds(base::WallTime time) {
  return static_cast<std::uint64_t>(time.time_since_epoch().count());
}

bool HasFailed(const observe::Flow& flow) {
  return flow.reason != observe::Reason::kNone || (flow.http && flow.http->status >= 500);
}

// Appends the fields of an AnyValue. Recursion ends at kMaxLogValueDepth.
// NOLINTNEXTLINE(misc-no-recursion)
void AppendValue(const LogValue& value, const Record& record, std::string_view node,
                 std::string& out) {
  switch (value.kind) {
    case LogValue::Kind::kText: {
      std::string text;
      AppendLogText(value.text, record, node, text);
      std::string scratch;
      wire::AppendBytes(AnyValue::kStringValueFieldNumber, base::ToUtf8(text, scratch), out);
      return;
    }
    case LogValue::Kind::kBool:
      wire::AppendUnsigned(AnyValue::kBoolValueFieldNumber, value.flag ? 1 : 0, out);
      return;
    case LogValue::Kind::kInt:
      wire::AppendUnsigned(AnyValue::kIntValueFieldNumber, static_cast<std::uint64_t>(value.number),
                           out);
      return;
    case LogValue::Kind::kDouble:
      wire::AppendFixed(AnyValue::kDoubleValueFieldNumber, value.real, out);
      return;
    case LogValue::Kind::kList:
    case LogValue::Kind::kMap:
      break;
  }
  const bool is_map = value.kind == LogValue::Kind::kMap;
  std::string members;
  for (std::size_t i = 0; i < value.values.size(); ++i) {
    std::string one;
    AppendValue(value.values[i], record, node, one);
    if (is_map) {
      std::string pair;
      wire::AppendBytes(KeyValue::kKeyFieldNumber, value.keys[i], pair);
      wire::AppendBytes(KeyValue::kValueFieldNumber, one, pair);
      wire::AppendBytes(KeyValueList::kValuesFieldNumber, pair, members);
    } else {
      wire::AppendBytes(ArrayValue::kValuesFieldNumber, one, members);
    }
  }
  wire::AppendBytes(
      is_map ? int{AnyValue::kKvlistValueFieldNumber} : AnyValue::kArrayValueFieldNumber, members,
      out);
}

template <typename Id>
void AppendId(int field, const Id& id, std::string& out) {
  if (id != Id{}) {
    wire::AppendBytes(field, {reinterpret_cast<const char*>(id.data()), id.size()}, out);
  }
}

}  // namespace

void AppendLogRecord(const model::LogBackend& backend, const Record& record, std::string_view node,
                     base::WallTime observed, std::string& out) {
  const observe::Flow& flow = record.flow;
  const bool has_failed = HasFailed(flow);
  std::string message;
  wire::AppendFixed(LogRecord::kTimeUnixNanoFieldNumber, UnixNanoseconds(flow.timing.start),
                    message);
  wire::AppendUnsigned(
      LogRecord::kSeverityNumberFieldNumber,
      has_failed ? otlp::logs::v1::SEVERITY_NUMBER_ERROR : otlp::logs::v1::SEVERITY_NUMBER_INFO,
      message);
  wire::AppendBytes(LogRecord::kSeverityTextFieldNumber, has_failed ? "ERROR" : "INFO", message);
  std::string body;
  AppendValue(flow.http ? backend.request_body : backend.connection_body, record, node, body);
  wire::AppendBytes(LogRecord::kBodyFieldNumber, body, message);
  std::string text;
  for (const auto& [key, value] : backend.attributes) {
    text.clear();
    AppendLogText(value, record, node, text);
    AppendTextAttribute(LogRecord::kAttributesFieldNumber, key, text, message);
  }
  if (flow.sampled) {
    wire::AppendFixed(LogRecord::kFlagsFieldNumber, std::uint32_t{1}, message);
  }
  AppendId(LogRecord::kTraceIdFieldNumber, flow.trace_id, message);
  AppendId(LogRecord::kSpanIdFieldNumber, flow.span_id, message);
  wire::AppendFixed(LogRecord::kObservedTimeUnixNanoFieldNumber, UnixNanoseconds(observed),
                    message);
  wire::AppendBytes(ScopeLogs::kLogRecordsFieldNumber, message, out);
}

}  // namespace weir::telemetry
