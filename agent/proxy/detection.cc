// StreamSession: what the first bytes say.
#include "agent/proxy/request_trace.h"
#include "agent/proxy/stream_session.h"
#include "agent/tls/client_hello.h"

namespace weir::proxy {
namespace {
constexpr std::size_t kMaxServerNameBytes = 255;
}

using observe::Protocol;

void StreamSession::SetDetection(model::ProtocolHint hint) {
  hint_ = hint;
  if (hint == model::ProtocolHint::kTcp || hint == model::ProtocolHint::kServerFirst ||
      context_.opaque.Knows(flow_.destination.endpoint, context_.loop.now())) {
    phase_ = StreamPhase::kOpaque;
  }
}

void StreamSession::TakeEarlyBytes(io::Bytes bytes) {
  if (!bytes.empty()) {
    from_client_.owed += bytes.size();
    OnClientBytes(bytes);
    Balance();
  }
}

void StreamSession::OnClientBytes(io::Bytes bytes) {
  if (first_client_byte_ == base::MonotonicTime{}) {
    first_client_byte_ = context_.loop.now();
  }
  if (held_.empty() && TakesClientBytes()) {
    PassToUpstream(bytes);
    return;
  }
  held_.Append(bytes);
  if (phase_ == StreamPhase::kDetecting) {
    Classify(http::DetectMode::kMoreMayCome);
  }
}

void StreamSession::Classify(http::DetectMode mode) {
  const http::Detected detected = http::Detect(held_.Readable(), mode);
  if (detected == http::Detected::kNeedMore ||
      (detected == http::Detected::kTls && !ClassifyTls(mode))) {
    if (!client_timer_.armed()) {
      client_timer_.Arm(context_.DetectTimeout(hint_));
    }
    return;
  }
  client_timer_.Cancel();
  Decide(detected);
}

// Whether the wait for the server's name is over.
bool StreamSession::ClassifyTls(http::DetectMode mode) {
  tls::ClientHello hello = tls::ParseClientHello(held_.Readable());
  if (hello.status == tls::HelloStatus::kNeedMore && mode == http::DetectMode::kMoreMayCome &&
      held_.size() < tls::kMaxClientHelloWireBytes) {
    return false;
  }
  if (hello.server_name.size() <= kMaxServerNameBytes) {
    flow_.sni = observe::CleanText(hello.server_name, kMaxServerNameBytes);
  }
  return true;
}

void StreamSession::Decide(http::Detected detected) {
  switch (detected) {
    case http::Detected::kHttp1:
      StartRelay();
      break;
    case http::Detected::kHttp2Preface:
      flow_.protocol = Protocol::kHttp2;
      phase_ = StreamPhase::kOpaque;
      break;
    case http::Detected::kTls:
      flow_.protocol = Protocol::kTls;
      phase_ = StreamPhase::kOpaque;
      break;
    case http::Detected::kOpaque:
    case http::Detected::kNeedMore:
      phase_ = StreamPhase::kOpaque;
      break;
  }
  FlushHeld();
}

void StreamSession::BecomeOpaque() {
  client_timer_.Cancel();
  Decide(http::Detected::kOpaque);
}

void StreamSession::StartRelay() {
  const model::Limits& limits = snapshot_->limits();
  Http1Options options{.limits = {.max_start_line_bytes = limits.max_request_line_bytes,
                                  .max_header_bytes = limits.max_header_bytes,
                                  .max_header_count = limits.max_header_count},
                       .keep_query_values = context_.options.keep_query_values};
  if (client_side_ == nullptr && flow_.mtls == observe::MtlsState::kTunnel) {
    options.limits.max_header_bytes += kAddedHeaderBytes;
    options.limits.max_header_count += kAddedHeaderCount;
  }
  if (client_side_ != nullptr) {
    options.trace.client = &client_side_->trace;
  }
  if (server_side_ != nullptr) {
    options.trace.server = &server_side_->trace;
    options.trace.from_outside =
        flow_.mtls == observe::MtlsState::kOff;  // an address proves nobody
    // So that a connection to the application is one request at a time.
    options.max_open_requests = 1;
  }
  relay_ =
      std::make_unique<Http1Relay>(context_.http, options, static_cast<ExchangeHandler&>(*this));
  flow_.protocol = Protocol::kHttp1;
  phase_ = StreamPhase::kHttp1;
}

void StreamSession::OnServerSpeaksFirst() {
  context_.opaque.Remember(flow_.destination.endpoint, context_.loop.now());
  BecomeOpaque();
}

void StreamSession::OnClientTimer() {
  switch (phase_) {
    case StreamPhase::kDetecting:
      context_.stats.detect_timeouts.Add();
      Classify(http::DetectMode::kFinal);
      Balance();
      return;
    case StreamPhase::kHttp1: {
      if (!relay_->waiting_for_headers()) {
        return;
      }
      const base::Nanoseconds limit = snapshot_->limits().request_header_timeout;
      const base::Nanoseconds waited = context_.loop.now() - relay_->head_began();
      if (waited < limit) {
        client_timer_.Arm(limit - waited);
        return;
      }
      Deliver(relay_->OnHeaderTimeout({context_.to_upstream, context_.to_downstream}),
              /*from_client=*/false);
      Balance();
      return;
    }
    case StreamPhase::kLingering:
      End(observe::Reason::kNone);
      return;
    case StreamPhase::kOpaque:
    case StreamPhase::kDone:
      return;
  }
}

}  // namespace weir::proxy
