#include "agent/export/export_answer.h"

#include <otlp/rpc_status.pb.h>
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

// The responses of the three signals have the same form: a partial success (1) with the
// number of rejected items (1) and a message (2).
ExportAnswer ReadAcceptance(const std::string& body, std::size_t items) {
  ExportAnswer answer;
  ExportTraceServiceResponse message;
  if (!message.ParseFromString(body)) {
    // The status says that they were taken; collectors that answer with JSON or text exist.
    answer.message = "the collector's answer is not an OTLP response";
    return answer;
  }
  const auto& partial = message.partial_success();
  const std::int64_t rejected =
      std::clamp<std::int64_t>(partial.rejected_spans(), 0, static_cast<std::int64_t>(items));
  answer.rejected = static_cast<std::size_t>(rejected);
  if (rejected != 0 || !partial.error_message().empty()) {
    answer.message = "the collector rejected " + std::to_string(rejected) + " of " +
                     std::to_string(items) + ": " + OneLine(partial.error_message());
  }
  return answer;
}

// An answer of HTTP that is not a success.
ExportAnswer ReadFailure(const client::HttpResponse& response, base::WallTime now) {
  ExportAnswer answer{.verdict = ExportVerdict::kRefused};
  answer.message = "the collector answered " + std::to_string(response.status);
  const std::string_view type = response.Find("content-type");
  google::rpc::Status status;
  if (type.starts_with("text/") && !response.body.empty()) {
    answer.message += ": " + OneLine(response.body);
  } else if (type == "application/x-protobuf" && status.ParseFromString(response.body) &&
             !status.message().empty()) {
    answer.message += ": " + OneLine(status.message());
  }
  switch (response.status) {
    case 429:
    case 502:
    case 503:
    case 504:
      answer.verdict = ExportVerdict::kRetry;
      answer.retry_after = ParseRetryAfter(response.Find("retry-after"), now);
      break;
    default:
      break;
  }
  return answer;
}

// The delay of the RetryInfo in `details`, a google.rpc.Status; nullopt without one.
std::optional<std::chrono::milliseconds> ReadRetryInfo(const std::string& details) {
  google::rpc::Status status;
  google::rpc::RetryInfo info;
  if (!status.ParseFromString(details)) {
    return std::nullopt;
  }
  for (const auto& detail : status.details()) {
    if (detail.UnpackTo(&info)) {
      const std::int64_t seconds =
          std::clamp<std::int64_t>(info.retry_delay().seconds(), 0, kMaxRetryAfterSeconds);
      const std::int64_t nanoseconds =
          std::clamp<std::int64_t>(info.retry_delay().nanos(), 0, 999'999'999);
      return std::chrono::seconds(seconds) + std::chrono::milliseconds(nanoseconds / 1'000'000);
    }
  }
  return std::nullopt;
}

bool IsRetryable(client::GrpcStatus status, bool has_retry_info) {
  using client::GrpcStatus;
  switch (status) {
    case GrpcStatus::kCancelled:
    case GrpcStatus::kDeadlineExceeded:
    case GrpcStatus::kAborted:
    case GrpcStatus::kOutOfRange:
    case GrpcStatus::kUnavailable:
    case GrpcStatus::kDataLoss:
      return true;
    case GrpcStatus::kResourceExhausted:
      return has_retry_info;
    case GrpcStatus::kOk:
    case GrpcStatus::kUnknown:
    case GrpcStatus::kInvalidArgument:
    case GrpcStatus::kNotFound:
    case GrpcStatus::kAlreadyExists:
    case GrpcStatus::kPermissionDenied:
    case GrpcStatus::kFailedPrecondition:
    case GrpcStatus::kUnimplemented:
    case GrpcStatus::kInternal:
    case GrpcStatus::kUnauthenticated:
      return false;
  }
  return false;
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

ExportAnswer ReadOtlpHttpAnswer(const client::HttpResponse& response, std::size_t items,
                                base::WallTime now) {
  return response.status / 100 == 2 ? ReadAcceptance(response.body, items)
                                    : ReadFailure(response, now);
}

ExportAnswer ReadOtlpGrpcAnswer(const client::GrpcAnswer& answer, std::size_t items) {
  if (answer.status == client::GrpcStatus::kOk) {
    return ReadAcceptance(answer.message, items);
  }
  const auto delay = ReadRetryInfo(answer.details);
  ExportAnswer result{.verdict = IsRetryable(answer.status, delay.has_value())
                                     ? ExportVerdict::kRetry
                                     : ExportVerdict::kRefused,
                      .retry_after = delay.value_or(std::chrono::milliseconds(0))};
  result.message = "the collector answered " + std::string(client::ToString(answer.status));
  if (!answer.text.empty()) {
    result.message += ": " + OneLine(answer.text);
  }
  return result;
}

ExportAnswer ReadZipkinAnswer(const client::HttpResponse& response, base::WallTime now) {
  return response.status / 100 == 2 ? ExportAnswer{} : ReadFailure(response, now);
}

ExportAnswer ReadExportError(const base::Error& error) {
  switch (error.code()) {
    case base::ErrorCode::kLimit:
      return {.verdict = ExportVerdict::kBadResponse, .message = error.ToString()};
    case base::ErrorCode::kInvalidArgument:  // a header of the collector that cannot be sent
      return {.verdict = ExportVerdict::kRefused, .message = error.ToString()};
    case base::ErrorCode::kNotFound:
    case base::ErrorCode::kAlreadyExists:
    case base::ErrorCode::kPermission:
    case base::ErrorCode::kUnavailable:
    case base::ErrorCode::kUnsupported:
    case base::ErrorCode::kProtocol:
    case base::ErrorCode::kTimeout:
    case base::ErrorCode::kSystem:
    case base::ErrorCode::kInternal:
      return {.verdict = ExportVerdict::kUnreachable, .message = error.ToString()};
  }
  return {};
}

}  // namespace weir::telemetry
