#include "agent/proxy/inbound.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/io/socket.h"
#include "agent/observe/finish.h"
#include "agent/policy/decide.h"
#include "agent/proxy/server_tunnel.h"
#include "agent/tls/client_hello.h"

namespace weir::proxy {
namespace {

using observe::Reason;

constexpr std::string_view kTunnelAlpn = "weir/1";
constexpr std::string_view kHboneAlpn = "h2";

bool AllowsPlainText(const model::Snapshot& snapshot, const model::LocalWorkload& destination) {
  constexpr std::uint16_t kAnyPort = 0;  // permissive for all of them, or for none
  return policy::Decide(snapshot, policy::Peer{}, destination, kAnyPort).decision ==
         policy::Decision::kAllow;
}

}  // namespace

InboundPeek::InboundPeek(WorkerContext& context, InboundConnection connection)
    : Session(connection.destination->id),
      context_(context),
      connection_(std::move(connection)),
      timer_(context.loop, [this] { OnTimer(); }),
      start_(context.loop.now()) {
  context_.stats.open_sessions.Add();
}

InboundPeek::~InboundPeek() {
  watch_.Reset();
  context_.stats.open_sessions.Sub();
}

void InboundPeek::Start() {
  if (context_.OverLimit(owner())) {
    Refuse(Reason::kLimitReached);
    return;
  }
  const model::LocalWorkload& destination = *connection_.destination;
  const bool plain_text = AllowsPlainText(*context_.snapshot, destination);
  const auto& endpoint = connection_.tuple.local;
  const model::ProtocolHint hint = destination.workload->HintFor(endpoint.port);
  // A member of the mesh may be about to open a tunnel, and opens it at once.
  const bool stranger = !context_.snapshot->KnowsAddress(connection_.tuple.remote.address);
  if (plain_text && stranger &&
      (model::SpeaksFirst(hint) || context_.opaque.Knows(endpoint, context_.loop.now()))) {
    BecomePlain();
    return;
  }
  auto watch = context_.loop.Add(connection_.fd.get(), EPOLLIN, *this);
  if (!watch) {
    Refuse(Reason::kLimitReached);
    return;
  }
  watch_ = std::move(*watch);
  timer_.Arm(plain_text ? context_.DetectTimeout(hint)
                        : context_.snapshot->limits().tls_handshake_timeout);
}

void InboundPeek::OnEvents(std::uint32_t events) noexcept {
  (void)events;  // recv says the same, with the error
  const ssize_t count =
      ::recv(connection_.fd.get(), context_.scratch.data(), context_.scratch.size(), 0);
  if (count < 0) {
    if (errno != EAGAIN && errno != EINTR) {
      Refuse(Reason::kDownstreamReset);
    }
    return;
  }
  if (count == 0) {
    // Nothing more will come, so it is no tunnel; an application may still have to answer.
    if (AllowsPlainText(*context_.snapshot, *connection_.destination)) {
      BecomePlain();
    } else {
      Refuse(held_.empty() ? Reason::kDownstreamReset : Reason::kPlaintextRefused);
    }
    return;
  }
  held_.Append(io::Bytes(context_.scratch).first(static_cast<std::size_t>(count)));
  Look();
}

void InboundPeek::Look() {
  const tls::ClientHello hello = tls::ParseClientHello(held_.Readable());
  if (hello.status == tls::HelloStatus::kNeedMore && held_.size() < tls::kMaxClientHelloWireBytes) {
    return;
  }
  if (hello.status == tls::HelloStatus::kClientHello &&
      (tls::OffersAlpn(hello, kTunnelAlpn) ||
       (connection_.tuple.local.port == kHbonePort && tls::OffersAlpn(hello, kHboneAlpn)))) {
    BecomeTunnel();
    return;
  }
  if (AllowsPlainText(*context_.snapshot, *connection_.destination)) {
    BecomePlain();
  } else {
    Refuse(Reason::kPlaintextRefused);
  }
}

void InboundPeek::OnTimer() {
  if (AllowsPlainText(*context_.snapshot, *connection_.destination)) {
    context_.stats.detect_timeouts.Add();
    BecomePlain();
  } else {
    Refuse(Reason::kTlsHandshakeTimeout);
  }
}

void InboundPeek::BecomePlain() {
  timer_.Cancel();
  watch_.Reset();
  auto session = std::make_unique<InboundSession>(context_, std::move(connection_));
  InboundSession& started = *session;
  context_.sessions.Insert(std::move(session));
  started.Start(held_.Readable());
  context_.sessions.Retire(*this);
}

void InboundPeek::BecomeTunnel() {
  timer_.Cancel();
  watch_.Reset();
  const auto credential = context_.CredentialOf(owner());
  if (credential == nullptr) {
    Refuse(Reason::kNoIdentity);
    return;
  }
  // Tunnels do not count as connections of the workload, their streams do; but neither may
  // a peer open as many as it likes.
  if (context_.stats.tunnels.open_server.value() >=
      context_.snapshot->limits().max_connections_per_workload) {
    Refuse(Reason::kLimitReached);
    return;
  }
  auto tunnel =
      std::make_unique<ServerTunnel>(context_, connection_.tuple, connection_.destination);
  ServerTunnel& started = *tunnel;
  context_.sessions.Insert(std::move(tunnel));
  started.Start(std::move(connection_.fd), credential, held_.Readable());
  context_.sessions.Retire(*this);
}

void InboundPeek::Refuse(Reason reason) {
  timer_.Cancel();
  watch_.Reset();
  io::ResetOnClose(connection_.fd.get());
  connection_.fd.Reset();
  RecordRefused(reason);
  context_.sessions.Retire(*this);
}

void InboundPeek::RecordRefused(Reason reason) {
  context_.stats.connections.Add();
  context_.stats.Count(reason);
  observe::Flow flow;
  flow.direction = observe::Direction::kInbound;
  flow.verdict = observe::IsRefusal(reason) ? observe::Verdict::kDeny : observe::Verdict::kError;
  flow.reason = reason;
  if (reason == Reason::kPlaintextRefused) {
    flow.policy = policy::kStrictRule;
    context_.stats.Count(DecisionScope::kConnection, policy::Outcome::kDeny);
  }
  flow.connection_id = id();
  const model::Snapshot& snapshot = *context_.snapshot;
  flow.source.endpoint = connection_.tuple.remote;
  flow.source.workload = snapshot.Shared(snapshot.FindBySource(connection_.tuple.remote.address));
  flow.destination.endpoint = connection_.tuple.local;
  flow.destination.workload = connection_.destination->workload;
  flow.timing.total = context_.loop.now() - start_;
  flow.timing.start = context_.loop.clock().WallNow() - flow.timing.total;
  context_.Finish(
      {.flow = std::move(flow), .span = std::nullopt, .local = connection_.destination});
}

void InboundPeek::Abort(Reason reason) noexcept {
  Refuse(reason);
}

InboundSession::InboundSession(WorkerContext& context, InboundConnection connection)
    : StreamSession(context, connection.destination->id, observe::Direction::kInbound) {
  flow().source.endpoint = connection.tuple.remote;
  flow().source.workload =
      snapshot()->Shared(snapshot()->FindBySource(connection.tuple.remote.address));
  flow().destination.endpoint = connection.tuple.local;
  flow().destination.workload = connection.destination->workload;
  flow().mtls = observe::MtlsState::kOff;
  SetServerSide(std::move(connection.destination));
  UseDownstreamSocket(std::move(connection.fd));
}

void InboundSession::Start(io::Bytes first) {
  const base::Endpoint endpoint = flow().destination.endpoint;
  SetDetection(server_side()->workload->HintFor(endpoint.port));
  // InboundPeek has made sure of it; here the record learns the rule.
  if (!Permits(Judge(*snapshot(), *server_side()))) {
    Fail(Reason::kPlaintextRefused);
    return;
  }
  if (StartReading()) {
    TakeEarlyBytes(first);
    ConnectDelivery(owner(), endpoint, flow().source.endpoint.address);
  }
}

Reason InboundSession::Contradiction(const model::Snapshot& now) const {
  const model::LocalWorkload* destination = now.FindLocal(owner());
  if (destination == nullptr) {
    return Reason::kNamespaceGone;
  }
  return AllowsPlainText(now, *destination) ? Reason::kNone : Reason::kPlaintextRefused;
}

}  // namespace weir::proxy
