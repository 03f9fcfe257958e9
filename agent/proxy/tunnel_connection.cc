#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "agent/base/check.h"
#include "agent/io/socket.h"
#include "agent/proxy/refusal.h"
#include "agent/proxy/tunnel.h"

namespace weir::proxy {

using observe::Reason;

namespace {

constexpr std::size_t kReadBytes = 256U << 10U;
constexpr int kReadsInTurn = 2;  // then others have their turn
// Less room than this is none: no tiny frames.
constexpr std::size_t kLeastRoomBytes = 4096;

Reason ReasonOfConnectError(int error) {
  switch (error) {
    case ECONNREFUSED:
      return Reason::kUpstreamRefused;
    case ETIMEDOUT:
      return Reason::kUpstreamTimeout;
    default:
      return Reason::kUpstreamUnreachable;
  }
}

}  // namespace

TunnelLimits TunnelLimits::From(const model::Limits& limits) {
  TunnelLimits result;
  result.connect_timeout = limits.connect_timeout;
  result.handshake_timeout = limits.tls_handshake_timeout;
  result.idle_timeout = limits.tunnel_idle_timeout;
  result.ping_interval = limits.tunnel_ping_interval;
  return result;
}

std::span<std::uint8_t> TunnelConnection::Output::Prepare(std::size_t least) {
  return connection_.plaintext_.Prepare(least);
}

void TunnelConnection::Output::Commit(std::size_t count) {
  connection_.plaintext_.Commit(count);
  connection_.ScheduleFlush();
}

std::size_t TunnelConnection::Output::Room() const {
  const std::size_t used = connection_.plaintext_.size() + connection_.ciphertext_.size();
  const std::size_t limit = connection_.limits_.output_limit_bytes;
  return used + kLeastRoomBytes > limit ? 0 : limit - used;
}

TunnelConnection::TunnelConnection(TunnelContext& context, base::UniqueFd fd,
                                   std::shared_ptr<const tls::WorkloadTls> workload,
                                   TunnelOwner& owner)
    : context_(context),
      owner_(owner),
      limits_(context.limits),
      mux_config_(context.limits.mux),
      workload_(std::move(workload)),
      fd_(std::move(fd)),
      output_(*this),
      timer_(context.loop, [this] { OnTimer(); }) {}

std::unique_ptr<TunnelConnection> TunnelConnection::Connect(
    TunnelContext& context, base::UniqueFd fd, std::shared_ptr<const tls::WorkloadTls> workload,
    std::string_view alpn, TunnelOwner& owner) {
  std::unique_ptr<TunnelConnection> made(
      new TunnelConnection(context, std::move(fd), std::move(workload), owner));
  made->mux_config_.role = http::TunnelRole::kClient;
  made->engine_ = tls::Engine::Client(made->workload_, alpn);
  made->Begin(Phase::kConnecting, EPOLLOUT);
  return made;
}

std::unique_ptr<TunnelConnection> TunnelConnection::Accept(
    TunnelContext& context, base::UniqueFd fd, std::shared_ptr<const tls::WorkloadTls> workload,
    io::Bytes received, TunnelOwner& owner) {
  std::unique_ptr<TunnelConnection> made(
      new TunnelConnection(context, std::move(fd), std::move(workload), owner));
  made->mux_config_.role = http::TunnelRole::kServer;
  made->engine_ = tls::Engine::Server(made->workload_);
  io::SetNoDelay(made->fd_.get());
  made->Begin(Phase::kHandshaking, EPOLLIN);
  if (!made->closed() && !received.empty()) {
    made->TakeCiphertext(received);
  }
  return made;
}

TunnelConnection::~TunnelConnection() {
  std::ranges::replace(context_.to_flush, this, nullptr);
  if (!closed()) {
    phase_ = Phase::kClosed;
    ReleaseWaiting(Reason::kDraining, "agent stopping");
    if (mux_ != nullptr) {
      mux_->ConnectionLost();
    }
    DetachAll();
  }
}

void TunnelConnection::Begin(Phase phase, std::uint32_t events) {
  phase_ = phase;
  phase_began_ = last_received_ = last_stream_ = context_.loop.now();
  auto watch = context_.loop.Add(fd_.get(), events, *this);
  if (!watch) {
    Close(Reason::kLimitReached, watch.error().message());
    return;
  }
  watch_ = std::move(*watch);
  timer_.Arm(NextCheck());
}

void TunnelConnection::OnEvents(std::uint32_t events) noexcept {
  if (phase_ == Phase::kConnecting) {
    OnConnected();
    return;
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
    Read();
  }
  if ((events & EPOLLOUT) != 0 && !closed()) {
    ScheduleFlush();
  }
}

void TunnelConnection::OnConnected() {
  const int error = io::TakeSocketError(fd_.get());
  if (error != 0) {
    Close(ReasonOfConnectError(error), "connect to the far agent");
    return;
  }
  io::SetNoDelay(fd_.get());
  phase_ = Phase::kHandshaking;
  phase_began_ = context_.loop.now();
  timer_.Arm(NextCheck());
  if (engine_->Start(ciphertext_) == tls::EngineState::kFailed) {
    Close(Reason::kTlsHandshakeFailed, std::string(engine_->failure_text()));
    return;
  }
  ScheduleFlush();
}

void TunnelConnection::Read() {
  context_.received.resize(kReadBytes);
  for (int i = 0; i < kReadsInTurn && !closed(); ++i) {
    const ssize_t got = ::recv(fd_.get(), context_.received.data(), kReadBytes, 0);
    if (got < 0) {
      if (errno != EAGAIN && errno != EINTR) {
        Close(up() ? Reason::kTunnelClosed : Reason::kTlsHandshakeFailed, "connection reset");
      }
      return;
    }
    if (got == 0) {
      OnTlsEnd();
      return;
    }
    const auto count = static_cast<std::size_t>(got);
    context_.counters.bytes_received.Add(count);
    TakeCiphertext(io::Bytes(context_.received).first(count));
    if (count < kReadBytes) {
      return;
    }
  }
}

void TunnelConnection::TakeCiphertext(io::Bytes bytes) {
  last_received_ = context_.loop.now();
  const tls::EngineState state = engine_->Receive(bytes, context_.decrypted, ciphertext_);
  if (!ciphertext_.empty()) {
    ScheduleFlush();
  }
  if (phase_ == Phase::kHandshaking && state != tls::EngineState::kHandshaking &&
      state != tls::EngineState::kFailed) {
    OnHandshakeDone();
  }
  if (up()) {
    heard_ = heard_ || !context_.decrypted.empty();
    mux_->Receive(context_.decrypted.Readable(), context_.loop.now());
    NoteStreams();
  }
  context_.decrypted.Clear();
  if (!closed() && state == tls::EngineState::kPeerClosed) {
    OnTlsEnd();
  } else if (!closed() && state == tls::EngineState::kFailed) {
    Reason reason = up() ? Reason::kTunnelProtocol : Reason::kTlsHandshakeFailed;
    if (engine_->failure() == tls::TlsFailure::kPeerUntrusted) {
      reason = Reason::kPeerUntrusted;
    } else if (engine_->failure() == tls::TlsFailure::kPeerExpired) {
      reason = Reason::kCertificateExpired;
    } else if (engine_->failure() == tls::TlsFailure::kPeerAlert) {
      // In TLS 1.3 a server refuses the client's certificate after the client is done.
      reason = heard_ ? Reason::kTunnelClosed : Reason::kRefusedByPeer;
    }
    Close(reason, std::string(engine_->failure_text()));
  }
}

void TunnelConnection::OnTlsEnd() {
  if (!up()) {
    Close(Reason::kTlsHandshakeFailed, "closed in the handshake");
  } else if (mux_->stream_count() > 0 || waiting_count_ > 0) {
    Close(Reason::kTunnelClosed, "closed by the far agent");
  } else {
    Close(Reason::kNone, "closed by the far agent");
  }
}

void TunnelConnection::OnHandshakeDone() {
  phase_ = Phase::kUp;
  phase_began_ = last_stream_ = context_.loop.now();
  http::TunnelMuxHandler& handler = *this;  // a private base
  mux_ = std::make_unique<http::TunnelMux>(mux_config_, output_, handler, context_.budget);
  const Reason reason = owner_.OnTunnelUp(*this);
  if (reason != Reason::kNone) {
    if (!is_client()) {
      mux_->Start(context_.loop.now());  // a GOAWAY that says why is nothing without SETTINGS
    }
    Close(reason, "peer not admitted");
    return;
  }
  NoteExpiry();
  (is_client() ? context_.counters.connected : context_.counters.accepted).Add();
  mux_->Start(context_.loop.now());
  timer_.Arm(NextCheck());
  OpenWaiting();
  if (draining_ && !closed()) {
    mux_->Drain(context_.loop.now());
  }
}

bool TunnelConnection::usable() const {
  return !closed() && !draining_ &&
         (mux_ == nullptr || !(mux_->closed() || mux_->should_retire() || expired()));
}

bool TunnelConnection::CanOpen() const {
  return up() && usable() && waiting_count_ == 0 && mux_->CanOpen();
}

bool TunnelConnection::window_bound() const {
  return mux_ != nullptr && mux_->window_bound();
}

std::size_t TunnelConnection::stream_count() const {
  return mux_ == nullptr ? 0 : mux_->stream_count();
}

bool TunnelConnection::Open(TunnelStream& stream) {
  if (!usable()) {
    return false;
  }
  stream.opening_side_ = true;
  Attach(stream);
  if (!up() || waiting_count_ > 0 || !OpenNow(stream)) {
    Enlist(stream);
  }
  return true;
}

bool TunnelConnection::OpenNow(TunnelStream& stream) {
  std::vector<http::H2Field> fields;
  fields.reserve(stream.request_->headers.size());
  for (const auto& [name, value] : stream.request_->headers) {
    fields.push_back({.name = name, .value = value});
  }
  const auto id = mux_->OpenStream(stream.request_->authority, fields, stream);
  if (!id) {
    return false;
  }
  context_.counters.streams_opened.Add();
  stream.id_ = *id;
  stream.opened_at_ = context_.loop.now();
  if (stream.end_wanted_) {
    stream.EndWrite();
  }
  return true;
}

void TunnelConnection::Enlist(TunnelStream& stream) {
  stream.waits_ = true;
  stream.previous_waiting_ = last_waiting_;
  (last_waiting_ != nullptr ? last_waiting_->next_waiting_ : first_waiting_) = &stream;
  last_waiting_ = &stream;
  ++waiting_count_;
}

void TunnelConnection::Delist(TunnelStream& stream) {
  TunnelStream* const next = std::exchange(stream.next_waiting_, nullptr);
  TunnelStream* const previous = std::exchange(stream.previous_waiting_, nullptr);
  (previous != nullptr ? previous->next_waiting_ : first_waiting_) = next;
  (next != nullptr ? next->previous_waiting_ : last_waiting_) = previous;
  stream.waits_ = false;
  --waiting_count_;
}

void TunnelConnection::OpenWaiting() {
  // Handlers may add and remove others: the first is asked for each time.
  while (first_waiting_ != nullptr && !closed() && OpenNow(*first_waiting_)) {
    TunnelStream& stream = *first_waiting_;
    Delist(stream);
    stream.handler_->OnWritable();
  }
}

void TunnelConnection::ReleaseWaiting(Reason reason, std::string_view detail) {
  // A tunnel that merely ended says nothing against another one.
  const bool movable = reason == Reason::kTunnelClosed || reason == Reason::kNone;
  while (first_waiting_ != nullptr) {
    TunnelStream& stream = *first_waiting_;
    Delist(stream);
    stream.Detach();
    if (!movable || !owner_.OnStreamUnserved(*this, stream)) {
      stream.Fail(reason == Reason::kNone ? Reason::kTunnelClosed : reason, 0, detail);
    }
  }
}

void TunnelConnection::Attach(TunnelStream& stream) {
  stream.connection_ = this;
  stream.next_ = streams_;
  stream.previous_ = nullptr;
  if (streams_ != nullptr) {
    streams_->previous_ = &stream;
  }
  streams_ = &stream;
}

void TunnelConnection::DetachAll() {
  // Only streams that have ended in order are left: their bytes may still be on the way to
  // the application, but nothing comes of the tunnel any more.
  while (streams_ != nullptr) {
    streams_->Detach();
  }
}

http::TunnelStreamHandler* TunnelConnection::OnStreamOpened(
    http::TunnelStreamId id, const http::TunnelRequest& request) noexcept {
  if (expired()) {
    return nullptr;  // the timer has not seen the step of the clock yet
  }
  std::unique_ptr<TunnelStream> stream(new TunnelStream());
  TunnelStream* const kept = stream.get();
  Attach(*kept);
  kept->id_ = id;
  owner_.OnTunnelStream(*this, std::move(stream), request);
  return kept;
}

void TunnelConnection::OnStreamSlot() noexcept {
  slot_offered_ = true;
  ScheduleFlush();
}

void TunnelConnection::OnGoAway(const http::TunnelGoAway& goaway) noexcept {
  if (is_client() && ReasonOfRefusal(/*status=*/0, goaway.debug) == Reason::kRefusedByPeer) {
    Close(Reason::kRefusedByPeer, "the far agent does not admit this workload");
    return;
  }
  draining_ = true;
  ScheduleFlush();
}

void TunnelConnection::OnConnectionError(http::H2Error /*code*/,
                                         http::TunnelViolation violation) noexcept {
  context_.counters.violations[static_cast<std::size_t>(violation)].Add();
  Close(Reason::kTunnelProtocol, http::ToString(violation));
}

Reason TunnelConnection::ReasonFor(Reason reason) const {
  const bool closing = reason == Reason::kTunnelClosed && close_reason_ != Reason::kNone;
  return closing ? close_reason_ : reason;
}

void TunnelConnection::ScheduleFlush() {
  if (flush_scheduled_) {
    return;
  }
  flush_scheduled_ = true;
  if (context_.to_flush.empty()) {
    context_.loop.AtEndOfTurn([context = &context_] { FlushAll(*context); });
  }
  context_.to_flush.push_back(this);
}

void TunnelConnection::FlushAll(TunnelContext& context) {
  // Flushing may schedule others, and destroy none: the list may grow at its end.
  for (std::size_t i = 0; i < context.to_flush.size(); ++i) {
    if (TunnelConnection* const connection = context.to_flush[i]) {
      connection->flush_scheduled_ = false;
      connection->Flush();
    }
  }
  context.to_flush.clear();
}

void TunnelConnection::Flush() {
  if (closed()) {
    return;
  }
  if (std::exchange(slot_offered_, false) && up()) {
    OpenWaiting();
  }
  if (draining_ && up()) {
    ReleaseWaiting(Reason::kNone, "the tunnel takes no more streams");
  }
  SealAndSend();
  if (closed()) {
    return;
  }
  if (ciphertext_.size() > limits_.output_limit_bytes + limits_.unsent_excess_bytes) {
    context_.counters.violations[static_cast<std::size_t>(http::TunnelViolation::kReplyBacklog)]
        .Add();
    Close(Reason::kTunnelProtocol, http::ToString(http::TunnelViolation::kReplyBacklog));
    return;
  }
  if (up() && ciphertext_.size() <= limits_.output_limit_bytes / 2) {
    mux_->OnOutputDrained(context_.loop.now());
    // What that brought goes now; what it brings after that, in the next turn.
    SealAndSend();
  }
  if (closed()) {
    return;
  }
  NoteStreams();
  if (up() && mux_->drained() && waiting_count_ == 0) {
    Close(Reason::kNone, "drained");
    return;
  }
  UpdateWatch();
}

void TunnelConnection::SealAndSend() {
  if (ciphertext_.empty()) {
    last_taken_ = context_.loop.now();
  }
  if (!plaintext_.empty()) {
    const io::Bytes frames = plaintext_.Readable();
    if (engine_->Send(frames, ciphertext_) == tls::EngineState::kFailed) {
      Close(Reason::kTunnelProtocol, std::string(engine_->failure_text()));
      return;
    }
    plaintext_.Clear();
  }
  while (!ciphertext_.empty()) {
    const io::Bytes bytes = ciphertext_.Readable();
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN && errno != EINTR && !closed()) {
        Close(up() ? Reason::kTunnelClosed : Reason::kTlsHandshakeFailed, "connection reset");
      }
      return;
    }
    last_taken_ = context_.loop.now();
    context_.counters.bytes_sent.Add(static_cast<std::uint64_t>(sent));
    ciphertext_.Consume(static_cast<std::size_t>(sent));
  }
}

void TunnelConnection::UpdateWatch() {
  // Writers that wait for room get it when the socket takes more, which may be at once.
  const bool more =
      !ciphertext_.empty() || !plaintext_.empty() || (mux_ != nullptr && mux_->room_wanted());
  watch_.Modify(more ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void TunnelConnection::Drain() {
  if (closed() || draining_) {
    return;
  }
  draining_ = true;
  if (up()) {
    mux_->Drain(context_.loop.now());
  } else if (waiting_count_ == 0) {
    Close(Reason::kNone, "drained");
  }
}

void TunnelConnection::Close(Reason reason, std::string_view detail) {
  if (closed()) {
    return;
  }
  // The text may belong to something that goes with this.
  const std::string kept(detail);
  const bool was_up = up();
  phase_ = Phase::kClosed;
  close_reason_ = reason;
  context_.counters.closed[static_cast<std::size_t>(reason)].Add();
  if (was_up && !mux_->closed()) {
    mux_->Close(http::H2Error::kNoError, observe::ToString(reason));
  }
  ReleaseWaiting(reason, kept);
  DetachAll();
  if (was_up) {
    (void)engine_->Send(plaintext_.Readable(), ciphertext_);  // a failed engine takes none
    engine_->Close(ciphertext_);
  }
  plaintext_.Clear();
  SealAndSend();
  plaintext_.Trim();
  ciphertext_.Clear();
  ciphertext_.Trim();
  watch_.Reset();
  timer_.Cancel();
  fd_.Reset();
  owner_.OnTunnelClosed(*this, reason, kept);
}

}  // namespace weir::proxy
