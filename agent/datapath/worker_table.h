#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>

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
  // A TCP socket of the workload's namespace, non-blocking and close-on-exec.
  [[nodiscard]] base::Result<MadeSocket> MakeSocket(model::LocalId id, int family) const;

 private:
  static constexpr std::size_t kShards = 64;
  struct alignas(64) Shard {
    std::mutex mutex;
  };
  std::mutex& OwnMutex() const;
  template <typename Change>
  void WithAllLocked(Change change);

  int home_fd_;
  mutable std::array<Shard, kShards> shards_;
  std::unordered_map<std::uint32_t, Entry> entries_;
};

}  // namespace weir::datapath
