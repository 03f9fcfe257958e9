#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/config/agent_config.h"
#include "agent/io/event_loop.h"

namespace weir::config {

// The mount point of the cgroup2 hierarchy (also on hybrid hosts), from
// /proc/self/mountinfo or `mountinfo_path`. kNotFound with a remedy if there is none.
base::Result<std::string> FindCgroup2Root(
    const std::string& mountinfo_path = "/proc/self/mountinfo");

// A configured workload exists on this node, at a namespace or a cgroup.
struct Appeared {
  std::string workload;  // display name
  MatchKind kind = MatchKind::kNetns;
  std::string path;         // of the namespace file, or of the cgroup directory
  std::uint64_t inode = 0;  // of the namespace or the cgroup
  std::uint64_t mount = 0;  // that the path leads through (statx(2), stx_mnt_id)

  // The same object of the kernel, and not a successor at its path. The number of a
  // namespace is used again as soon as it is free, the one of its mount is not (before
  // Linux 6.8 that one may be, too).
  [[nodiscard]] bool IsSameObject(const Appeared& other) const {
    return kind == other.kind && path == other.path && inode == other.inode && mount == other.mount;
  }
};

// It exists no longer, or another object has taken its place (an Appeared follows).
struct Vanished {
  std::string workload;  // display name
};

// WorkloadDiscovery watches for the configured workloads. It looks once a second, and at
// once when something happens below the directory of named namespaces. Control thread.
class WorkloadDiscovery {
 public:
  struct Options {
    std::string cgroup_root;                     // the cgroup2 root that units are looked for in
    std::string netns_directory = "/run/netns";  // of named namespaces
    std::function<void(const Appeared&)> on_appeared;
    std::function<void(const Vanished&)> on_vanished;
  };
  // Looks for nothing until SetWorkloads. `loop` outlives the object.
  static base::Result<std::unique_ptr<WorkloadDiscovery>> Create(io::EventLoop& loop,
                                                                 Options options);
  WorkloadDiscovery(const WorkloadDiscovery&) = delete;
  WorkloadDiscovery& operator=(const WorkloadDiscovery&) = delete;
  virtual ~WorkloadDiscovery() = default;

  // What to look for from now on, and looks at once: callbacks run inside this call.
  virtual void SetWorkloads(const std::vector<WorkloadConfig>& workloads) = 0;
  // Looks now instead of at the next second; callbacks run inside this call.
  virtual void LookNow() = 0;
  // Those that exist now.
  [[nodiscard]] virtual std::vector<Appeared> Present() const = 0;

 protected:
  WorkloadDiscovery() = default;
};

}  // namespace weir::config
