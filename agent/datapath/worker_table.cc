#include "agent/datapath/worker_table.h"

#include <sys/socket.h>

#include <algorithm>

namespace weir::datapath {
namespace {

// Below are the ports that services use most.
constexpr std::uint16_t kLowestLegPort = 10240;
constexpr std::uint16_t kHighestPort = 65535;
constexpr unsigned kAttemptsInPreferred = 4;

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

WorkerTable::Shard& WorkerTable::OwnShard() const {
  static std::atomic<std::size_t> next_thread{0};
  thread_local const std::size_t shard = next_thread++ % kShards;
  return shards_[shard];
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

void WorkerTable::DropReserves(Shard& shard, std::optional<std::uint32_t> id) {
  std::erase_if(shard.reserves, [&](const auto& item) {
    const bool dropped = !id || item.first.first == *id;
    shard.reserved -= dropped ? item.second.sockets.size() : 0;
    return dropped;
  });
}

void WorkerTable::Set(model::LocalId id, const Entry& entry) {
  const auto number = static_cast<std::uint32_t>(id);
  WithAllLocked([&] {
    std::ranges::for_each(shards_, [&](Shard& shard) { DropReserves(shard, number); });
    entries_[number] = entry;
  });
}

void WorkerTable::Remove(model::LocalId id) {
  const auto number = static_cast<std::uint32_t>(id);
  WithAllLocked([&] {
    std::ranges::for_each(shards_, [&](Shard& shard) { DropReserves(shard, number); });
    entries_.erase(number);
  });
}

std::optional<WorkerTable::Entry> WorkerTable::Find(model::LocalId id) const {
  const std::lock_guard guard(OwnShard().mutex);
  const auto found = entries_.find(static_cast<std::uint32_t>(id));
  return found == entries_.end() ? std::nullopt : std::optional(found->second);
}

std::size_t WorkerTable::reserved() const {
  std::size_t count = 0;
  for (auto& shard : shards_) {
    const std::lock_guard guard(shard.mutex);
    count += shard.reserved;
  }
  return count;
}

base::Result<void> WorkerTable::Refill(Shard& shard, Reserve& reserve, const Entry& entry,
                                       int family) const {
  std::optional<InNetns> inside;
  if (entry.netns_fd >= 0) {
    auto entered = InNetns::Enter(entry.netns_fd, home_fd_);
    if (!entered) {
      return std::unexpected(entered.error());
    }
    inside.emplace(std::move(*entered));
  }
  // Nothing is saved by it in the agent's own namespace.
  const std::size_t wanted = inside ? reserve.batch : 1;
  while (reserve.sockets.size() < wanted) {
    base::UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) {
      break;
    }
    reserve.sockets.push_back(std::move(fd));
  }
  if (reserve.sockets.empty()) {
    return base::SystemError("create a socket in a workload's namespace");
  }
  shard.reserved += reserve.sockets.size();
  reserve.batch = std::min(2 * reserve.batch, kMaxBatch);
  return {};
}

base::Result<WorkerTable::MadeSocket> WorkerTable::MakeSocket(model::LocalId id, int family) const {
  Shard& shard = OwnShard();
  // Held while the namespace's descriptor is in use: Remove() is followed by its close.
  const std::lock_guard guard(shard.mutex);
  const auto found = entries_.find(static_cast<std::uint32_t>(id));
  if (found == entries_.end()) {
    return base::MakeError(base::ErrorCode::kNotFound, "the workload is not enrolled any more");
  }
  const Entry& entry = found->second;
  const std::pair key(found->first, family);
  if (shard.reserves[key].sockets.empty()) {
    if (shard.reserved + kMaxBatch > kMaxReserve) {
      DropReserves(shard, std::nullopt);
    }
    auto filled = Refill(shard, shard.reserves[key], entry, family);
    if (!filled && shard.reserved > 0) {
      // Perhaps for want of descriptors that others' reserves have.
      DropReserves(shard, std::nullopt);
      filled = Refill(shard, shard.reserves[key], entry, family);
    }
    if (!filled) {
      return std::unexpected(filled.error());
    }
  }
  Reserve& reserve = shard.reserves[key];
  MadeSocket made{.fd = std::move(reserve.sockets.back()), .ports = entry.ports};
  reserve.sockets.pop_back();
  --shard.reserved;
  return made;
}

}  // namespace weir::datapath
