// A format of an access log, and behind the first NUL what a peer sent. Properties: what
// compiles keeps the limits, and renders as one line without control characters, as Plain and
// as Json.
#include <algorithm>
#include <string>
#include <string_view>

#include "agent/export/access_log_line.h"
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
  line.clear();
  weir::telemetry::AppendEcsLine(record, "node", line);
  CheckLine(line);
  return 0;
}
