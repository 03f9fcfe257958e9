#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"

namespace weir::datapath {

// A mounted cgroup2 tree.
struct CgroupMount {
  std::string path;     // mount point
  bool whole = true;    // shows the hierarchy from its root, not a subtree
  bool hybrid = false;  // cgroup v1 controllers are mounted as well
  friend bool operator==(const CgroupMount&, const CgroupMount&) = default;
};

// Finds the cgroup2 tree in the text of /proc/self/mountinfo (proc_pid_mountinfo(5)); of
// several the first that shows the whole hierarchy. kNotFound when there is none.
base::Result<CgroupMount> FindCgroupMount(std::string_view mountinfo);
// The same for this process.
base::Result<CgroupMount> FindCgroupMount();

// A cgroup directory as the kernel's helpers name it.
struct CgroupId {
  std::uint64_t id = 0;
  // Depth below the hierarchy's root (0), or -1 when the mount does not tell.
  int level = -1;
};

// Identifies the cgroup2 directory `path`. kNotFound if there is none, kInvalidArgument
// if it is not part of a cgroup2 tree.
base::Result<CgroupId> IdentifyCgroup(const std::string& path);

// Ids of `path` and of every cgroup below it.
std::vector<std::uint64_t> CgroupSubtreeIds(const std::string& path);

}  // namespace weir::datapath
