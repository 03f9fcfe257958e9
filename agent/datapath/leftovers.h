#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/datapath/datapath.h"

// What runs of weir have left in this kernel, whichever agent's they were (WK205): links,
// their pins, and the rules, routes and sysctls of namespaces. An owner is a process that
// holds the link, an agent that holds the pins' directory, or the agent that
// Options::bpffs_dir belongs to, even while it does not run: its closed workloads are to stay
// refused. What is in a namespace belongs to whom the lookup link on that namespace does.
namespace weir::datapath {

struct Leftover {
  enum class Kind : std::uint8_t { kLink, kPin, kNamespace };
  Kind kind = Kind::kLink;
  std::uint64_t id = 0;  // of the link; inode of the namespace; 0 for a pin
  std::string name;      // "link 812 (weir_connect4)", "pin /sys/fs/bpf/weir/connect4"
  friend bool operator==(const Leftover&, const Leftover&) = default;
};

struct Leftovers {
  std::vector<Leftover> items;  // without an owner
  unsigned owned_links = 0;
  bool complete = true;  // false: some process or namespace could not be looked at
};

// Looks and changes nothing. Any thread but a worker; enters each network namespace in
// turn and reads the descriptors of every process, so it takes some milliseconds.
base::Result<Leftovers> FindLeftovers(const Options& options);

// Removes those of `items` that still have no owner, and returns them. Goes on past what
// cannot be removed, and then fails with the first of it. kPermission when it cannot be
// known whether there is an owner.
base::Result<std::vector<Leftover>> CleanLeftovers(const Options& options,
                                                   const std::vector<Leftover>& items);

// WK205.
CheckResult CheckLeftovers(const Options& options);

}  // namespace weir::datapath
