#include "agent/proxy/server_tunnel.h"

#include <algorithm>
#include <utility>

#include "agent/observe/finish.h"
#include "agent/proxy/tunnel_leg.h"

namespace weir::proxy {

using observe::MtlsState;
using observe::Reason;

ServerTunnel::ServerTunnel(WorkerContext& context, const base::ConnectionTuple& tuple,
                           std::shared_ptr<const model::LocalWorkload> destination)
    : Session(destination->id, /*counts=*/false),
      context_(context),
      tuple_(tuple),
      destination_(std::move(destination)),
      start_(context.loop.now()) {
  context_.stats.tunnels.open_server.Add();
}

ServerTunnel::~ServerTunnel() {
  context_.stats.tunnels.open_server.Sub();
}

void ServerTunnel::Start(base::UniqueFd fd, std::shared_ptr<const tls::WorkloadTls> credential,
                         io::Bytes received) {
  connection_ = TunnelConnection::Accept(context_.tunnel_context, std::move(fd),
                                         std::move(credential), received, *this);
}

void ServerTunnel::Abort(Reason reason) noexcept {
  connection_->Close(reason, "workload removed or agent stopping");
}

void ServerTunnel::OnDrain() noexcept {
  connection_->Drain();
}

Reason ServerTunnel::OnTunnelUp(TunnelConnection& connection) noexcept {
  const base::IpAddress& address = tuple_.remote.address;
  const auto answer = context_.IdentifyPeer(*context_.snapshot, address, connection.peer());
  // Somebody whom the registry has not heard of yet may be about to be added: its streams
  // wait for that.
  const Reason reason = context_.snapshot->KnowsAddress(address) ? answer.reason : Reason::kNone;
  up_ = reason == Reason::kNone;
  return reason;
}

void ServerTunnel::OnTunnelStream(TunnelConnection& connection,
                                  std::unique_ptr<TunnelStream> stream,
                                  const http::TunnelRequest& request) noexcept {
  (void)connection;
  // A tunnel outlives snapshots; its new streams go by the present one.
  auto destination = context_.snapshot->Shared(context_.snapshot->FindLocal(owner()));
  if (destination == nullptr) {
    destination = destination_;
  }
  auto session =
      std::make_unique<ServedSession>(context_, tuple_, std::move(destination), std::move(stream));
  ServedSession& started = *session;
  context_.sessions.Insert(std::move(session));
  started.Start(request.authority);
}

void ServerTunnel::OnTunnelClosed(TunnelConnection& connection, Reason reason,
                                  std::string_view detail) noexcept {
  (void)connection;
  (void)detail;  // is in the tunnel's own counters
  if (reason != Reason::kNone && !up_) {
    // No stream will ever say that this connection was refused.
    context_.stats.connections.Add();
    context_.stats.Count(reason);
    observe::Flow flow;
    flow.direction = observe::Direction::kInbound;
    flow.verdict = observe::IsRefusal(reason) ? observe::Verdict::kDeny : observe::Verdict::kError;
    flow.reason = reason;
    flow.mtls = MtlsState::kTunnel;
    flow.connection_id = id();
    flow.source.endpoint = tuple_.remote;
    flow.source.workload =
        context_.snapshot->Shared(context_.snapshot->FindBySource(tuple_.remote.address));
    flow.destination.endpoint = tuple_.local;
    flow.destination.workload = destination_->workload;
    flow.timing.total = context_.loop.now() - start_;
    flow.timing.start = context_.loop.clock().WallNow() - flow.timing.total;
    context_.Finish({.flow = std::move(flow), .span = std::nullopt, .local = destination_});
  }
  context_.sessions.Retire(*this);
}

ServedSession::ServedSession(WorkerContext& context, const base::ConnectionTuple& tunnel,
                             std::shared_ptr<const model::LocalWorkload> destination,
                             std::unique_ptr<TunnelStream> stream)
    : StreamSession(context, destination->id, observe::Direction::kInbound) {
  flow().source.endpoint = tunnel.remote;
  flow().destination.endpoint = tunnel.local;
  flow().destination.workload = destination->workload;
  flow().mtls = MtlsState::kTunnel;
  flow().via = "tunnel " + tunnel.remote.ToString();
  if (const TunnelConnection* connection = stream->connection()) {
    flow().tls_version = connection->tls_version();
    flow().peer_certificate_expiry = connection->peer().not_after;
  }
  SetServerSide(std::move(destination));
  auto down = std::make_unique<TunnelLeg>(leg_owner());
  down->Adopt(std::move(stream));
  UseDownstream(std::move(down));
}

TunnelLeg& ServedSession::leg() {
  return static_cast<TunnelLeg&>(*downstream());
}

const TunnelLeg& ServedSession::leg() const {
  return static_cast<const TunnelLeg&>(*downstream());
}

// The tunnel came to one endpoint, or to the port for all of the workload's: the CONNECT
// may ask for nothing else.
bool ServedSession::Admits(std::string_view authority) {
  const auto asked = base::Endpoint::Parse(authority);
  base::Endpoint& endpoint = flow().destination.endpoint;
  if (!asked || asked->address != endpoint.address) {
    return false;
  }
  if (asked->port == endpoint.port) {
    return true;
  }
  const auto& inbounds = server_side()->workload->inbounds;
  if (endpoint.port != kHbonePort ||
      std::ranges::find(inbounds, asked->port, &model::Inbound::port) == inbounds.end()) {
    return false;
  }
  endpoint.port = asked->port;
  return true;
}

void ServedSession::Start(std::string_view authority) {
  if (!Admits(authority)) {
    Fail(Reason::kBadRequest);
    return;
  }
  if (context().OverLimit(owner())) {
    Fail(Reason::kLimitReached);
    return;
  }
  SetDetection(server_side()->workload->HintFor(flow().destination.endpoint.port));
  Identify();
}

void ServedSession::Identify() {
  const TunnelConnection* connection = leg().connection();
  if (connection == nullptr) {
    Fail(Reason::kTunnelClosed);
    return;
  }
  const base::IpAddress& address = flow().source.endpoint.address;
  const auto answer = context().IdentifyPeer(*snapshot(), address, connection->peer());
  if (answer.workload == nullptr) {
    if (!snapshot()->KnowsAddress(address)) {
      if (!waits_for_registry_) {
        waits_for_registry_ = true;
        ArmUpstreamTimer(snapshot()->limits().unknown_destination_wait);
      }
      return;
    }
    Fail(answer.reason);
    return;
  }
  waits_for_registry_ = false;
  CancelUpstreamTimer();
  flow().source.workload = snapshot()->Shared(answer.workload);
  Admit();
}

void ServedSession::OnAdmitted() noexcept {
  ConnectDelivery(owner(), flow().destination.endpoint, flow().source.endpoint.address);
}

bool ServedSession::OnAwaitedSnapshot() noexcept {
  if (!waits_for_registry_) {
    return false;
  }
  RefreshSnapshot();
  Identify();
  return true;
}

Reason ServedSession::Contradiction(const model::Snapshot& now) const {
  const TunnelConnection* connection = leg().connection();
  const base::IpAddress& address = flow().source.endpoint.address;
  // Whom the registry has just dropped may end in its own time; another one's address it
  // may not keep.
  if (connection != nullptr && now.KnowsAddress(address)) {
    const auto answer = context().IdentifyPeer(now, address, connection->peer());
    if (answer.workload == nullptr) {
      return answer.reason;
    }
  }
  const model::LocalWorkload* destination = now.FindLocal(owner());
  if (destination == nullptr) {
    return Reason::kNamespaceGone;
  }
  return Judge(now, *destination).decision == policy::Decision::kDeny ? Reason::kPolicyDenied
                                                                      : Reason::kNone;
}

void ServedSession::OnUpstreamTimer() noexcept {
  if (waits_for_registry_) {
    Fail(Reason::kPeerIdentityMismatch);
    return;
  }
  StreamSession::OnUpstreamTimer();
}

void ServedSession::OnUpstreamOpen() noexcept {
  if (!std::exchange(answered_, true)) {  // else while its requests were still denied
    leg().Accept();
  }
}

void ServedSession::RejectDownstream(Reason reason) {
  if (answered_) {
    leg().Reset(reason);
  } else {
    answered_ = true;
    leg().Refuse(reason);
  }
}

}  // namespace weir::proxy
