#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/base/clock.h"

namespace weir::http {

// What the peer of an HTTP/2 connection did wrong; each is a counter label.
enum class H2Violation : std::uint8_t {
  kNone,
  kBadPreface,
  kFrameSize,
  kBadFrame,  // a frame that is malformed or may not come here
  kBadSettings,
  kFlowControl,
  kCompression,
  kStreamState,
  kBadStreamId,
  kHeaderBlockTooLarge,
  kSettingsFlood,
  kPingFlood,
  kResetFlood,
  kRapidReset,  // requests reset before they were answered
  kEmptyDataFlood,
  kContinuationFlood,
  kPriorityFlood,
  kWindowUpdateFlood,
  kUnknownFrameFlood,
  kRejectedStreamFlood,  // requests that were malformed, refused or for dead streams
  kReplyBacklog,         // makes us answer but does not read the answers
  kHeaderListTooLarge,   // a header block that unfolds into far more than anybody sends
  kTooManyStreams,       // opened beyond the limit, again and again
  kSlowHeaders,          // a preface or header block that does not come to its end
};
inline constexpr std::size_t kH2ViolationCount =
    static_cast<std::size_t>(H2Violation::kSlowHeaders) + 1;
std::string_view ToString(H2Violation value);

using TunnelViolation = H2Violation;
inline constexpr std::size_t kTunnelViolationCount = kH2ViolationCount;

// Whose connection is guarded: agents' tunnels, or applications' own HTTP/2 connections,
// which do more than an agent would.
enum class FloodProfile : std::uint8_t { kTunnel, kApplication };

// FloodGuard limits how often a peer may send frames that cost us work and cost it
// nothing: one token bucket for each kind, refilled by time, window updates also by the
// bytes that we sent. The table in the .cc file says how many and why.
class FloodGuard {
 public:
  enum class Kind : std::uint8_t {
    kSettings,
    kPing,
    kReset,
    kEarlyReset,
    kEmptyData,
    kPriority,
    kWindowUpdate,
    kUnknownFrame,
    kRejectedStream,
  };
  static constexpr std::size_t kKindCount = static_cast<std::size_t>(Kind::kRejectedStream) + 1;

  explicit FloodGuard(FloodProfile profile = FloodProfile::kTunnel);

  // Refills the buckets; once for each batch of received bytes.
  void Advance(base::MonotonicTime now);
  // Takes a token; false when the bucket is empty.
  [[nodiscard]] bool Allow(Kind kind);
  // We sent a DATA frame of that many bytes: window updates will come back for it, and from
  // applications (gRPC measures the path with every batch of data) PINGs.
  void OnDataSent(std::size_t bytes);

  static H2Violation ViolationOf(Kind kind);

 private:
  std::array<std::uint32_t, kKindCount> tokens_;
  std::uint32_t sent_remainder_bytes_ = 0;
  FloodProfile profile_;
  base::MonotonicTime refilled_{};
};

}  // namespace weir::http
