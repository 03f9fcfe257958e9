#pragma once

#include <string>

#include "agent/base/error.h"
#include "agent/datapath/datapath.h"

// What a namespace needs so that a delivery leg can keep its client's source address:
// one rule and one local route per family, and net.ipv4.tcp_fwmark_accept and the two
// fwmark_reflect. What was there before is kept in the route itself, so it is found again by
// whoever undoes it, even after a crash, and dies with the namespace. All in the calling thread's
// namespace.
namespace weir::datapath {

// Sets everything up; a set-up of the same instance (Options::bpffs_dir) is kept.
// kAlreadyExists when another instance's agent has one there. Undone on failure.
base::Result<void> SetUpReplyRoute(const Options& options);
// Undoes it; nothing happens where this instance has none.
base::Result<void> RemoveReplyRoute(const Options& options);
// Whether any instance, of whatever mark and table, has a rule or a route there.
base::Result<bool> HasReplyRoute();
// Undoes it, whoever's it is.
base::Result<void> RemoveAnyReplyRoute();

}  // namespace weir::datapath
