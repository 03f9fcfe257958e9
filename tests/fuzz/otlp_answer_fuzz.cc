// Whatever a collector answers, the count of rejected spans stays within the request's, a
// wait within its bounds, and what is shown to people is one line of UTF-8.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/base/check.h"
#include "agent/base/utf8.h"
#include "agent/export/export_answer.h"

namespace {

void Check(const weir::telemetry::ExportAnswer& answer, std::size_t spans) {
  WEIR_CHECK(answer.rejected <= spans);
  WEIR_CHECK(answer.verdict == weir::telemetry::ExportVerdict::kAccepted || answer.rejected == 0);
  WEIR_CHECK(answer.retry_after.count() >= 0);
  WEIR_CHECK(answer.retry_after <= std::chrono::hours(366 * 24));
  WEIR_CHECK(weir::base::IsUtf8(answer.message));
  WEIR_CHECK(answer.message.size() < 400);
  WEIR_CHECK(answer.message.find('\n') == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr unsigned kStatuses[] = {200, 202, 429, 503, 400, 301, 504, 502};
  if (size < 2) {
    return 0;
  }
  const std::size_t spans = data[1];
  const std::string rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  weir::client::HttpResponse response{.status = kStatuses[data[0] % 8]};
  response.body = rest;
  response.headers = {{"Retry-After", rest.substr(0, 64)},
                      {"Content-Type", data[0] % 16 < 8 ? "text/plain" : "application/x-protobuf"}};
  Check(weir::telemetry::ReadOtlpHttpAnswer(response, spans, weir::base::WallTime{}), spans);
  Check(weir::telemetry::ReadZipkinAnswer(response, weir::base::WallTime{}), spans);
  const auto status = static_cast<weir::client::GrpcStatus>(data[0] % 17);
  Check(weir::telemetry::ReadOtlpGrpcAnswer(
            {.status = status, .text = rest, .details = rest, .message = rest}, spans),
        spans);
  return 0;
}
