#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/client/grpc.h"
#include "agent/client/http_client.h"

namespace weir::telemetry {

enum class ExportVerdict : std::uint8_t {
  kAccepted,
  kRetry,        // answered: later may be better
  kUnreachable,  // not answered, or not in the protocol; to be tried again as well
  kRefused,      // answered: never
  kBadResponse   // an answer beyond the limit of its size
};

// What became of one attempt to hand over `items` spans, metrics or log records.
struct ExportAnswer {
  ExportVerdict verdict = ExportVerdict::kAccepted;
  std::size_t rejected = 0;                  // of an accepted request, at most its items
  std::chrono::milliseconds retry_after{0};  // 0: nothing was said
  std::string message{};                     // one line, empty when all is well
};

// What each protocol's answer means; nothing in it is trusted. `now` is for a Retry-After
// that is a date. Pure.
//
// OTLP specification, "OTLP/HTTP Response": 429, 502, 503 and 504 are retried, nothing else;
// a partial success never.
ExportAnswer ReadOtlpHttpAnswer(const client::HttpResponse& response, std::size_t items,
                                base::WallTime now);
// OTLP specification, "OTLP/gRPC Response": CANCELLED, DEADLINE_EXCEEDED, ABORTED,
// OUT_OF_RANGE, UNAVAILABLE and DATA_LOSS are retried, RESOURCE_EXHAUSTED only with a
// RetryInfo.
ExportAnswer ReadOtlpGrpcAnswer(const client::GrpcAnswer& answer, std::size_t items);
// Zipkin has no partial success; statuses are treated as OTLP's.
ExportAnswer ReadZipkinAnswer(const client::HttpResponse& response, base::WallTime now);
// A failure of the connection, or of what came over it.
ExportAnswer ReadExportError(const base::Error& error);

// Seconds or an HTTP date (RFC 9110 section 10.2.3) as the time to wait; zero when it is
// neither or has passed. Pure.
std::chrono::milliseconds ParseRetryAfter(std::string_view text, base::WallTime now);

// `text` as one printable line of at most 200 bytes of UTF-8, for messages from peers.
std::string OneLine(std::string_view text);

}  // namespace weir::telemetry
