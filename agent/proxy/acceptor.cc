#include "agent/proxy/acceptor.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/io/socket.h"
#include "agent/proxy/inbound.h"
#include "agent/proxy/outbound.h"
#include "agent/proxy/socket_leg.h"
#include "agent/proxy/worker.h"

namespace weir::proxy {
namespace {

using observe::Reason;

base::UniqueFd OpenReserve() {
  return base::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

struct Accepted {
  base::UniqueFd fd;
  base::ConnectionTuple tuple;
};

// Empty with errno set if there is nothing (EAGAIN) or no way to take it.
Accepted AcceptOne(const seam::Listener& listener) {
  base::RawSocketAddress remote;
  remote.length = sizeof(remote.storage);
  Accepted accepted;
  accepted.fd = base::UniqueFd(
      ::accept4(listener.fd.get(), remote.get(), &remote.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!accepted.fd.valid()) {
    return accepted;
  }
  const auto from = base::FromSockaddr(remote.get(), remote.length);
  // The hooks lead applications to the listener's own address, and nobody else comes there.
  const auto local = listener.kind == seam::ListenerKind::kOutbound
                         ? base::Result<base::Endpoint>(listener.bound)
                         : base::LocalEndpoint(accepted.fd.get());
  if (from && local) {
    accepted.tuple = {.local = *local, .remote = *from};
  }
  return accepted;
}

}  // namespace

struct Acceptor::Entry final : io::EventHandler {
  Entry(Acceptor& used_acceptor, seam::Listener used_listener)
      : acceptor(used_acceptor), listener(std::move(used_listener)) {}
  void OnEvents(std::uint32_t events) noexcept override {
    (void)events;
    acceptor.OnReady(*this);
  }
  Acceptor& acceptor;
  seam::Listener listener;
  io::Watch watch;  // before the descriptor goes
};

Acceptor::Acceptor(WorkerContext& context)
    : context_(context), reserve_(OpenReserve()), pause_(context.loop, [this] { Resume(); }) {}

Acceptor::~Acceptor() {
  RemoveAll();
}

void Acceptor::Add(std::vector<seam::Listener> listeners) {
  for (seam::Listener& listener : listeners) {
    // Accepted sockets inherit what a leg must have: set once instead of per connection.
    SetLegOptions(listener.fd.get());
    auto entry = std::make_unique<Entry>(*this, std::move(listener));
    auto watch = context_.loop.Add(entry->listener.fd.get(), EPOLLIN, *entry);
    if (!watch) {
      context_.stats.Count(Reason::kInternal);
      continue;
    }
    entry->watch = std::move(*watch);
    entries_.push_back(std::move(entry));
  }
}

void Acceptor::Remove(model::LocalId owner) {
  std::erase_if(entries_, [&](const std::unique_ptr<Entry>& entry) {
    if (entry->listener.owner != owner) {
      return false;
    }
    entry->watch.Reset();
    return true;
  });
}

void Acceptor::RemoveAll() {
  for (const auto& entry : entries_) {
    entry->watch.Reset();
  }
  entries_.clear();
}

void Acceptor::OnReady(Entry& entry) {
  for (std::size_t i = 0; i < kAcceptsPerTurn; ++i) {
    Accepted accepted = AcceptOne(entry.listener);
    if (accepted.fd.valid()) {
      Take(entry, std::move(accepted.fd), accepted.tuple);
      continue;
    }
    if (errno == ECONNABORTED || errno == EINTR) {
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      OutOfDescriptors(entry);
    }
    return;
  }
}

bool Acceptor::OutOfDescriptors(Entry& entry) {
  context_.stats.accept_pauses.Add();
  reserve_.Reset();
  Accepted accepted = AcceptOne(entry.listener);
  const bool turned_away = accepted.fd.valid();
  if (turned_away) {
    if (entry.listener.kind == seam::ListenerKind::kOutbound) {
      // The record must go, or it would wait for another connection of this tuple.
      (void)context_.options.redirections.TakeOriginalDestination(entry.listener, accepted.tuple);
    }
    Reject(std::move(accepted.fd), Reason::kLimitReached);
  }
  reserve_ = OpenReserve();
  for (const auto& each : entries_) {
    each->watch.Modify(0);
  }
  pause_.Arm(kPause);
  return turned_away;
}

void Acceptor::Resume() {
  if (!reserve_.valid()) {
    reserve_ = OpenReserve();
  }
  for (const auto& each : entries_) {
    each->watch.Modify(EPOLLIN);
  }
}

void Acceptor::Take(Entry& entry, base::UniqueFd fd, const base::ConnectionTuple& tuple) {
  if (entry.listener.kind == seam::ListenerKind::kOutbound) {
    context_.stats.accepted_outbound.Add();
    TakeOutbound(entry, std::move(fd), tuple);
  } else {
    context_.stats.accepted_inbound.Add();
    TakeInbound(entry, std::move(fd), tuple);
  }
}

void Acceptor::TakeOutbound(Entry& entry, base::UniqueFd fd, const base::ConnectionTuple& tuple) {
  const auto original =
      context_.options.redirections.TakeOriginalDestination(entry.listener, tuple);
  if (!original || original->destination == entry.listener.bound) {
    Reject(std::move(fd), Reason::kNoOriginalDestination);
    return;
  }
  if (original->destination == seam::kProbeDestination) {
    AnswerProbe(std::move(fd));
    return;
  }
  auto session = std::make_unique<OutboundSession>(context_, *original, tuple, std::move(fd));
  OutboundSession& started = *session;
  context_.sessions.Insert(std::move(session));
  started.Start();
}

void Acceptor::TakeInbound(Entry& entry, base::UniqueFd fd, const base::ConnectionTuple& tuple) {
  if (tuple.local == entry.listener.bound) {
    Reject(std::move(fd), Reason::kNoOriginalDestination);
    return;
  }
  if (TakeWitness(tuple)) {
    return;
  }
  const model::LocalId owner =
      entry.listener.owner != model::LocalId::kNone
          ? entry.listener.owner
          : context_.options.redirections.InboundOwner(entry.listener, tuple.local);
  auto destination = context_.snapshot->Shared(context_.snapshot->FindLocal(owner));
  if (destination == nullptr) {
    Reject(std::move(fd), Reason::kNamespaceGone);
    return;
  }
  auto session = std::make_unique<InboundPeek>(
      context_, InboundConnection{
                    .fd = std::move(fd), .tuple = tuple, .destination = std::move(destination)});
  InboundPeek& started = *session;
  context_.sessions.Insert(std::move(session));
  started.Start();
}

bool Acceptor::TakeWitness(const base::ConnectionTuple& tuple) {
  const model::Snapshot& snapshot = *context_.snapshot;
  if (!snapshot.KnowsAddress(tuple.remote.address)) {
    return false;
  }
  // Several workloads of a VM share its address, so each that has it is asked for.
  for (const auto& local : snapshot.locals()) {
    if (std::ranges::find(local->workload->addresses, tuple.remote.address) ==
        local->workload->addresses.end()) {
      continue;
    }
    const auto leg = context_.options.redirections.FindOwnLeg(local->id, tuple);
    if (leg && leg->kind == seam::LegKind::kWitness) {
      context_.options.post_to_worker(leg->worker, WitnessArrived{.accepted = tuple});
      return true;
    }
  }
  return false;
}

void Acceptor::Reject(base::UniqueFd fd, Reason reason) {
  context_.stats.Count(reason);
  io::ResetOnClose(fd.get());
}

void Acceptor::AnswerProbe(base::UniqueFd fd) {
  context_.stats.probes.Add();
  // Fits any send buffer; a prober that is gone does not mind.
  (void)::send(fd.get(), seam::kProbeAnswer, sizeof(seam::kProbeAnswer) - 1, MSG_NOSIGNAL);
}

}  // namespace weir::proxy
