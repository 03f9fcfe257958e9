// A format of an access log, and behind the first NUL what a peer sent. Properties: what
// compiles keeps the limits, and renders as one line without control characters, as Plain and
// as Json; and as a log record that Protobuf reads back whole, as text and attribute.
#include <otlp/logs.pb.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "agent/export/access_log_line.h"
#include "agent/export/log_encoder.h"
#include "tests/fuzz/property.h"
#include "tests/support/records.h"

namespace {

void CheckLine(const std::string& line) {
  WEIR_PROPERTY(line.ends_with('\n'));
  WEIR_PROPERTY(std::count_if(line.begin(), line.end(), [](char c) {
                  const auto byte = static_cast<unsigned char>(c);
                  return (byte < 0x20 && c != '\t') || byte == 0x7f;
                }) == 1);
  WEIR_PROPERTY(line.size() <=
                6 * (weir::model::kMaxLogTextBytes +
                     weir::model::kMaxLogOperators * weir::model::kMaxLogValueBytes));
}

void CheckRecord(const weir::model::LogText& text, const weir::observe::Record& record) {
  weir::model::LogValue leaf;
  leaf.text = text;
  weir::model::LogValue map{.kind = weir::model::LogValue::Kind::kMap};
  map.keys = {"key"};
  map.values = {leaf};
  std::string bytes;
  weir::telemetry::AppendLogRecord({.sink = weir::model::LogSink::kOtlp,
                                    .target = "c",
                                    .attributes = {{"key", text}},
                                    .request_body = map},
                                   record, "node", record.flow.timing.start, bytes);
  opentelemetry::proto::logs::v1::ScopeLogs scope;  // its parser refuses what is not UTF-8
  WEIR_PROPERTY(scope.ParseFromString(bytes) && scope.ByteSizeLong() == bytes.size());
  WEIR_PROPERTY(scope.log_records_size() == 1);
  const auto& one = scope.log_records(0);
  const std::string& value = one.attributes(0).value().string_value();
  WEIR_PROPERTY(one.body().kvlist_value().values(0).value().string_value() == value);
  WEIR_PROPERTY(one.trace_id().size() == 16 && one.span_id().size() == 8);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::string_view text = all.substr(0, all.find('\0'));
  const std::string_view peer = text.size() < all.size() ? all.substr(text.size() + 1) : "";
  const auto compiled = weir::model::CompileLogText(text, "default");
  if (!compiled) {
    WEIR_PROPERTY(!compiled.error().message().empty());
    return 0;
  }
  WEIR_PROPERTY(compiled->pieces.size() <= 2 * weir::model::kMaxLogOperators + 1);
  weir::observe::Record record = weir::test::MakeRequest(/*is_client=*/(size & 1U) != 0);
  record.flow.sni = peer;
  record.flow.http->user_agent = peer;
  record.flow.http->path = peer;
  std::string line;
  weir::telemetry::AppendLogLine({.is_json = false, .plain = *compiled}, record, "node", line);
  CheckLine(line);
  line.clear();
  weir::telemetry::AppendLogLine({.is_json = true, .fields = {{"field", *compiled}}}, record,
                                 "node", line);
  WEIR_PROPERTY(line.starts_with("{\"field\":") && !line.contains('\t'));
  CheckLine(line);
  CheckRecord(*compiled, record);
  line.clear();
  weir::telemetry::AppendEcsLine(record, "node", line);
  CheckLine(line);
  return 0;
}
