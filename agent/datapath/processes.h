#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "agent/datapath/netns.h"

namespace weir::datapath {

// Most processes that are looked at in one go.
inline constexpr std::size_t kMaxProcesses = 65536;

// The processes of the cgroup2 directory `path` and of every cgroup below it. Blocks.
std::vector<pid_t> ProcessesOfCgroup(const std::string& path);

// Every process that /proc shows, with its network namespace. Blocks.
std::vector<std::pair<pid_t, NetnsIdentity>> AllProcesses();

}  // namespace weir::datapath
