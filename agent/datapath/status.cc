#include <algorithm>
#include <array>

#include "agent/datapath/bpf_map.h"
#include "agent/datapath/datapath_impl.h"

namespace weir::datapath {
namespace {

constexpr std::size_t kMaxExamples = 5;

struct CounterName {
  weir_counter index;
  const char* hook;
  const char* reason;
  bool is_loss = false;
};

constexpr std::array kCounterNames = {
    CounterName{WEIR_CONNECT_REDIRECTED, "connect", "redirected"},
    CounterName{WEIR_CONNECT_OWN, "connect", "own-socket"},
    CounterName{WEIR_CONNECT_LOOPBACK, "connect", "loopback"},
    CounterName{WEIR_CONNECT_SELF, "connect", "to-itself"},
    CounterName{WEIR_CONNECT_DEVICE_BOUND, "connect", "device-bound"},
    CounterName{WEIR_CONNECT_LINK_LOCAL, "connect", "link-local"},
    CounterName{WEIR_CONNECT_NO_AGENT_OPEN, "connect", "no-agent-left-alone"},
    CounterName{WEIR_CONNECT_NO_AGENT_REFUSED, "connect", "no-agent-refused", true},
    CounterName{WEIR_CONNECT_NO_STORAGE, "connect", "no-socket-storage", true},
    CounterName{WEIR_CONNECT_TUPLE_TAKEN, "connect", "leg-tuple-taken"},
    CounterName{WEIR_SOCKOPS_ORIGINAL_FULL, "sockops", "original-destination-lost", true},
    CounterName{WEIR_SOCKOPS_LEG_FULL, "sockops", "own-leg-lost", true},
    CounterName{WEIR_SOCKOPS_LISTENING_FULL, "sockops", "listening-socket-lost", true},
    CounterName{WEIR_LOOKUP_ASSIGNED, "lookup", "assigned"},
    CounterName{WEIR_LOOKUP_OWN_LEG, "lookup", "own-leg"},
    CounterName{WEIR_LOOKUP_LOOPBACK, "lookup", "loopback"},
    CounterName{WEIR_LOOKUP_SELF, "lookup", "to-itself"},
    CounterName{WEIR_LOOKUP_NOT_LISTENING, "lookup", "nobody-listens"},
    CounterName{WEIR_LOOKUP_NO_AGENT_OPEN, "lookup", "no-agent-left-alone"},
    CounterName{WEIR_LOOKUP_NO_AGENT_DROPPED, "lookup", "no-agent-refused", true},
    CounterName{WEIR_LOOKUP_ASSIGN_FAILED, "lookup", "assign-failed", true},
    CounterName{WEIR_PARENT_BY_RUNTIME, "parent", "runtime"},
    CounterName{WEIR_PARENT_RUNTIME_NONE, "parent", "runtime-says-none"},
    CounterName{WEIR_PARENT_BY_TURN, "parent", "turn"},
    CounterName{WEIR_PARENT_BY_SOLE, "parent", "sole"},
    CounterName{WEIR_PARENT_NO_REQUEST_OPEN, "parent", "no-request-open"},
    CounterName{WEIR_PARENT_TAINTED, "parent", "called-for-no-request"},
    CounterName{WEIR_PARENT_CALIBRATING, "parent", "calibrating"},
    CounterName{WEIR_PARENT_MULTIPLEXED, "parent", "multiplexed-connection"},
    CounterName{WEIR_PARENT_AMBIGUOUS, "parent", "ambiguous"},
    CounterName{WEIR_PARENT_WITHDRAWN, "parent", "trust-withdrawn"},
    CounterName{WEIR_PARENT_NO_STORAGE, "parent", "no-storage"},
    CounterName{WEIR_PARENT_HINT_FULL, "parent", "hints-full"},
    CounterName{WEIR_RUNTIME_FULL, "runtime", "notes-full"},
    CounterName{WEIR_ARRIVAL_FULL, "cgroup_mkdir", "workloads-full", true},
};
static_assert(kCounterNames.size() == WEIR_COUNTER_COUNT);

}  // namespace

std::vector<EnrolmentStatus> DatapathImpl::Status() const {
  std::vector<EnrolmentStatus> all;
  for (const auto& [id, workload] : workloads_) {
    const auto link = workload.ns->lookup().info();
    EnrolmentStatus status;
    status.id = id;
    status.name = workload.wanted.name;
    status.netns_cookie = workload.ns->cookie();
    status.cgroup_id = workload.cgroup ? workload.cgroup->id : 0;
    status.lookup_link_id = link ? link->link_id : 0;
    status.lookup_link_alive = workload.ns->LookupAlive();
    status.listeners_expected = static_cast<unsigned>(workload.listeners.size());
    status.listeners_alive = static_cast<unsigned>(
        std::ranges::count_if(workload.listeners, [&](const weir_listener_key& key) {
          // The kernel answers with the socket's cookie, as long as it listens.
          return MapGet<std::uint64_t>(map(Map::kListeners), key).has_value();
        }));
    status.listening_ports = workload.ns->ListeningCount(static_cast<std::uint32_t>(id));
    status.closed_when_agent_down = workload.closed();
    status.last_probe = workload.last_probe;
    all.push_back(std::move(status));
  }
  return all;
}

std::vector<HookStatus> DatapathImpl::Hooks() const {
  std::vector<HookStatus> all;
  for (const auto& [hook, link] : hooks_) {
    HookStatus status;
    status.name = ToString(hook);
    status.pinned = link.pinned();
    if (const auto info = link.info()) {
      status.link_id = info->link_id;
      status.program_id = info->program_id;
      status.attached = info->target != 0 && info->program_id == parts_.programs->id(hook);
    }
    all.push_back(std::move(status));
  }
  return all;
}

std::vector<KernelCounter> DatapathImpl::Counters() const {
  std::vector<KernelCounter> all;
  for (const auto& name : kCounterNames) {
    all.push_back({.hook = name.hook,
                   .reason = name.reason,
                   .value = MapSum(map(Map::kCounters), static_cast<std::uint32_t>(name.index)),
                   .is_loss = name.is_loss});
  }
  for (const auto& [reason, count] : runtimes_.failures()) {
    all.push_back({.hook = "runtime", .reason = reason, .value = count, .is_loss = false});
  }
  return all;
}

std::vector<PreexistingConnections> DatapathImpl::Preexisting() const {
  std::vector<PreexistingConnections> all;
  for (const auto& [id, workload] : workloads_) {
    if (workload.older_connections.empty()) {
      continue;
    }
    PreexistingConnections found;
    found.id = id;
    found.name = workload.wanted.name;
    for (const auto& socket : ConnectionsOf(workload)) {
      if (!workload.older_connections.contains(socket.cookie)) {
        continue;
      }
      ++found.count;
      if (found.examples.size() < kMaxExamples) {
        found.examples.push_back(socket.local.ToString() + " -> " + socket.remote.ToString());
      }
    }
    if (found.count > 0) {
      all.push_back(std::move(found));
    }
  }
  return all;
}

}  // namespace weir::datapath
