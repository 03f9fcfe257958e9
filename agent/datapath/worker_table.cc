#include "agent/datapath/worker_table.h"

#include <sys/socket.h>

#include <algorithm>

namespace weir::datapath {
namespace {

// Below are the ports that services use most.
constexpr std::uint16_t kLowestLegPort = 10240;
constexpr std::uint16_t kHighestPort = 65535;
constexpr unsigned kAttemptsInPreferred = 12;

unsigned SizeOf(const PortRange& range) {
  return range.low > range.high ? 0U : range.high - range.low + 1U;
}

constexpr PortRange kNoPorts = {.low = 1, .high = 0};

}  // namespace

LegPorts LegPortsOutside(const PortRange& local_range) {
  PortRange above = kNoPorts;
  PortRange below = kNoPorts;
  if (local_range.high < kHighestPort) {
    above = {.low = std::max<std::uint16_t>(static_cast<std::uint16_t>(local_range.high + 1),
                                            kLowestLegPort),
             .high = kHighestPort};
  }
  if (local_range.low > kLowestLegPort) {
    below = {.low = kLowestLegPort, .high = static_cast<std::uint16_t>(local_range.low - 1)};
  }
  LegPorts ports{.preferred = above, .other = below};
  // High ports are the least used, unless they are few.
  constexpr unsigned kEnough = 2000;
  if (SizeOf(above) < kEnough && SizeOf(below) > SizeOf(above)) {
    std::swap(ports.preferred, ports.other);
  }
  if (SizeOf(ports.preferred) == 0) {
    ports.preferred = {.low = kLowestLegPort, .high = kHighestPort};
  }
  return ports;
}

std::uint16_t PickLegPort(const LegPorts& ports, std::uint32_t turn, unsigned attempt) {
  const bool other = attempt >= kAttemptsInPreferred && SizeOf(ports.other) > 0;
  const PortRange& range = other ? ports.other : ports.preferred;
  return static_cast<std::uint16_t>(range.low + turn % SizeOf(range));
}

std::mutex& WorkerTable::OwnMutex() const {
  static std::atomic<std::size_t> next_thread{0};
  thread_local const std::size_t shard = next_thread++ % kShards;
  return shards_[shard].mutex;
}

template <typename Change>
void WorkerTable::WithAllLocked(Change change) {
  for (auto& shard : shards_) {
    shard.mutex.lock();
  }
  change();
  for (auto& shard : shards_) {
    shard.mutex.unlock();
  }
}

void WorkerTable::Set(model::LocalId id, const Entry& entry) {
  WithAllLocked([&] { entries_[static_cast<std::uint32_t>(id)] = entry; });
}

void WorkerTable::Remove(model::LocalId id) {
  WithAllLocked([&] { entries_.erase(static_cast<std::uint32_t>(id)); });
}

std::optional<WorkerTable::Entry> WorkerTable::Find(model::LocalId id) const {
  const std::lock_guard guard(OwnMutex());
  const auto found = entries_.find(static_cast<std::uint32_t>(id));
  return found == entries_.end() ? std::nullopt : std::optional(found->second);
}

base::Result<WorkerTable::MadeSocket> WorkerTable::MakeSocket(model::LocalId id, int family) const {
  // Held while the descriptor is in use: Remove() is followed by its close.
  const std::lock_guard guard(OwnMutex());
  const auto found = entries_.find(static_cast<std::uint32_t>(id));
  if (found == entries_.end()) {
    return base::MakeError(base::ErrorCode::kNotFound, "the workload is not enrolled any more");
  }
  const Entry& entry = found->second;
  const auto open = [&] {
    return base::UniqueFd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  };
  MadeSocket made;
  made.ports = entry.ports;
  if (entry.netns_fd < 0) {
    made.fd = open();
  } else {
    auto inside = InNetns::Enter(entry.netns_fd, home_fd_);
    if (!inside) {
      return std::unexpected(inside.error());
    }
    made.fd = open();
  }
  if (!made.fd.valid()) {
    return base::SystemError("create a socket in a workload's namespace");
  }
  return made;
}

}  // namespace weir::datapath
