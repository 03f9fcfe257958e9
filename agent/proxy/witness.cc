#include "agent/proxy/witness.h"

#include <cerrno>
#include <utility>

#include "agent/io/socket.h"

namespace weir::proxy {

// What is known of a pair, and the connection in flight. The receiving hook's word counts,
// not the handshake's: whoever completes that may be anybody.
struct WitnessCache::Entry final : io::EventHandler {
  Entry(WitnessCache& used_cache, io::EventLoop& loop)
      : cache(used_cache), timer(loop, [this] { cache.Conclude(*this, /*alive=*/false); }) {}

  // A connection that was made says nothing yet, also when the receiving worker has closed
  // it since: its message is on the way. One that could not be made ends the wait.
  void OnEvents(std::uint32_t events) noexcept override {
    watch.Reset();
    const int error = (events & EPOLLERR) != 0U ? io::TakeSocketError(fd.get()) : 0;
    if (error != 0 && error != ECONNRESET) {
      cache.Conclude(*this, /*alive=*/false);
    }
  }

  WitnessCache& cache;
  io::Timer timer;
  base::UniqueFd fd;
  io::Watch watch;
  base::Endpoint local;  // of the connection in flight
  base::MonotonicTime seen{};
  bool alive = false;
  std::vector<SessionId> waiters;
};

WitnessCache::WitnessCache(const WorkerOptions& options, io::EventLoop& loop, WorkerStats& stats,
                           SessionTable& sessions)
    : options_(options), loop_(loop), stats_(stats), sessions_(sessions) {}

WitnessCache::~WitnessCache() = default;

WitnessCache::Answer WitnessCache::Require(model::LocalId source, const base::Endpoint& destination,
                                           SessionId waiter) {
  const Key key{.source = source, .destination = destination};
  auto found = entries_.find(key);
  if (found == entries_.end()) {
    MakeRoom();
    found = entries_.emplace(key, std::make_unique<Entry>(*this, loop_)).first;
  }
  Entry& entry = *found->second;
  if (entry.alive && loop_.now() - entry.seen < kLifetime) {
    return Answer::kAlive;
  }
  entry.alive = false;
  if (!entry.fd.valid() && !Send(key, entry)) {
    return Answer::kRefused;
  }
  entry.waiters.push_back(waiter);
  return Answer::kPending;
}

bool WitnessCache::Send(const Key& key, Entry& entry) {
  auto fd = options_.sockets.Connect({.from = key.source,
                                      .destination = key.destination,
                                      .transparent_source = std::nullopt,
                                      .kind = seam::LegKind::kWitness,
                                      .worker = options_.index});
  if (!fd) {
    return false;
  }
  const auto local = base::LocalEndpoint(fd->get());
  auto watch = loop_.Add(fd->get(), EPOLLOUT, entry);
  if (!local || !watch) {
    return false;
  }
  entry.local = *local;
  entry.fd = std::move(*fd);
  entry.watch = std::move(*watch);
  entry.timer.Arm(kTimeout);
  stats_.witnesses.Add();
  return true;
}

void WitnessCache::Arrived(const base::ConnectionTuple& accepted) {
  for (const auto& [key, entry] : entries_) {
    if (entry->fd.valid() && entry->local == accepted.remote && key.destination == accepted.local) {
      Conclude(*entry, /*alive=*/true);
      return;
    }
  }
}

void WitnessCache::Conclude(Entry& entry, bool alive) {
  entry.timer.Cancel();
  entry.watch.Reset();
  entry.fd.Reset();
  entry.alive = alive;
  entry.seen = loop_.now();
  for (const SessionId id : std::exchange(entry.waiters, {})) {
    if (Session* session = sessions_.Find(id)) {
      session->OnWitness(alive);
    }
  }
}

void WitnessCache::MakeRoom() {
  if (entries_.size() < kLimit) {
    return;
  }
  std::erase_if(entries_, [](const auto& item) { return !item.second->fd.valid(); });
}

void WitnessCache::Forget(model::LocalId gone) {
  std::erase_if(entries_, [&](const auto& item) { return item.first.source == gone; });
  for (const auto& [key, entry] : entries_) {
    entry->alive = false;
  }
}

}  // namespace weir::proxy
