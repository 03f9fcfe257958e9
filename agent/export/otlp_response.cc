#include "agent/export/otlp_response.h"

#include <otlp/trace_service.pb.h>

#include <algorithm>
#include <charconv>
#include <ctime>

#include "agent/base/utf8.h"

namespace weir::telemetry {
namespace {

using opentelemetry::proto::collector::trace::v1::ExportTraceServiceResponse;

constexpr std::size_t kMaxLineBytes = 200;
constexpr std::int64_t kMaxRetryAfterSeconds = 365 * 24 * 3600;

OtlpAnswer ReadAcceptance(const client::HttpResponse& response, std::size_t spans) {
  OtlpAnswer answer;
  ExportTraceServiceResponse message;
  if (!message.ParseFromString(response.body)) {
    // The status says that the spans were taken; collectors that answer with JSON or text
    // exist.
    answer.message = "the collector's answer is not an ExportTraceServiceResponse";
    return answer;
  }
  const auto& partial = message.partial_success();
  const std::int64_t rejected =
      std::clamp<std::int64_t>(partial.rejected_spans(), 0, static_cast<std::int64_t>(spans));
  answer.rejected = static_cast<std::size_t>(rejected);
  if (rejected != 0 || !partial.error_message().empty()) {
    answer.message = "the collector rejected " + std::to_string(rejected) + " of " +
                     std::to_string(spans) + " spans: " + OneLine(partial.error_message());
  }
  return answer;
}

// The three forms of an HTTP date (RFC 9110 section 5.6.7), all in GMT.
std::optional<std::time_t> ParseHttpDate(const std::string& text) {
  for (const char* form :
       {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"}) {
    std::tm parts{};
    const char* end = ::strptime(text.c_str(), form, &parts);
    if (end != nullptr && *end == '\0') {
      return ::timegm(&parts);
    }
  }
  return std::nullopt;
}

}  // namespace

std::chrono::milliseconds ParseRetryAfter(std::string_view text, base::WallTime now) {
  std::int64_t seconds = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (failure == std::errc::result_out_of_range) {
    seconds = text.starts_with('-') ? 0 : kMaxRetryAfterSeconds;
  } else if (failure != std::errc{} || end != text.data() + text.size()) {
    const auto date = ParseHttpDate(std::string(text));
    if (!date) {
      return std::chrono::milliseconds(0);
    }
    seconds = *date - std::chrono::floor<std::chrono::seconds>(now).time_since_epoch().count();
  }
  return std::chrono::seconds(std::clamp<std::int64_t>(seconds, 0, kMaxRetryAfterSeconds));
}

std::string OneLine(std::string_view text) {
  std::string scratch;
  std::string line;
  for (const char c : base::ToUtf8(text, scratch)) {
    const bool starts_character = (static_cast<unsigned char>(c) & 0xc0U) != 0x80;
    if (line.size() >= kMaxLineBytes && starts_character) {
      return line + "...";
    }
    const auto byte = static_cast<unsigned char>(c);
    line += byte < 0x20 || byte == 0x7f ? ' ' : c;
  }
  return line;
}

OtlpAnswer ReadOtlpAnswer(const client::HttpResponse& response, std::size_t spans,
                          base::WallTime now) {
  if (response.status / 100 == 2) {
    return ReadAcceptance(response, spans);
  }
  OtlpAnswer answer;
  answer.message = "the collector answered " + std::to_string(response.status);
  const bool is_text = response.Find("content-type").starts_with("text/");
  if (is_text && !response.body.empty()) {
    answer.message += ": " + OneLine(response.body);
  }
  switch (response.status) {
    case 429:
    case 502:
    case 503:
    case 504:
      answer.verdict = OtlpVerdict::kRetry;
      answer.retry_after = ParseRetryAfter(response.Find("retry-after"), now);
      break;
    default:
      answer.verdict = OtlpVerdict::kRefused;
  }
  return answer;
}

}  // namespace weir::telemetry
