#include "agent/proxy/tunnel_leg.h"

#include <utility>

namespace weir::proxy {

using observe::Reason;

std::uint16_t StatusOf(Reason reason) {
  switch (reason) {
    case Reason::kUpstreamRefused:
      return 503;
    case Reason::kUpstreamTimeout:
      return 504;
    case Reason::kPolicyDenied:
    case Reason::kPeerIdentityMismatch:
    case Reason::kPeerNodeMismatch:
      return 403;
    case Reason::kLimitReached:
      return 429;
    case Reason::kBadRequest:
      return 400;
    case Reason::kUnknownDestination:
      return 404;
    default:
      return 502;
  }
}

Reason ReasonOfStatus(std::uint16_t status) {
  switch (status) {
    case 503:
      return Reason::kUpstreamRefused;
    case 504:
      return Reason::kUpstreamTimeout;
    case 502:
      return Reason::kUpstreamUnreachable;
    case 403:
      return Reason::kPolicyDenied;
    default:
      return Reason::kTunnelRefused;
  }
}

void TunnelLeg::Adopt(std::unique_ptr<TunnelStream> stream) {
  stream_ = std::move(stream);
  stream_->set_handler(*this);
}

void TunnelLeg::Refuse(Reason reason) {
  if (!closed_) {
    stream_->Refuse(StatusOf(reason));
    Close();
  }
}

void TunnelLeg::Write(io::Bytes first, io::Bytes second) {
  if (closed_) {
    return;
  }
  if (pending_.empty()) {
    if (!first.empty()) {
      first = first.subspan(stream_->Write(first));
    }
    if (first.empty() && !second.empty()) {
      second = second.subspan(stream_->Write(second));
    }
  }
  pending_.Append(first);
  pending_.Append(second);
}

void TunnelLeg::OnWritable() noexcept {
  if (closed_ || pending_.empty()) {
    return;
  }
  const std::size_t count = stream_->Write(pending_.Readable());
  pending_.Consume(count);
  if (pending_.empty()) {
    pending_.Trim();
    if (fin_wanted_) {
      stream_->EndWrite();
    }
  }
  if (count > 0) {
    owner_.OnLegFlushed(*this, count);
  }
}

void TunnelLeg::ShutdownWrite() {
  if (closed_ || fin_wanted_) {
    return;
  }
  fin_wanted_ = true;
  if (pending_.empty()) {
    stream_->EndWrite();
  }
}

void TunnelLeg::Consumed(std::size_t count) {
  if (!closed_ && count > 0) {
    stream_->ReturnCredit(count);
  }
}

void TunnelLeg::Close() {
  closed_ = true;
  pending_.Clear();
  pending_.Trim();
}

void TunnelLeg::Reset(Reason reason) {
  if (closed_) {
    return;
  }
  // CONNECT's own code for "the TCP connection behind it was reset" (RFC 9113 section 7).
  stream_->Reset(reason == Reason::kUpstreamReset || reason == Reason::kDownstreamReset
                     ? http::H2Error::kConnectError
                     : http::H2Error::kCancel);
  Close();
}

void TunnelLeg::OnAccepted() noexcept {
  owner_.OnLegOpen(*this);
}

void TunnelLeg::OnRefused(Reason reason, std::uint16_t status, std::string_view detail) noexcept {
  (void)detail;  // is in the tunnel's own counters
  Close();
  owner_.OnLegFailed(*this, status == 0 ? reason : ReasonOfStatus(status));
}

void TunnelLeg::OnData(io::Bytes bytes) noexcept {
  owner_.OnLegData(*this, bytes);
}

void TunnelLeg::OnEnd() noexcept {
  owner_.OnLegEnd(*this);
}

void TunnelLeg::OnReset(Reason reason) noexcept {
  Close();
  owner_.OnLegFailed(*this, reason);
}

}  // namespace weir::proxy
