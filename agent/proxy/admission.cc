// StreamSession: what the policy of the destination says, of the connection and of requests.
#include <memory>

#include "agent/proxy/refusing_leg.h"
#include "agent/proxy/stream_session.h"

namespace weir::proxy {

using observe::Reason;

namespace {

// How long a denied client may be silent before it is known to be no HTTP client, which gets
// a reset. One that is said to speak HTTP may make connections before it needs them.
base::Nanoseconds SilenceOf(const WorkerContext& context, model::ProtocolHint hint) {
  const bool is_http = hint == model::ProtocolHint::kHttp || hint == model::ProtocolHint::kHttp2 ||
                       hint == model::ProtocolHint::kGrpc;
  return is_http ? base::Nanoseconds(context.snapshot->limits().request_header_timeout)
                 : context.DetectTimeout(hint);
}

}  // namespace

// An address proves nobody: plain text has no identity, whoever the registry has there.
policy::Verdict StreamSession::Judge(const model::Snapshot& by,
                                     const model::LocalWorkload& destination) const {
  policy::Peer peer;
  if (flow_.mtls != observe::MtlsState::kOff && flow_.source.workload != nullptr) {
    peer = {.identity = &flow_.source.workload->identity,
            .workload = flow_.source.workload.get(),
            .server_name = flow_.sni};
  }
  return policy::Decide(by, peer, destination, flow_.destination.endpoint.port);
}

bool StreamSession::Permits(const policy::Verdict& verdict) {
  flow_.policy = verdict.rule;
  if (verdict.decision == policy::Decision::kDeny) {
    flow_.verdict = observe::Verdict::kDeny;
    return false;
  }
  flow_.verdict = observe::Verdict::kAllow;
  context_.stats.Count(DecisionScope::kConnection, verdict.outcome);
  return true;
}

void StreamSession::Deny() {
  context_.stats.Count(DecisionScope::kConnection, policy::Outcome::kDeny);
  Fail(Reason::kPolicyDenied);
}

bool StreamSession::AsksForServerNames() const {
  const model::PermissionSet* permissions =
      server_side_->permissions.Of(flow_.destination.endpoint.port);
  return permissions != nullptr && permissions->uses_server_names();
}

void StreamSession::Admit() {
  if (phase_ == StreamPhase::kOpaque && flow_.protocol == observe::Protocol::kOpaque &&
      AsksForServerNames()) {
    phase_ = StreamPhase::kDetecting;  // whatever the port is said to speak
    if (!held_.empty()) {
      Classify(http::DetectMode::kMoreMayCome);
    }
  }
  judged_ = true;
  if (Permits(Judge(*snapshot_, *server_side_))) {
    OnAdmitted();
    return;
  }
  if (phase_ == StreamPhase::kOpaque) {
    Deny();
    return;
  }
  // If it is HTTP its requests are answered.
  denied_ = true;
  UseUpstream(std::make_unique<RefusingLeg>(context_.loop, leg_owner()));
  if (phase_ == StreamPhase::kDetecting && !client_timer_.armed()) {
    client_timer_.Arm(SilenceOf(context_, hint_));
  }
  OnLegOpen(*up_);
}

// The protocol is known now: what is no HTTP is let in or not once and for all.
bool StreamSession::StaysAdmitted(http::Detected detected) {
  if (!judged_ || detected == http::Detected::kHttp1 || detected == http::Detected::kHttp2Preface) {
    return true;
  }
  if (!flow_.sni.empty() && AsksForServerNames()) {
    if (Permits(Judge(*snapshot_, *server_side_))) {
      if (denied_) {
        denied_ = false;
        up_open_ = false;
        OnAdmitted();
      }
      return !done();
    }
  } else if (!denied_) {
    return true;
  }
  Deny();
  return false;
}

void StreamSession::NoteLoss() {
  if (const auto* destination =
          server_side_ == nullptr ? nullptr : context_.snapshot->FindLocal(server_side_->id)) {
    (void)Permits(Judge(*context_.snapshot, *destination));  // is known to be a denial
    context_.stats.Count(DecisionScope::kConnection, policy::Outcome::kDeny);
  }
}

bool StreamSession::AdmitsRequest(const RequestFacts& request,
                                  observe::ExchangeResult& exchange) noexcept {
  (void)request;  // no rule asks for more than the peer's identity yet
  if (server_side_ == nullptr) {
    return true;
  }
  // The connection keeps its snapshot, a request goes by the present one.
  const model::LocalWorkload* destination = context_.snapshot->FindLocal(server_side_->id);
  policy::Verdict verdict{.rule = policy::kDefaultRule};
  if (destination != nullptr) {
    verdict = Judge(*context_.snapshot, *destination);
  }
  if (verdict.rule != flow_.policy) {
    exchange.policy = verdict.rule;
  }
  // A denied connection has no application behind it.
  const bool admitted = !denied_ && verdict.decision == policy::Decision::kAllow;
  context_.stats.Count(DecisionScope::kRequest,
                       admitted ? verdict.outcome : policy::Outcome::kDeny);
  return admitted;
}

}  // namespace weir::proxy
