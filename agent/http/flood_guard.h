#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/base/clock.h"

namespace weir::http {

// What a peer of a tunnel did wrong; each is a counter label.
enum class TunnelViolation : std::uint8_t {
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
};
inline constexpr std::size_t kTunnelViolationCount =
    static_cast<std::size_t>(TunnelViolation::kReplyBacklog) + 1;
std::string_view ToString(TunnelViolation value);

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

  FloodGuard();

  // Refills the buckets; once for each batch of received bytes.
  void Advance(base::MonotonicTime now);
  // Takes a token; false when the bucket is empty.
  [[nodiscard]] bool Allow(Kind kind);
  // We sent a DATA frame of that many bytes: window updates will come back for it.
  void OnDataSent(std::size_t bytes);

  static TunnelViolation ViolationOf(Kind kind);

 private:
  std::array<std::uint32_t, kKindCount> tokens_;
  std::uint32_t sent_remainder_bytes_ = 0;
  base::MonotonicTime refilled_{};
};

}  // namespace weir::http
