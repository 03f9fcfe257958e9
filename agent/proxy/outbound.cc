#include "agent/proxy/outbound.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "agent/proxy/tunnel_leg.h"
#include "agent/proxy/witness.h"

namespace weir::proxy {

using observe::MtlsState;
using observe::Reason;
using observe::Verdict;

OutboundSession::OutboundSession(WorkerContext& context, const seam::OriginalDestination& original,
                                 const base::ConnectionTuple& accepted, base::UniqueFd fd)
    : StreamSession(context, original.source, observe::Direction::kOutbound) {
  flow().source.endpoint = accepted.remote;
  SetOpenedByApplication(accepted);
  flow().destination.endpoint = original.destination;
  flow().pid = original.pid;
  std::copy_n(original.comm, flow().comm.size(), flow().comm.begin());
  UseDownstreamSocket(std::move(fd));
}

void OutboundSession::Start() {
  SetClientSide(snapshot()->Shared(snapshot()->FindLocal(owner())));
  if (client_side() == nullptr) {
    Fail(Reason::kNamespaceGone);
    return;
  }
  flow().source.workload = client_side()->workload;
  // The socket's own address is the loopback that the hook led it through.
  flow().source.endpoint.address = SourceAddress();
  if (context().OverLimit(owner())) {
    Fail(Reason::kLimitReached);
    return;
  }
  const model::Workload* destination = snapshot()->FindByAddress(flow().destination.endpoint);
  SetDetection(destination == nullptr ? model::ProtocolHint::kNone
                                      : destination->HintFor(flow().destination.endpoint.port));
  if (StartReading()) {
    Resolve();
  }
}

base::IpAddress OutboundSession::SourceAddress() const {
  const auto& addresses = client_side()->workload->addresses;
  const auto found = std::ranges::find(addresses, flow().destination.endpoint.address.family(),
                                       &base::IpAddress::family);
  return found == addresses.end() ? flow().source.endpoint.address : *found;
}

void OutboundSession::Resolve() {
  const base::Endpoint& endpoint = flow().destination.endpoint;
  if (const model::Workload* destination = snapshot()->FindByAddress(endpoint)) {
    flow().destination.workload = snapshot()->Shared(destination);
    const model::LocalWorkload* local = snapshot()->FindLocal(*destination);
    local != nullptr ? StartJoin(*local) : StartTunnel(*destination);
    return;
  }
  if (!snapshot()->InMeshRange(endpoint.address) ||
      client_side()->tls_mode == model::TlsMode::kPermissive) {
    StartPassthrough();
    return;
  }
  // Perhaps the registry hears of it in a moment.
  if (!waits_for_registry_) {
    waits_for_registry_ = true;
    ArmUpstreamTimer(snapshot()->limits().unknown_destination_wait);
  }
}

bool OutboundSession::OnAwaitedSnapshot() noexcept {
  if (!waits_for_registry_) {
    return false;
  }
  RefreshSnapshot();
  if (snapshot()->FindByAddress(flow().destination.endpoint) != nullptr) {
    waits_for_registry_ = false;
    CancelUpstreamTimer();
    Resolve();
  }
  return true;
}

// Whom the registry has just dropped may end in its own time; another one's address it may
// not keep, and nobody goes round the mesh who would have to go through it now.
Reason OutboundSession::Contradiction(const model::Snapshot& now) const {
  const base::Endpoint& endpoint = flow().destination.endpoint;
  const model::Workload* there = now.FindByAddress(endpoint);
  switch (way_) {
    case Way::kUnknown:
      return Reason::kNone;
    case Way::kJoin:
      return there == nullptr ? Reason::kNone : JoinContradiction(now, *there);
    case Way::kTunnel: {
      // A tunnel that is not up yet is checked when it is.
      const auto* connection = static_cast<const TunnelLeg*>(upstream())->connection();
      return there == nullptr || connection == nullptr || !connection->up()
                 ? Reason::kNone
                 : WorkerContext::CheckServer(*there, connection->peer());
    }
    case Way::kPassthrough: {
      if (there != nullptr) {
        return Reason::kPlaintextRefused;
      }
      const model::LocalWorkload* source = now.FindLocal(owner());
      const bool outside = !now.InMeshRange(endpoint.address) ||
                           (source != nullptr && source->tls_mode == model::TlsMode::kPermissive);
      return outside ? Reason::kNone : Reason::kUnknownDestination;
    }
  }
  return Reason::kNone;
}

Reason OutboundSession::JoinContradiction(const model::Snapshot& now,
                                          const model::Workload& there) const {
  const model::LocalWorkload* local = now.FindLocal(there);
  if (local == nullptr || local->id != server_side()->id) {
    return Reason::kPeerIdentityMismatch;
  }
  return Judge(now, *local).decision == policy::Decision::kDeny ? Reason::kPolicyDenied
                                                                : Reason::kNone;
}

void OutboundSession::OnUpstreamTimer() noexcept {
  if (waits_for_registry_) {
    Fail(Reason::kUnknownDestination);
    return;
  }
  StreamSession::OnUpstreamTimer();
}

void OutboundSession::StartJoin(const model::LocalWorkload& destination) {
  way_ = Way::kJoin;
  flow().mtls = MtlsState::kLocal;
  flow().via = "local";
  SetServerSide(snapshot()->Shared(&destination));
  Admit();
}

void OutboundSession::OnAdmitted() noexcept {
  switch (context().witnesses->Require(owner(), flow().destination.endpoint, id())) {
    case WitnessCache::Answer::kAlive:
      OnWitness(/*alive=*/true);
      return;
    case WitnessCache::Answer::kPending:
      return;
    case WitnessCache::Answer::kRefused:
      OnWitness(/*alive=*/false);
      return;
  }
}

void OutboundSession::OnWitness(bool alive) noexcept {
  if (done()) {
    return;
  }
  if (!alive) {
    Fail(Reason::kWitnessRefused);
    return;
  }
  ConnectDelivery(server_side()->id, flow().destination.endpoint, flow().source.endpoint.address);
}

void OutboundSession::StartTunnel(const model::Workload& destination) {
  way_ = Way::kTunnel;
  if (context().CredentialOf(owner()) == nullptr) {
    Fail(Reason::kNoIdentity);
    return;
  }
  const base::Endpoint& endpoint = flow().destination.endpoint;
  const bool hbone = destination.tunnel_port == model::TunnelPort::kHbone15008;
  flow().mtls = MtlsState::kTunnel;
  flow().via =
      "tunnel " +
      (hbone ? base::Endpoint{.address = endpoint.address, .port = 15008} : endpoint).ToString();
  auto leg = std::make_unique<TunnelLeg>(leg_owner());
  TunnelLeg& tunnel = *leg;
  UseUpstream(std::move(leg));
  const auto& limits = snapshot()->limits();
  // The tunnel keeps its own limits; this one is for a far agent that never answers.
  ArmUpstreamTimer(2 * limits.connect_timeout + limits.tls_handshake_timeout);
  tunnel.Attach(context().tunnels->Open(
      {.source = owner(), .destination = endpoint, .port = destination.tunnel_port},
      {.authority = endpoint.ToString(), .headers = {}}, tunnel.handler()));
}

// The tunnel was waited for until the CONNECT could be sent.
void OutboundSession::NoteTunnelWait() {
  const auto opened_at = static_cast<const TunnelLeg*>(upstream())->opened_at();
  if (opened_at != base::MonotonicTime{}) {
    flow().timing.tunnel_wait = Elapsed() - (context().loop.now() - opened_at);
  }
}

void OutboundSession::StartPassthrough() {
  way_ = Way::kPassthrough;
  flow().verdict = Verdict::kPassthrough;
  flow().via = "passthrough";
  ConnectUpstream({.from = owner(),
                   .destination = flow().destination.endpoint,
                   .transparent_source = std::nullopt,
                   .kind = seam::LegKind::kPassthrough,
                   .worker = context().options.index},
                  snapshot()->limits().connect_timeout);
}

void OutboundSession::OnUpstreamOpen() noexcept {
  if (way_ != Way::kTunnel) {
    return;
  }
  NoteTunnelWait();
  if (const auto* connection = static_cast<TunnelLeg*>(upstream())->connection()) {
    flow().tls_version = connection->tls_version();
    flow().peer_certificate_expiry = connection->peer().not_after;
  }
}

void OutboundSession::OnUpstreamFailed(Reason reason) noexcept {
  if (way_ == Way::kTunnel && upstream() != nullptr) {
    NoteTunnelWait();
  }
  const bool wrong_peer =
      reason == Reason::kPeerIdentityMismatch || reason == Reason::kPeerNodeMismatch;
  if (wrong_peer && !retried_ && context().snapshot->revision() > snapshot()->revision()) {
    // The registry has news since: perhaps somebody else lives there now.
    retried_ = true;
    ++flow().retries;
    RefreshSnapshot();
    // A connection that began in the mesh never leaves it in plain text.
    if (snapshot()->FindByAddress(flow().destination.endpoint) == nullptr) {
      Fail(Reason::kUnknownDestination);
      return;
    }
    Resolve();
    return;
  }
  Fail(reason);
}

}  // namespace weir::proxy
