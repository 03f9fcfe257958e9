// TunnelConnection: what time does to it.
#include <algorithm>
#include <chrono>

#include "agent/proxy/tunnel.h"

namespace weir::proxy {

using observe::Reason;

namespace {

// The server waits longer, so that the side that knows whether it needs the tunnel ends it.
constexpr int kServerIdleFactor = 2;
// A tunnel takes no new stream in the last quarter of the time that its certificates had
// left when it came up, an hour at most: what is under way then has that long to end.
constexpr int kRetireFraction = 4;
constexpr std::chrono::hours kRetireAtMost{1};
// Less than this is too short for another tunnel to be worth it.
constexpr std::chrono::seconds kRetireAtLeast{1};
// Later than anybody asks for, and counts in nanoseconds.
constexpr std::chrono::seconds kFarAway = std::chrono::hours(24 * 365);

}  // namespace

void TunnelConnection::NoteExpiry() {
  expires_ = std::min(peer().not_after, workload_->not_after());
  const base::Nanoseconds share =
      std::min<base::Nanoseconds>(LifeLeft() / kRetireFraction, kRetireAtMost);
  retire_before_ = share < kRetireAtLeast ? base::Nanoseconds(0) : share;
}

base::Nanoseconds TunnelConnection::LifeLeft() const {
  const base::Nanoseconds now = context_.loop.clock().WallNow().time_since_epoch();
  const auto whole = std::chrono::floor<std::chrono::seconds>(now);
  const std::chrono::seconds left = std::min(std::chrono::seconds(expires_) - whole, kFarAway);
  return left - (now - whole);
}

base::Nanoseconds TunnelConnection::NextCheck() const {
  const base::MonotonicTime now = context_.loop.now();
  switch (phase_) {
    case Phase::kConnecting:
      return limits_.connect_timeout - (now - phase_began_);
    case Phase::kHandshaking:
      return limits_.handshake_timeout - (now - phase_began_);
    case Phase::kUp:
    case Phase::kClosed:
      break;
  }
  base::Nanoseconds next = limits_.ping_interval - (now - last_received_);
  if (const auto ping_sent = mux_->ping_sent()) {
    next = limits_.ping_timeout - (now - std::max(*ping_sent, last_received_));
  }
  if (limits_.idle_timeout.count() > 0) {
    next = std::min<base::Nanoseconds>(next, IdleTimeout() - (now - last_stream_));
  }
  if (!mux_->peer_ready()) {
    next = std::min<base::Nanoseconds>(next, limits_.handshake_timeout - (now - phase_began_));
  }
  const base::Nanoseconds left = LifeLeft();
  next = std::min(next, left > retire_before_ ? left - retire_before_ : left);
  // Never at once: a check that is due has just been made.
  return std::max<base::Nanoseconds>(next, std::chrono::milliseconds(10));
}

void TunnelConnection::NoteStreams() {
  const bool has_streams = stream_count() > 0;
  if (has_streams || had_streams_) {
    last_stream_ = context_.loop.now();
  }
  had_streams_ = has_streams;
}

base::Nanoseconds TunnelConnection::IdleTimeout() const {
  return limits_.idle_timeout * (is_client() ? 1 : kServerIdleFactor);
}

void TunnelConnection::OnTimer() {
  const base::MonotonicTime now = context_.loop.now();
  switch (phase_) {
    case Phase::kConnecting:
      Close(Reason::kUpstreamTimeout, "connect to the far agent");
      return;
    case Phase::kHandshaking:
      Close(Reason::kTlsHandshakeTimeout, "TLS handshake");
      return;
    case Phase::kUp:
      break;
    case Phase::kClosed:
      return;
  }
  if (expired()) {
    Close(Reason::kCertificateExpired, "a certificate of the tunnel has expired");
    return;
  }
  if (!mux_->peer_ready() && now - phase_began_ >= limits_.handshake_timeout) {
    Close(Reason::kTlsHandshakeTimeout, "no HTTP/2 behind the TLS handshake");
    return;
  }
  if (!ciphertext_.empty() && now - last_taken_ >= limits_.ping_interval + limits_.ping_timeout) {
    Close(Reason::kTunnelClosed, "the far agent does not read");
    return;
  }
  if (LifeLeft() <= retire_before_) {
    Drain();  // those who come now go by new certificates
  }
  NoteStreams();
  if (!had_streams_ && limits_.idle_timeout.count() > 0 && now - last_stream_ >= IdleTimeout()) {
    Drain();  // closes when no request is on its way here
    last_stream_ = now;
  }
  const auto ping_sent = mux_->ping_sent();
  if (ping_sent && now - std::max(*ping_sent, last_received_) >= limits_.ping_timeout) {
    Close(Reason::kTunnelClosed, "the far agent does not answer");
    return;
  }
  if (now - last_received_ >= limits_.ping_interval) {
    mux_->Ping(now);
  }
  mux_->Trim();
  plaintext_.Trim();
  ciphertext_.Trim();
  timer_.Arm(NextCheck());
}

}  // namespace weir::proxy
