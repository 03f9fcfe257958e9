#pragma once

#include <cstdint>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/netns.h"
#include "agent/datapath/worker_table.h"
#include "agent/seam/interception.h"
#include "bpf/abi/interception.h"

namespace weir::datapath {

// A listener and the key under which the hooks find it.
struct KeyedListener {
  weir_listener_key key;
  std::uint32_t worker = 0;
  seam::Listener listener;
};

// The listeners of one workload: outbound and inbound, IPv4 and (where the namespace has
// it) IPv6, for each worker.
struct ListenerPlan {
  model::LocalId owner = model::LocalId::kNone;
  unsigned worker_count = 1;
  int backlog = 0;
};
// Opens them on loopback of the calling thread's namespace, on ports outside of its
// local range.
base::Result<std::vector<KeyedListener>> OpenListeners(const ListenerPlan& plan);

// Opens the agent's connections. Any thread.
class LegMaker {
 public:
  LegMaker(const WorkerTable& table, int sockets_map, std::uint32_t fwmark)
      : table_(table), sockets_map_(sockets_map), fwmark_(fwmark) {}
  base::Result<base::UniqueFd> Connect(const seam::ConnectRequest& request);

 private:
  base::Result<void> MakeTransparent(int fd, int family) const;
  // `first_attempt`: how many ports were found taken for this leg already.
  base::Result<void> BindLeg(int fd, const base::IpAddress& source, const LegPorts& ports,
                             unsigned first_attempt);

  const WorkerTable& table_;
  int sockets_map_;
  std::uint32_t fwmark_;
  std::atomic<std::uint32_t> next_turn_{0};
};

// The address of `address` as the maps have it.
weir_address ToAbi(const base::IpAddress& address);
base::IpAddress FromAbi(const weir_address& address);

}  // namespace weir::datapath
