#pragma once

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip.h"

namespace weir::client {

// Looks up the addresses of `host`, at most kMaxAddresses, in the system's order of
// preference; an address in text is returned as it is. The system's resolver cannot be
// interrupted, so it runs in a thread of its own that is left behind when `deadline`
// passes (kTimeout) or `cancelled` is set (kUnavailable); at most kMaxLookups such
// threads exist at a time (kLimit). Any thread but a worker.
base::Result<std::vector<base::IpAddress>> ResolveHost(
    const std::string& host, std::chrono::steady_clock::time_point deadline,
    const std::atomic<bool>& cancelled);
inline constexpr std::size_t kMaxAddresses = 8;
inline constexpr int kMaxLookups = 8;

}  // namespace weir::client
