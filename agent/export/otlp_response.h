#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/client/http_client.h"

namespace weir::telemetry {

enum class OtlpVerdict : std::uint8_t { kAccepted, kRetry, kRefused };

// What a collector's answer to `spans` spans means (OTLP specification, "Failures" and
// "Partial Success").
struct OtlpAnswer {
  OtlpVerdict verdict = OtlpVerdict::kAccepted;
  std::size_t rejected = 0;                  // of an accepted request, at most its spans
  std::chrono::milliseconds retry_after{0};  // 0: nothing was said
  std::string message;                       // one line, empty when all is well
};

// Reads `response`; nothing in it is trusted. `now` is for a Retry-After that is a date.
// Pure.
OtlpAnswer ReadOtlpAnswer(const client::HttpResponse& response, std::size_t spans,
                          base::WallTime now);

// Seconds or an HTTP date (RFC 9110 section 10.2.3) as the time to wait; zero when it is
// neither or has passed. Pure.
std::chrono::milliseconds ParseRetryAfter(std::string_view text, base::WallTime now);

// `text` as one printable line of at most 200 bytes of UTF-8, for messages from peers.
std::string OneLine(std::string_view text);

}  // namespace weir::telemetry
