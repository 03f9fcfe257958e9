#include "agent/proxy/stream_session.h"

#include <algorithm>
#include <utility>

#include "agent/io/socket.h"
#include "agent/proxy/inferred_parent.h"

namespace weir::proxy {
namespace {

using observe::Reason;

// A transparent leg that meets a live connection of the same tuple hangs without an answer
// (measured): another port is tried soon.
constexpr std::chrono::seconds kDeliveryTryTime{1};
// What a client gets to read the answer to a request that was turned down.
constexpr std::chrono::seconds kLingerTime{2};

Reason ReasonOfError(const base::Error& error) {
  if (error.code() == base::ErrorCode::kNotFound) {
    return Reason::kNamespaceGone;
  }
  return error.code() == base::ErrorCode::kLimit ? Reason::kLimitReached
                                                 : ReasonOf(error.sys_errno());
}

// Legs speak of themselves as of upstreams.
Reason ReasonOfDownstream(Reason reason) {
  switch (reason) {
    case Reason::kUpstreamReset:
    case Reason::kUpstreamRefused:
    case Reason::kUpstreamTimeout:
    case Reason::kUpstreamUnreachable:
      return Reason::kDownstreamReset;
    default:
      return reason;
  }
}

}  // namespace

StreamSession::StreamSession(WorkerContext& context, model::LocalId owner,
                             observe::Direction direction)
    : Session(owner),
      context_(context),
      snapshot_(context.snapshot),
      client_timer_(context.loop, [this] { OnClientTimer(); }),
      upstream_timer_(context.loop, [this] { OnUpstreamTimer(); }),
      start_(context.loop.now()) {
  flow_.direction = direction;
  flow_.timing.start = context.loop.clock().WallNow();
  context_.stats.open_sessions.Add();
}

StreamSession::~StreamSession() {
  if (delivery_.request_handle != 0) {
    context_.options.causality->ReleaseHandle(context_.options.index, delivery_.request_handle);
  }
  context_.stats.open_sessions.Sub();
}

void StreamSession::SetClientSide(std::shared_ptr<const model::LocalWorkload> local) {
  client_side_ = std::move(local);
}

void StreamSession::SetServerSide(std::shared_ptr<const model::LocalWorkload> local) {
  server_side_ = std::move(local);
}

bool StreamSession::Involves(model::LocalId id) const {
  return owner() == id || (server_side_ != nullptr && server_side_->id == id);
}

void StreamSession::UseDownstreamSocket(base::UniqueFd fd) {
  down_ = std::make_unique<SocketLeg>(context_.loop, context_.scratch, leg_owner(), std::move(fd),
                                      SocketLeg::State::kOpen);
}

bool StreamSession::StartReading() {
  if (static_cast<SocketLeg&>(*down_).Start()) {
    return true;
  }
  Fail(Reason::kLimitReached);
  return false;
}

void StreamSession::ConnectUpstream(const seam::ConnectRequest& request,
                                    base::Nanoseconds timeout) {
  auto fd = context_.options.sockets.Connect(request);
  if (!fd) {
    OnUpstreamFailed(ReasonOfError(fd.error()));
    return;
  }
  if (request.kind == seam::LegKind::kDelivery) {
    io::SetNoDelay(fd->get());  // the application is in this kernel: it cannot fall silent
  } else {
    SetLegOptions(fd->get());
  }
  auto leg = std::make_unique<SocketLeg>(context_.loop, context_.scratch, leg_owner(),
                                         std::move(*fd), SocketLeg::State::kConnecting);
  if (!leg->Start()) {
    OnUpstreamFailed(Reason::kLimitReached);
    return;
  }
  const bool open = leg->state() == SocketLeg::State::kOpen;
  UseUpstream(std::move(leg));
  if (open) {
    OnLegOpen(*up_);
  } else {
    upstream_timer_.Arm(timeout);
  }
}

void StreamSession::UseUpstream(std::unique_ptr<Leg> leg) {
  replaced_up_ = std::exchange(up_, std::move(leg));
}

void StreamSession::ConnectDelivery(model::LocalId destination, const base::Endpoint& endpoint,
                                    const base::IpAddress& source) {
  // An answer to a link-local address would leave by the interface instead of coming back
  // to the leg: such a client the application sees under the pod's own address.
  const bool keeps_source = !source.is_link_local();
  delivery_ = {.from = destination,
               .destination = endpoint,
               .transparent_source = keeps_source ? std::optional(source) : std::nullopt,
               .kind = seam::LegKind::kDelivery,
               .worker = context_.options.index,
               .request_handle = AcquireHandle()};
  TellProtocol();
  delivery_tries_ = 1;
  ConnectUpstream(delivery_, kDeliveryTryTime);
}

// One for the session, however often the delivery is tried.
std::uint32_t StreamSession::AcquireHandle() {
  if (delivery_.request_handle != 0 || context_.options.causality == nullptr ||
      server_side_->causality != model::Causality::kInferred) {
    return delivery_.request_handle;
  }
  const std::uint32_t handle = context_.options.causality->AcquireHandle(context_.options.index);
  if (handle == 0) {
    context_.stats.deliveries_untracked.Add();
  }
  return handle;
}

std::optional<seam::ParentHint> StreamSession::FindParent() {
  if (!opened_ || context_.options.causality == nullptr ||
      client_side_->causality != model::Causality::kInferred) {
    return std::nullopt;
  }
  return context_.options.causality->TakeHint(owner(), *opened_);
}

std::optional<seam::ParentHint> StreamSession::TakeParentHint() noexcept {
  return FindParent();
}

void StreamSession::TellProtocol() {
  if (tells_requests() && flow_.protocol == observe::Protocol::kHttp2) {
    context_.options.causality->MarkStreams(delivery_.request_handle);
  }
}

void StreamSession::OnRequestStart(const observe::ExchangeResult& exchange,
                                   std::size_t open) noexcept {
  if (!tells_requests() || !up_open_) {  // what never reaches the application causes nothing
    return;
  }
  if (open > 1) {
    context_.options.causality->MarkMultiplexed(delivery_.request_handle);
  } else {
    context_.options.causality->BeginRequest(delivery_.request_handle, ContextOf(exchange));
  }
}

void StreamSession::OnAllAnswered(bool broken_off) noexcept {
  if (tells_requests() && up_open_) {
    context_.options.causality->EndRequest(delivery_.request_handle, broken_off);
  }
}

void StreamSession::StopTelling() {
  if (tells_requests()) {
    context_.options.causality->MarkMultiplexed(delivery_.request_handle);
    stopped_telling_ = true;
  }
}

void StreamSession::OnUpstreamTimer() noexcept {
  const auto limit = snapshot_->limits().connect_timeout;
  if (delivery_tries_ == 0 || kDeliveryTryTime * (delivery_tries_ + 1) > limit) {
    OnUpstreamFailed(Reason::kUpstreamTimeout);
    return;
  }
  ++delivery_tries_;
  context_.stats.delivery_retries.Add();
  ++flow_.retries;
  ConnectUpstream(delivery_, kDeliveryTryTime);
}

void StreamSession::OnLegOpen(Leg& leg) noexcept {
  (void)leg;  // only upstream legs are ever connected by us
  up_open_ = true;
  upstream_timer_.Cancel();
  upstream_opened_ = context_.loop.now();
  if (!denied_) {
    flow_.timing.upstream_connect = Elapsed();
  }
  OnUpstreamOpen();
  if (done()) {
    return;
  }
  FlushHeld();
  EndOfClient();
  Balance();
}

void StreamSession::OnLegData(Leg& leg, io::Bytes bytes) noexcept {
  const bool from_client = &leg == down_.get();
  if (phase_ == StreamPhase::kDone || phase_ == StreamPhase::kLingering) {
    leg.Consumed(bytes.size());
    return;
  }
  if (from_client) {
    from_client_.owed += bytes.size();
    OnClientBytes(bytes);
  } else {
    from_server_.owed += bytes.size();
    if (flow_.timing.first_byte.count() < 0) {
      flow_.timing.first_byte = Elapsed();
    }
    if (phase_ == StreamPhase::kDetecting) {
      OnServerSpeaksFirst(bytes);
    } else {
      PassToDownstream(bytes);
    }
  }
  Balance();
}

bool StreamSession::TakesClientBytes() const {
  return up_open_ && (phase_ == StreamPhase::kOpaque ||
                      (phase_ == StreamPhase::kHttp && relay_->wants_downstream()));
}

void StreamSession::FlushHeld() {
  if (!held_.empty() && TakesClientBytes()) {
    const io::ByteBuffer bytes = std::move(held_);
    held_ = io::ByteBuffer();
    PassToUpstream(bytes.Readable());
  }
}

void StreamSession::PassToUpstream(io::Bytes bytes) {
  flow_.bytes_sent += bytes.size();
  context_.stats.bytes_sent.Add(bytes.size());
  if (phase_ == StreamPhase::kOpaque) {
    up_->Write(bytes, {});
    ObserveClient(bytes);
    return;
  }
  Deliver(relay_->OnDownstreamBytes(bytes, {context_.to_upstream, context_.to_downstream}),
          /*from_client=*/true);
  CloseIfUnanswerable();
  if (phase_ == StreamPhase::kHttp) {
    WatchHeaders();
  }
  EndIfDrained();
}

// A relay that waits for an answer before it reads on would wait for ever.
void StreamSession::CloseIfUnanswerable() {
  if (phase_ == StreamPhase::kHttp && from_server_.ended && !relay_->wants_downstream()) {
    CloseAfterAnswer(Reason::kUpstreamReset);
  }
}

void StreamSession::PassToDownstream(io::Bytes bytes) {
  flow_.bytes_received += bytes.size();
  context_.stats.bytes_received.Add(bytes.size());
  if (phase_ == StreamPhase::kOpaque) {
    down_->Write(bytes, {});
    ObserveServer(bytes);
    return;
  }
  Deliver(relay_->OnUpstreamBytes(bytes, {context_.to_upstream, context_.to_downstream}),
          /*from_client=*/false);
  FlushHeld();
  EndOfClient();
  EndIfDrained();
}

void StreamSession::EndIfDrained() {
  if (context_.draining && IdleHttp()) {
    CloseInOrder(Reason::kDraining);
  }
}

void StreamSession::Deliver(const HttpRelay::Result& result, bool from_client) {
  io::ByteBuffer& to_up = context_.to_upstream;
  io::ByteBuffer& to_down = context_.to_downstream;
  const io::Bytes none;
  if (const io::Bytes direct = from_client ? result.direct : none;
      !to_up.empty() || !direct.empty()) {
    up_->Write(to_up.Readable(), direct);
  }
  if (const io::Bytes direct = from_client ? none : result.direct;
      !to_down.empty() || !direct.empty()) {
    down_->Write(to_down.Readable(), direct);
  }
  to_up.Clear();
  to_down.Clear();
  if (done()) {
    return;
  }
  switch (result.action) {
    case HttpRelay::Action::kContinue:
      return;
    case HttpRelay::Action::kOpaque:
      phase_ = StreamPhase::kOpaque;
      switched_ = true;
      StopTelling();
      client_timer_.Cancel();
      return;
    case HttpRelay::Action::kHttp2:
      UpgradeToHttp2(result.rest);
      return;
    case HttpRelay::Action::kClose:
      if (relay_->violation() != http::H2Violation::kNone) {
        context_.stats.h2_violations[static_cast<std::size_t>(relay_->violation())].Add();
        CloseInOrder(result.reason);  // behind a GOAWAY to each
        return;
      }
      CloseAfterAnswer(result.reason);
      return;
    case HttpRelay::Action::kReset:
      Abort(result.reason);
      return;
  }
}

void StreamSession::WatchHeaders() {
  // Left armed when the head is complete: most heads come whole, and the timer asks.
  if (relay_->waiting_for_headers() && !client_timer_.armed()) {
    client_timer_.Arm(snapshot_->limits().request_header_timeout);
  }
}

void StreamSession::CloseAfterAnswer(Reason reason) {
  up_->Reset(reason);
  from_server_.ended = true;  // nothing comes of it any more
  Linger(reason);
}

void StreamSession::CloseInOrder(Reason reason) {
  up_->ShutdownWrite();
  Linger(reason);
}

void StreamSession::Linger(Reason reason) {
  MakeRecords(reason);
  phase_ = StreamPhase::kLingering;
  down_->ShutdownWrite();
  held_.Clear();
  held_.Trim();
  client_timer_.Arm(kLingerTime);
  MaybeEnd();
}

void StreamSession::OnLegEnd(Leg& leg) noexcept {
  if (phase_ == StreamPhase::kDone) {
    return;
  }
  if (database_ != nullptr) {
    database_->OnEnd(/*of_server=*/&leg != down_.get());
  }
  if (&leg == down_.get()) {
    from_client_.ended = true;
    if (phase_ == StreamPhase::kDetecting) {
      Classify(http::DetectMode::kFinal);
    }
    EndOfClient();
  } else {
    from_server_.ended = true;
    EndOfServer();
  }
  if (!done()) {
    Balance();
    MaybeEnd();
  }
}

void StreamSession::EndOfClient() {
  if (!from_client_.ended || client_end_passed_ || !held_.empty() || !TakesClientBytes()) {
    return;
  }
  client_end_passed_ = true;
  if (phase_ == StreamPhase::kHttp) {
    Deliver(relay_->OnDownstreamEnd({context_.to_upstream, context_.to_downstream}),
            /*from_client=*/true);
    if (phase_ == StreamPhase::kDone || phase_ == StreamPhase::kLingering) {
      return;
    }
  }
  up_->ShutdownWrite();
}

void StreamSession::EndOfServer() {
  if (phase_ == StreamPhase::kDetecting) {
    BecomeOpaque();
  }
  if (phase_ == StreamPhase::kHttp) {
    Deliver(relay_->OnUpstreamEnd({context_.to_upstream, context_.to_downstream}),
            /*from_client=*/false);
    if (phase_ == StreamPhase::kDone || phase_ == StreamPhase::kLingering) {
      return;
    }
    FlushHeld();
    EndOfClient();
    CloseIfUnanswerable();
  }
  if (phase_ != StreamPhase::kLingering && !done()) {
    down_->ShutdownWrite();
  }
}

void StreamSession::OnLegFlushed(Leg& leg, std::size_t count) noexcept {
  (void)leg;
  (void)count;  // Balance looks at what is left
  if (!done()) {
    Balance();
    MaybeEnd();
  }
}

void StreamSession::Balance() {
  if (done()) {
    return;
  }
  const std::size_t up_backlog = up_ == nullptr ? 0 : up_->backlog();
  const std::size_t down_backlog = down_->backlog();
  const auto settle = [](Half& half, Leg* leg, std::size_t kept) {
    const std::size_t owed = std::min(half.owed, kept);
    if (half.owed > owed && leg != nullptr) {
      leg->Consumed(half.owed - owed);
    }
    half.owed = owed;
  };
  const auto pause = [](Half& half, Leg* leg, bool paused) {
    if (half.paused != paused && leg != nullptr) {
      half.paused = paused;
      paused ? leg->PauseReading() : leg->ResumeReading();
    }
  };
  const bool lingering = phase_ == StreamPhase::kLingering;
  settle(from_client_, down_.get(), lingering ? 0 : up_backlog + held_.size());
  settle(from_server_, up_.get(), down_backlog + server_held_.size());
  pause(
      from_client_, down_.get(),
      !lingering && (up_backlog > 0 || (phase_ != StreamPhase::kDetecting && !TakesClientBytes())));
  pause(from_server_, up_.get(), down_backlog > 0 || !server_held_.empty());
}

void StreamSession::MaybeEnd() {
  if (!from_client_.ended || down_->backlog() > 0) {
    return;
  }
  if (phase_ == StreamPhase::kLingering) {
    if (from_server_.ended) {
      End(Reason::kNone);
    }
  } else if (client_end_passed_ && from_server_.ended && up_->backlog() == 0) {
    End(Reason::kNone);
  }
}

void StreamSession::OnLegFailed(Leg& leg, Reason reason) noexcept {
  const bool is_upstream = &leg == up_.get();
  if (phase_ == StreamPhase::kDone) {
    return;
  }
  if (is_upstream) {
    if (phase_ == StreamPhase::kLingering) {
      from_server_.ended = true;
      MaybeEnd();
    } else if (up_open_) {
      down_->Reset(reason);
      End(reason);
    } else {
      OnUpstreamFailed(reason);
    }
    return;
  }
  if (up_ != nullptr) {
    up_->Reset(Reason::kDownstreamReset);
  }
  End(ReasonOfDownstream(reason));
}

void StreamSession::Fail(Reason reason) {
  if (done()) {
    return;
  }
  if (up_ != nullptr) {
    up_->Reset(reason);
  }
  RejectDownstream(reason);
  End(reason);
}

void StreamSession::Abort(Reason reason) noexcept {
  if (done()) {
    return;
  }
  if (phase_ == StreamPhase::kLingering && reason == Reason::kDraining) {
    End(reason);  // has been told in order
    return;
  }
  if (up_ != nullptr) {
    up_->Reset(reason);
  }
  down_->Reset(reason);
  End(reason);
}

void StreamSession::OnSnapshot() noexcept {
  if (done() || phase_ == StreamPhase::kLingering || OnAwaitedSnapshot()) {
    return;
  }
  if (denied_) {
    Abort(Reason::kPolicyDenied);  // has no application behind it, whatever it may do now
    return;
  }
  const Reason reason = Contradiction(*context_.snapshot);
  if (reason == Reason::kPolicyDenied || reason == Reason::kPlaintextRefused) {
    NoteLoss();
  }
  if (reason != Reason::kNone) {
    Abort(reason);
  }
}

bool StreamSession::IdleHttp() const {
  return phase_ == StreamPhase::kHttp && up_open_ && relay_->idle() && down_->backlog() == 0;
}

void StreamSession::OnDrain() noexcept {
  bytes_at_drain_ = flow_.bytes_sent + flow_.bytes_received;
  if (phase_ != StreamPhase::kHttp) {
    return;
  }
  relay_->OnDrain({context_.to_upstream, context_.to_downstream});
  Deliver({}, /*from_client=*/false);
  if (IdleHttp()) {
    CloseInOrder(Reason::kDraining);
  }
}

// Opaque bytes do not say where one thing ends and the next begins. A connection that was
// silent both ways all the time is between two; one that is half closed waits for something.
void StreamSession::OnDrainEnd() noexcept {
  if (done() || phase_ == StreamPhase::kLingering) {
    return;
  }
  const bool plain = phase_ == StreamPhase::kOpaque || phase_ == StreamPhase::kDetecting;
  const bool silent = up_open_ && held_.empty() && down_->backlog() + up_->backlog() == 0 &&
                      bytes_at_drain_ == flow_.bytes_sent + flow_.bytes_received;
  const bool whole = !from_client_.ended && !from_server_.ended;
  if (plain && silent && whole) {
    CloseInOrder(Reason::kDraining);
  } else {
    Abort(Reason::kDraining);
  }
}

}  // namespace weir::proxy
