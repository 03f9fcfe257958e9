#include <array>

#include "agent/proxy/refusal.h"
#include "agent/proxy/tunnel.h"
#include "agent/proxy/tunnel_pool.h"

namespace weir::proxy {

using observe::Reason;

namespace {

Reason ReasonOf(const http::TunnelStreamReset& reset) {
  switch (reset.cause) {
    case http::TunnelResetCause::kViolation:
      return Reason::kTunnelProtocol;
    case http::TunnelResetCause::kGoAway:
    case http::TunnelResetCause::kTunnel:
      return Reason::kTunnelClosed;
    case http::TunnelResetCause::kPeer:
      break;
  }
  switch (reset.code) {
    case http::H2Error::kNoError:
    case http::H2Error::kCancel:
    case http::H2Error::kConnectError:
    case http::H2Error::kStreamClosed:
      return Reason::kUpstreamReset;
    case http::H2Error::kRefusedStream:
    case http::H2Error::kEnhanceYourCalm:
      return Reason::kTunnelRefused;
    case http::H2Error::kInadequateSecurity:  // as TunnelLeg::Reset says it
      return Reason::kPolicyDenied;
    case http::H2Error::kProtocolError:
    case http::H2Error::kInternalError:
    case http::H2Error::kFlowControlError:
    case http::H2Error::kSettingsTimeout:
    case http::H2Error::kFrameSizeError:
    case http::H2Error::kCompressionError:
    case http::H2Error::kHttp11Required:
      break;
  }
  return Reason::kTunnelProtocol;
}

}  // namespace

TunnelStream::~TunnelStream() {
  Reset();
}

std::size_t TunnelStream::Write(io::Bytes bytes) {
  if (!opened()) {
    return 0;
  }
  const std::size_t count = connection_->mux_->Write(id_, bytes);
  if (count > 0) {
    request_.reset();  // what was written cannot be sent again elsewhere
  }
  return count;
}

void TunnelStream::EndWrite() {
  if (opened()) {
    request_.reset();
    connection_->mux_->EndStream(id_);
  } else {
    end_wanted_ = true;
  }
}

void TunnelStream::Reset(http::H2Error code) {
  TunnelConnection* const connection = connection_;
  const http::TunnelStreamId id = id_;
  if (refused_by_ != nullptr) {
    refused_by_->Withdraw(*this);
  }
  if (waits_) {
    connection->Delist(*this);
  }
  Detach();
  if (connection != nullptr && id != 0) {
    connection->mux_->ResetStream(id, code);
  }
}

void TunnelStream::ReturnCredit(std::size_t count) {
  if (opened()) {
    connection_->mux_->ReturnCredit(id_, count, connection_->context_.loop.now());
  }
}

void TunnelStream::Accept() {
  if (opened() && connection_->mux_->Accept(id_)) {
    connection_->context_.counters.streams_accepted.Add();
  }
}

void TunnelStream::Refuse(Reason reason) {
  if (opened()) {
    connection_->context_.counters.streams_refused.Add();
    connection_->mux_->Refuse(id_, StatusOf(reason),
                              std::array{http::H2Field{kReasonField, observe::ToString(reason)}});
    Detach();
  }
}

void TunnelStream::OnAccepted(std::uint16_t /*status*/) noexcept {
  accepted_ = true;
  request_.reset();
  handler_->OnAccepted();
}

void TunnelStream::OnRefused(std::uint16_t status, const http::H2FieldList& fields) noexcept {
  connection_->context_.counters.streams_refused.Add();
  Fail(ReasonOfRefusal(status, fields.Find(kReasonField)), status,
       "the far agent refused the stream");
}

void TunnelStream::OnData(std::span<const std::uint8_t> bytes) noexcept {
  handler_->OnData(bytes);
}

void TunnelStream::OnEnd() noexcept {
  handler_->OnEnd();
}

void TunnelStream::OnReset(const http::TunnelStreamReset& reset) noexcept {
  TunnelConnection& connection = *connection_;
  if (opening_side_ && !accepted_) {
    const bool unseen = reset.cause == http::TunnelResetCause::kGoAway;
    if (unseen && request_ != nullptr) {
      Detach();
      if (connection.owner_.OnStreamUnserved(connection, *this)) {
        return;
      }
    }
    Fail(connection.ReasonFor(ReasonOf(reset)), 0, "the tunnel ended the stream unanswered");
    return;
  }
  Detach();
  handler_->OnReset(connection.ReasonFor(ReasonOf(reset)));
}

void TunnelStream::OnWritable() noexcept {
  handler_->OnWritable();
}

void TunnelStream::Fail(Reason reason, std::uint16_t status, std::string_view detail) {
  Detach();
  handler_->OnRefused(reason, status, detail);
}

void TunnelStream::Detach() {
  if (connection_ == nullptr) {
    return;
  }
  (previous_ != nullptr ? previous_->next_ : connection_->streams_) = next_;
  if (next_ != nullptr) {
    next_->previous_ = previous_;
  }
  previous_ = next_ = nullptr;
  connection_ = nullptr;
  id_ = 0;
}

}  // namespace weir::proxy
