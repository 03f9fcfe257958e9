#include "agent/proxy/tunnel_leg.h"

#include <utility>

namespace weir::proxy {

using observe::Reason;

void TunnelLeg::Adopt(std::unique_ptr<TunnelStream> stream) {
  stream_ = std::move(stream);
  stream_->set_handler(*this);
}

void TunnelLeg::Refuse(Reason reason) {
  if (!closed_) {
    stream_->Refuse(reason);
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
  http::H2Error code = http::H2Error::kCancel;
  if (reason == Reason::kPolicyDenied) {
    code = http::H2Error::kInadequateSecurity;
  } else if (reason == Reason::kUpstreamReset || reason == Reason::kDownstreamReset) {
    // CONNECT's own code for "the TCP connection behind it was reset" (RFC 9113 section 7).
    code = http::H2Error::kConnectError;
  }
  stream_->Reset(code);
  Close();
}

void TunnelLeg::OnAccepted() noexcept {
  owner_.OnLegOpen(*this);
}

void TunnelLeg::OnRefused(Reason reason, std::uint16_t status, std::string_view detail) noexcept {
  (void)status;
  (void)detail;  // is in the tunnel's own counters
  Close();
  owner_.OnLegFailed(*this, reason);
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
