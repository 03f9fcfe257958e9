#include "agent/proxy/tunnel_pool.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/base/check.h"

namespace weir::proxy {

using observe::Reason;

namespace {

constexpr std::uint16_t kHboneTunnelPort = 15008;
// A stream that the peer never saw is tried this often before it is refused.
constexpr std::uint8_t kMaxAttempts = 3;
// So many may wait for a tunnel that is being set up before another one is begun.
constexpr std::size_t kWaitingPerTunnel = 100;
// And for all together: beyond, streams are refused.
constexpr std::size_t kMaxWaitingPerTunnel = 16384;

std::string_view AlpnOf(model::TunnelPort port) {
  return port == model::TunnelPort::kHbone15008 ? "h2" : "weir/1";
}

base::Endpoint TunnelEndpoint(const TunnelKey& key) {
  base::Endpoint endpoint = key.destination;
  if (key.port == model::TunnelPort::kHbone15008) {
    endpoint.port = kHboneTunnelPort;
  }
  return endpoint;
}

Reason ReasonOfError(const base::Error& error) {
  if (error.code() == base::ErrorCode::kNotFound) {
    return Reason::kNamespaceGone;
  }
  return error.sys_errno() == ECONNREFUSED ? Reason::kUpstreamRefused
                                           : Reason::kUpstreamUnreachable;
}

}  // namespace

TunnelPool::TunnelPool(TunnelContext& context, seam::SocketFactory& sockets,
                       TunnelEnvironment& environment, std::uint32_t worker_index)
    : context_(context),
      sockets_(sockets),
      environment_(environment),
      worker_index_(worker_index),
      self_(std::make_shared<TunnelPool*>(this)) {}

TunnelPool::~TunnelPool() {
  *self_ = nullptr;
  for (const Refusal& refusal : refusals_) {
    if (refusal.stream != nullptr) {
      refusal.stream->refused_by_ = nullptr;
    }
  }
}

std::unique_ptr<TunnelStream> TunnelPool::Open(const TunnelKey& key, TunnelStream::Request request,
                                               TunnelStreamHandler& handler) {
  auto stream = std::make_unique<TunnelStream>(handler);
  stream->request_ = std::make_unique<TunnelStream::Request>(std::move(request));
  Place(key, *stream);
  return stream;
}

void TunnelPool::Place(const TunnelKey& key, TunnelStream& stream) {
  ++stream.attempts_;
  std::shared_ptr<const tls::WorkloadTls> workload = environment_.TlsOf(key.source);
  if (workload == nullptr) {
    RefuseLater(stream, Reason::kNoIdentity, "the source has no valid SVID");
    return;
  }
  Retire(key, *workload);
  TunnelConnection* tunnel = Choose(key);
  if (tunnel == nullptr) {
    base::Result<base::UniqueFd> fd = sockets_.Connect({.from = key.source,
                                                        .destination = TunnelEndpoint(key),
                                                        .transparent_source = std::nullopt,
                                                        .kind = seam::LegKind::kTunnel,
                                                        .worker = worker_index_});
    if (!fd) {
      RefuseLater(stream, ReasonOfError(fd.error()), fd.error().message());
      return;
    }
    auto made = TunnelConnection::Connect(context_, std::move(*fd), std::move(workload),
                                          AlpnOf(key.port), *this);
    if (made->closed()) {
      RefuseLater(stream, Reason::kLimitReached, "the tunnel could not be begun");
      return;
    }
    tunnel = made.get();
    keys_.emplace(tunnel, key);
    context_.counters.open_client.Add();
    tunnels_[key].push_back(std::move(made));
  }
  if (tunnel->waiting_count() >= kMaxWaitingPerTunnel) {
    RefuseLater(stream, Reason::kLimitReached, "too many streams wait for the tunnel");
  } else {
    const bool taken = tunnel->Open(stream);
    WEIR_CHECK(taken);  // Choose and Connect give usable ones
  }
}

void TunnelPool::Retire(const TunnelKey& key, const tls::WorkloadTls& current) {
  const auto found = tunnels_.find(key);
  if (found == tunnels_.end()) {
    return;
  }
  // By index: draining may close one, which takes it out of the list.
  for (std::size_t i = found->second.size(); i > 0; --i) {
    TunnelConnection& tunnel = *found->second[i - 1];
    const bool other_peer =
        tunnel.up() && environment_.CheckPeer(key, tunnel.peer()) != Reason::kNone;
    if (tunnel.workload().get() != &current || other_peer || !tunnel.usable()) {
      tunnel.Drain();
    }
  }
}

TunnelConnection* TunnelPool::Choose(const TunnelKey& key) {
  const auto found = tunnels_.find(key);
  if (found == tunnels_.end()) {
    return nullptr;
  }
  TunnelConnection* fallback = nullptr;
  std::size_t usable = 0;
  for (const auto& tunnel : found->second) {
    if (!tunnel->usable()) {
      continue;
    }
    ++usable;
    const bool ready = tunnel->CanOpen() && !tunnel->window_bound();
    const bool coming = !tunnel->up() && tunnel->waiting_count() < kWaitingPerTunnel;
    if (ready || coming) {
      return tunnel.get();
    }
    if (fallback == nullptr || tunnel->waiting_count() < fallback->waiting_count() ||
        (tunnel->CanOpen() && !fallback->CanOpen())) {
      fallback = tunnel.get();
    }
  }
  return usable < kMaxTunnelsPerKey ? nullptr : fallback;
}

void TunnelPool::RefuseLater(TunnelStream& stream, Reason reason, std::string detail) {
  stream.refused_by_ = this;
  refusals_.push_back({.stream = &stream, .reason = reason, .detail = std::move(detail)});
  ScheduleCollect();
}

void TunnelPool::Withdraw(TunnelStream& stream) {
  const auto found = std::ranges::find(refusals_, &stream, &Refusal::stream);
  if (found != refusals_.end()) {
    found->stream = nullptr;
  }
  stream.refused_by_ = nullptr;
}

void TunnelPool::ScheduleCollect() {
  if (!collect_scheduled_) {
    collect_scheduled_ = true;
    context_.loop.AtEndOfTurn([self = self_] {
      if (*self != nullptr) {
        (*self)->Collect();
      }
    });
  }
}

void TunnelPool::Collect() {
  collect_scheduled_ = false;
  // Handlers may add refusals and take theirs back; neither moves an entry out of turn.
  for (std::size_t i = 0; i < refusals_.size(); ++i) {
    TunnelStream* const stream = std::exchange(refusals_[i].stream, nullptr);
    if (stream != nullptr) {
      const std::string detail = std::move(refusals_[i].detail);
      stream->refused_by_ = nullptr;
      stream->Fail(refusals_[i].reason, 0, detail);
    }
  }
  refusals_.clear();
  closed_.clear();
  std::erase_if(tunnels_, [](const auto& entry) { return entry.second.empty(); });
}

void TunnelPool::CloseSource(model::LocalId source) {
  for (TunnelConnection* const tunnel :
       Select([source](const TunnelKey& key) { return key.source == source; })) {
    tunnel->Close(Reason::kNamespaceGone, "the workload is gone");
  }
}

void TunnelPool::Drain() {
  for (TunnelConnection* const tunnel : Select([](const TunnelKey&) { return true; })) {
    tunnel->Drain();
  }
}

template <typename Predicate>
std::vector<TunnelConnection*> TunnelPool::Select(Predicate wanted) const {
  std::vector<TunnelConnection*> selected;
  for (const auto& [key, tunnels] : tunnels_) {
    if (wanted(key)) {
      std::ranges::transform(tunnels, std::back_inserter(selected),
                             &std::unique_ptr<TunnelConnection>::get);
    }
  }
  return selected;
}

std::size_t TunnelPool::size() const {
  return keys_.size();
}

Reason TunnelPool::OnTunnelUp(TunnelConnection& connection) noexcept {
  const auto found = keys_.find(&connection);
  WEIR_CHECK(found != keys_.end());
  return environment_.CheckPeer(found->second, connection.peer());
}

void TunnelPool::OnTunnelStream(TunnelConnection& /*connection*/,
                                std::unique_ptr<TunnelStream> /*stream*/,
                                const http::TunnelRequest& /*request*/) noexcept {
  WEIR_CHECK(false);  // a client's multiplexer lets no stream of the peer through
}

bool TunnelPool::OnStreamUnserved(TunnelConnection& connection, TunnelStream& stream) noexcept {
  const auto found = keys_.find(&connection);
  if (found == keys_.end() || stream.request_ == nullptr || stream.attempts_ >= kMaxAttempts) {
    return false;
  }
  Place(TunnelKey(found->second), stream);
  return true;
}

void TunnelPool::OnTunnelClosed(TunnelConnection& connection, Reason /*reason*/,
                                std::string_view /*detail*/) noexcept {
  const auto found = keys_.find(&connection);
  if (found == keys_.end()) {
    return;  // failed before Connect gave it to us
  }
  Tunnels& tunnels = tunnels_[found->second];
  const auto place =
      std::ranges::find(tunnels, &connection, &std::unique_ptr<TunnelConnection>::get);
  closed_.push_back(std::move(*place));
  tunnels.erase(place);
  keys_.erase(found);
  context_.counters.open_client.Sub();
  ScheduleCollect();
}

}  // namespace weir::proxy
