#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/netns.h"
#include "agent/model/snapshot.h"

namespace weir::datapath {

// Ports that transparent legs may take: outside of the namespace's local port range, so
// that its own connections rarely have them; the larger part first.
struct LegPorts {
  PortRange preferred;
  PortRange other;  // low > high: empty
};
LegPorts LegPortsOutside(const PortRange& local_range);
// The port for the n-th leg and attempt of a namespace.
std::uint16_t PickLegPort(const LegPorts& ports, std::uint32_t turn, unsigned attempt);

// WorkerTable is what workers know of the enrolled workloads. A lookup takes a lock that
// belongs to the calling thread alone, so threads never wait for each other; only a
// change, on the control thread, takes them all.
class WorkerTable {
 public:
  struct Entry {
    int netns_fd = -1;  // not owned; -1: the agent's own namespace
    std::uint64_t cookie = 0;
    LegPorts ports;
  };
  explicit WorkerTable(int home_fd) : home_fd_(home_fd) {}

  // Control.
  void Set(model::LocalId id, const Entry& entry);
  // Control. No thread uses the namespace's descriptor after it returned.
  void Remove(model::LocalId id);

  // Any thread.
  [[nodiscard]] std::optional<Entry> Find(model::LocalId id) const;
  struct MadeSocket {
    base::UniqueFd fd;
    LegPorts ports;
  };
  // A TCP socket of the workload's namespace, non-blocking and close-on-exec. Entering a
  // namespace costs more than a socket does, so a workload that asks again is given several
  // in one go: those that wait are the calling thread's, kMaxReserve for all its workloads
  // together, and are closed by Set() and Remove().
  [[nodiscard]] base::Result<MadeSocket> MakeSocket(model::LocalId id, int family) const;
  // Sockets that wait now, of all threads.
  [[nodiscard]] std::size_t reserved() const;

  static constexpr std::size_t kMaxBatch = 16;
  static constexpr std::size_t kMaxReserve = 256;

 private:
  static constexpr std::size_t kShards = 64;
  struct Reserve {
    std::vector<base::UniqueFd> sockets;
    std::size_t batch = 1;  // how many are made when none is left; doubles each time
  };
  // What belongs to one thread.
  struct alignas(64) Shard {
    std::mutex mutex;
    std::map<std::pair<std::uint32_t, int>, Reserve> reserves;  // by id and family
    std::size_t reserved = 0;
  };
  Shard& OwnShard() const;
  // Makes as many as the reserve's batch; at least one, or the error. Locked.
  base::Result<void> Refill(Shard& shard, Reserve& reserve, const Entry& entry, int family) const;
  static void DropReserves(Shard& shard, std::optional<std::uint32_t> id);
  template <typename Change>
  void WithAllLocked(Change change);

  int home_fd_;
  mutable std::array<Shard, kShards> shards_;
  std::unordered_map<std::uint32_t, Entry> entries_;
};

}  // namespace weir::datapath
