#include "agent/http/flood_guard.h"

#include <algorithm>
#include <chrono>

namespace weir::http {
namespace {

struct Bucket {
  std::uint32_t burst;
  std::uint32_t per_second;
  TunnelViolation violation;
};

// In the order of FloodGuard::Kind. An honest agent stays a factor of ten below each:
// SETTINGS is sent once, PING every few seconds; resets follow the applications' (a storm
// of 5,000/s on one tunnel passes when the streams were answered, and a client that gives
// up early is rare); window updates come twice for each half window, see OnDataSent. A
// flood of 50,000/s is over in a fraction of a second whatever its kind.
constexpr std::array<Bucket, FloodGuard::kKindCount> kBuckets{{
    {.burst = 20, .per_second = 2, .violation = TunnelViolation::kSettingsFlood},
    {.burst = 200, .per_second = 20, .violation = TunnelViolation::kPingFlood},
    {.burst = 10000, .per_second = 5000, .violation = TunnelViolation::kResetFlood},
    {.burst = 2000, .per_second = 500, .violation = TunnelViolation::kRapidReset},
    {.burst = 200, .per_second = 20, .violation = TunnelViolation::kEmptyDataFlood},
    {.burst = 200, .per_second = 20, .violation = TunnelViolation::kPriorityFlood},
    {.burst = 10000, .per_second = 1000, .violation = TunnelViolation::kWindowUpdateFlood},
    {.burst = 200, .per_second = 20, .violation = TunnelViolation::kUnknownFrameFlood},
    {.burst = 2000, .per_second = 500, .violation = TunnelViolation::kRejectedStreamFlood},
}};

constexpr std::uint32_t kSentBytesPerWindowUpdate = 1024;
constexpr std::uint32_t kWindowUpdatesPerFrame = 2;  // the stream's and the connection's
constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;

}  // namespace

std::string_view ToString(TunnelViolation value) {
  switch (value) {
    case TunnelViolation::kNone:
      return "none";
    case TunnelViolation::kBadPreface:
      return "bad-preface";
    case TunnelViolation::kFrameSize:
      return "frame-size";
    case TunnelViolation::kBadFrame:
      return "bad-frame";
    case TunnelViolation::kBadSettings:
      return "bad-settings";
    case TunnelViolation::kFlowControl:
      return "flow-control";
    case TunnelViolation::kCompression:
      return "compression";
    case TunnelViolation::kStreamState:
      return "stream-state";
    case TunnelViolation::kBadStreamId:
      return "bad-stream-id";
    case TunnelViolation::kHeaderBlockTooLarge:
      return "header-block-too-large";
    case TunnelViolation::kSettingsFlood:
      return "settings-flood";
    case TunnelViolation::kPingFlood:
      return "ping-flood";
    case TunnelViolation::kResetFlood:
      return "reset-flood";
    case TunnelViolation::kRapidReset:
      return "rapid-reset";
    case TunnelViolation::kEmptyDataFlood:
      return "empty-data-flood";
    case TunnelViolation::kContinuationFlood:
      return "continuation-flood";
    case TunnelViolation::kPriorityFlood:
      return "priority-flood";
    case TunnelViolation::kWindowUpdateFlood:
      return "window-update-flood";
    case TunnelViolation::kUnknownFrameFlood:
      return "unknown-frame-flood";
    case TunnelViolation::kRejectedStreamFlood:
      return "rejected-stream-flood";
    case TunnelViolation::kReplyBacklog:
      return "reply-backlog";
  }
  return "unknown";
}

FloodGuard::FloodGuard() {
  std::ranges::transform(kBuckets, tokens_.begin(), &Bucket::burst);
}

void FloodGuard::Advance(base::MonotonicTime now) {
  const auto elapsed = now - refilled_;
  // In such steps the slowest bucket gets a whole token.
  constexpr auto kStep = std::chrono::milliseconds(500);
  if (elapsed < kStep) {
    return;
  }
  refilled_ = now;
  const auto nanoseconds = static_cast<std::uint64_t>(
      std::min<base::Nanoseconds>(elapsed, std::chrono::hours(1)).count());
  for (std::size_t i = 0; i < kKindCount; ++i) {
    const std::uint64_t more = nanoseconds * kBuckets[i].per_second / kNanosecondsPerSecond;
    tokens_[i] = std::max(tokens_[i], static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                          tokens_[i] + more, kBuckets[i].burst)));
  }
}

bool FloodGuard::Allow(Kind kind) {
  std::uint32_t& tokens = tokens_[static_cast<std::size_t>(kind)];
  if (tokens == 0) {
    return false;
  }
  --tokens;
  return true;
}

void FloodGuard::OnDataSent(std::size_t bytes) {
  const std::size_t counted = sent_remainder_bytes_ + bytes;
  sent_remainder_bytes_ = static_cast<std::uint32_t>(counted % kSentBytesPerWindowUpdate);
  std::uint32_t& tokens = tokens_[static_cast<std::size_t>(Kind::kWindowUpdate)];
  // Earned tokens may stand above the burst, up to what a full window of them is worth.
  constexpr std::size_t kMost = 1U << 20U;
  tokens = static_cast<std::uint32_t>(
      std::min(kMost, tokens + counted / kSentBytesPerWindowUpdate + kWindowUpdatesPerFrame));
}

TunnelViolation FloodGuard::ViolationOf(Kind kind) {
  return kBuckets[static_cast<std::size_t>(kind)].violation;
}

}  // namespace weir::http
