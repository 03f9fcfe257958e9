// StreamSession: the end step.
#include "agent/observe/finish.h"

#include <utility>

#include "agent/proxy/stream_session.h"

namespace weir::proxy {
namespace {

using observe::Reason;
using observe::Verdict;

// What a connection that ended for `reason` was judged. One that was served and broke
// later keeps the verdict that it was admitted with.
Verdict VerdictOf(Reason reason, bool served, Verdict admitted) {
  switch (reason) {
    case Reason::kNoOriginalDestination:
    case Reason::kNoIdentity:
    case Reason::kUnknownDestination:
    case Reason::kPeerIdentityMismatch:
    case Reason::kPeerNodeMismatch:
    case Reason::kPeerUntrusted:
    case Reason::kCertificateExpired:
    case Reason::kPlaintextRefused:
    case Reason::kWitnessRefused:
    case Reason::kPolicyDenied:
      return Verdict::kDeny;
    default:
      return served || reason == Reason::kNone ? admitted : Verdict::kError;
  }
}

}  // namespace

void StreamSession::End(Reason reason) {
  if (phase_ == StreamPhase::kDone) {
    return;
  }
  if (phase_ != StreamPhase::kLingering) {
    MakeRecords(reason);
  }
  phase_ = StreamPhase::kDone;
  client_timer_.Cancel();
  upstream_timer_.Cancel();
  context_.sessions.Retire(*this);
}

void StreamSession::MakeRecords(Reason reason) {
  flow_.connection_id = id();
  context_.stats.connections.Add();
  if (relay_ != nullptr) {
    relay_->Finish(reason);
  }
  if (exchanges_ > 0 && !switched_) {
    return;  // each request has made its own
  }
  context_.stats.Count(reason);
  flow_.reason = reason;
  flow_.verdict = VerdictOf(reason, up_open_, flow_.verdict);
  flow_.timing.total = Elapsed();
  if (client_side_ != nullptr && server_side_ != nullptr) {
    context_.Finish({.flow = ServerView(), .span = std::nullopt, .local = server_side_});
  }
  context_.Finish({.flow = flow_,
                   .span = std::nullopt,
                   .local = client_side_ != nullptr ? client_side_ : server_side_});
}

// The flow as the workload where the connection arrives sees it.
observe::Flow StreamSession::ServerView() const {
  observe::Flow view = flow_;
  view.direction = observe::Direction::kInbound;
  if (client_side_ != nullptr) {
    view.pid = 0;  // the process that connected is the other side's
    view.comm = {};
  }
  return view;
}

void StreamSession::OnExchange(observe::ExchangeResult&& exchange) noexcept {
  flow_.connection_id = id();
  context_.stats.requests.Add();
  context_.stats.Count(exchange.reason);
  if (exchanges_++ == 0 && upstream_opened_ > first_client_byte_) {
    // The first request waited here for the upstream, before the relay saw it.
    const base::Nanoseconds waited = upstream_opened_ - first_client_byte_;
    exchange.timing.start -= waited;
    exchange.timing.total += waited;
    if (exchange.timing.first_byte.count() >= 0) {
      exchange.timing.first_byte += waited;
    }
  }
  if (server_side_ != nullptr) {
    context_.Finish(observe::FinishRequest(ServerView(), exchange, server_side_));
  }
  if (client_side_ != nullptr) {
    context_.Finish(observe::FinishRequest(flow_, exchange, client_side_));
  }
}

}  // namespace weir::proxy
