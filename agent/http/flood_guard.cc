#include "agent/http/flood_guard.h"

#include <algorithm>
#include <chrono>

namespace weir::http {
namespace {

struct Bucket {
  std::uint32_t burst;
  std::uint32_t per_second;
};
using Buckets = std::array<Bucket, FloodGuard::kKindCount>;

// In the order of FloodGuard::Kind. An honest agent stays a factor of ten below each:
// SETTINGS is sent once, PING every few seconds; resets follow the applications' (a storm
// of 5,000/s on one tunnel passes when the streams were answered, and a client that gives
// up early is rare); window updates come twice for each half window, see OnDataSent. A
// flood of 50,000/s is over in a fraction of a second whatever its kind.
constexpr Buckets kTunnelBuckets{{
    {.burst = 20, .per_second = 2},        // SETTINGS
    {.burst = 200, .per_second = 20},      // PING
    {.burst = 10000, .per_second = 5000},  // RST_STREAM
    {.burst = 2000, .per_second = 500},    // RST_STREAM before the answer
    {.burst = 200, .per_second = 20},      // empty DATA
    {.burst = 200, .per_second = 20},      // PRIORITY
    {.burst = 10000, .per_second = 1000},  // WINDOW_UPDATE
    {.burst = 200, .per_second = 20},      // unknown types
    {.burst = 2000, .per_second = 500},    // streams that were rejected
}};

// Applications: gRPC changes its window by SETTINGS a dozen times when a bulk transfer
// begins, and sends a PING for each batch of data (earned by the data, see OnDataSent);
// browsers send a PRIORITY or PRIORITY_UPDATE (an unknown type here) for each request; some
// libraries flush with empty DATA frames.
constexpr Buckets kApplicationBuckets{{
    {.burst = 100, .per_second = 10},      // SETTINGS
    {.burst = 1000, .per_second = 100},    // PING
    {.burst = 10000, .per_second = 5000},  // RST_STREAM
    {.burst = 2000, .per_second = 500},    // RST_STREAM before the answer
    {.burst = 1000, .per_second = 100},    // empty DATA
    {.burst = 2000, .per_second = 1000},   // PRIORITY
    {.burst = 10000, .per_second = 1000},  // WINDOW_UPDATE
    {.burst = 2000, .per_second = 1000},   // unknown types
    {.burst = 500, .per_second = 50},      // streams that were rejected
}};

constexpr std::array<H2Violation, FloodGuard::kKindCount> kViolations = {
    H2Violation::kSettingsFlood,      H2Violation::kPingFlood,
    H2Violation::kResetFlood,         H2Violation::kRapidReset,
    H2Violation::kEmptyDataFlood,     H2Violation::kPriorityFlood,
    H2Violation::kWindowUpdateFlood,  H2Violation::kUnknownFrameFlood,
    H2Violation::kRejectedStreamFlood};

const Buckets& BucketsOf(FloodProfile profile) {
  return profile == FloodProfile::kTunnel ? kTunnelBuckets : kApplicationBuckets;
}

constexpr std::uint32_t kSentBytesPerWindowUpdate = 1024;
constexpr std::uint32_t kWindowUpdatesPerFrame = 2;  // the stream's and the connection's
constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;

}  // namespace

std::string_view ToString(H2Violation value) {
  switch (value) {
    case H2Violation::kNone:
      return "none";
    case H2Violation::kBadPreface:
      return "bad-preface";
    case H2Violation::kFrameSize:
      return "frame-size";
    case H2Violation::kBadFrame:
      return "bad-frame";
    case H2Violation::kBadSettings:
      return "bad-settings";
    case H2Violation::kFlowControl:
      return "flow-control";
    case H2Violation::kCompression:
      return "compression";
    case H2Violation::kStreamState:
      return "stream-state";
    case H2Violation::kBadStreamId:
      return "bad-stream-id";
    case H2Violation::kHeaderBlockTooLarge:
      return "header-block-too-large";
    case H2Violation::kSettingsFlood:
      return "settings-flood";
    case H2Violation::kPingFlood:
      return "ping-flood";
    case H2Violation::kResetFlood:
      return "reset-flood";
    case H2Violation::kRapidReset:
      return "rapid-reset";
    case H2Violation::kEmptyDataFlood:
      return "empty-data-flood";
    case H2Violation::kContinuationFlood:
      return "continuation-flood";
    case H2Violation::kPriorityFlood:
      return "priority-flood";
    case H2Violation::kWindowUpdateFlood:
      return "window-update-flood";
    case H2Violation::kUnknownFrameFlood:
      return "unknown-frame-flood";
    case H2Violation::kRejectedStreamFlood:
      return "rejected-stream-flood";
    case H2Violation::kReplyBacklog:
      return "reply-backlog";
    case H2Violation::kHeaderListTooLarge:
      return "header-list-too-large";
    case H2Violation::kTooManyStreams:
      return "too-many-streams";
    case H2Violation::kSlowHeaders:
      return "slow-headers";
  }
  return "unknown";
}

FloodGuard::FloodGuard(FloodProfile profile) : profile_(profile) {
  std::ranges::transform(BucketsOf(profile), tokens_.begin(), &Bucket::burst);
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
  const Buckets& buckets = BucketsOf(profile_);
  for (std::size_t i = 0; i < kKindCount; ++i) {
    const std::uint64_t more = nanoseconds * buckets[i].per_second / kNanosecondsPerSecond;
    tokens_[i] = std::max(tokens_[i], static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                          tokens_[i] + more, buckets[i].burst)));
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
  if (profile_ == FloodProfile::kApplication) {
    std::uint32_t& pings = tokens_[static_cast<std::size_t>(Kind::kPing)];
    pings = std::min(pings + 1, kApplicationBuckets[static_cast<std::size_t>(Kind::kPing)].burst);
  }
}

H2Violation FloodGuard::ViolationOf(Kind kind) {
  return kViolations[static_cast<std::size_t>(kind)];
}

}  // namespace weir::http
