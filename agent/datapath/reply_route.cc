#include "agent/datapath/reply_route.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/netlink.h"

namespace weir::datapath {
namespace {

// What the kernel must do with the mark of transparent legs, and the bit of the route's
// metric that keeps the former value.
struct Sysctl {
  const char* path;
  std::uint32_t former_bit;
};
constexpr std::array kSysctls = {
    // Sockets accepted from a marked SYN answer with the mark.
    Sysctl{"/proc/sys/net/ipv4/tcp_fwmark_accept", 1},
    // So do resets: without it, that of a port where nobody listens would leave the pod.
    Sysctl{"/proc/sys/net/ipv4/fwmark_reflect", 4},
    Sysctl{"/proc/sys/net/ipv6/fwmark_reflect", 8},
};
constexpr std::size_t kMaxSysctlBytes = 64;
constexpr std::array kFamilies = {base::IpFamily::kV4, base::IpFamily::kV6};

// The metric: which instance owns the route, and the former values of the sysctls.
constexpr std::uint32_t kFormerBits = 1 | 4 | 8;
constexpr std::uint32_t kNeverZeroBit = 2;

std::uint32_t InstanceBits(std::string_view name) {
  std::uint32_t hash = 2166136261U;  // FNV-1a
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  }
  return (hash & ~(kFormerBits | kNeverZeroBit)) | kNeverZeroBit;
}

bool HasIpv6() {
  const auto off = base::ReadFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", kMaxSysctlBytes);
  return off && off->starts_with('0');
}

// The sysctls that are on, as bits. One that this kernel lacks counts as off.
std::uint32_t SysctlsThatAreOn() {
  std::uint32_t on = 0;
  for (const Sysctl& sysctl : kSysctls) {
    const auto text = base::ReadFile(sysctl.path, kMaxSysctlBytes);
    if (text && !text->starts_with('0')) {
      on |= sysctl.former_bit;
    }
  }
  return on;
}

// Turns on those that have their bit in `on`, and the others off.
base::Result<void> WriteSysctls(std::uint32_t on) {
  base::Result<void> result;
  for (const Sysctl& sysctl : kSysctls) {
    const base::UniqueFd fd(::open(sysctl.path, O_WRONLY | O_CLOEXEC));
    if (!fd.valid() && errno == ENOENT && sysctl.former_bit == kSysctls.back().former_bit) {
      continue;  // a kernel without IPv6
    }
    if (!fd.valid() || ::write(fd.get(), (on & sysctl.former_bit) != 0 ? "1" : "0", 1) != 1) {
      result = base::SystemError(std::string("write ") + sysctl.path);
    }
  }
  return result;
}

netlink::ReplyRoute RouteOf(const Options& options, std::uint32_t metric) {
  return {.fwmark = options.fwmark,
          .table = options.route_table,
          .rule_priority = options.rule_priority,
          .metric = metric};
}

base::Result<void> LoopbackIsDown() {
  return std::unexpected(
      base::Error(base::ErrorCode::kUnavailable, "loopback is down in the namespace", ENETDOWN)
          .WithRemedy("ip link set lo up, inside of it"));
}

// The metric of this instance's route in either family.
base::Result<std::optional<std::uint32_t>> FindOwn(const Options& options) {
  const std::uint32_t own = InstanceBits(options.bpffs_dir);
  std::optional<std::uint32_t> found;
  for (const auto family : kFamilies) {
    auto routes = netlink::ReplyRoutes(family);
    if (!routes) {
      return std::unexpected(routes.error());
    }
    for (const auto& [fwmark, table, rule_priority, metric] : *routes) {
      if (table != options.route_table) {
        continue;
      }
      if ((metric & ~kFormerBits) != own) {
        return base::MakeError(base::ErrorCode::kAlreadyExists,
                               "another agent has enrolled the namespace already (routing table " +
                                   std::to_string(options.route_table) + ")");
      }
      found = metric;
    }
  }
  return found;
}

}  // namespace

base::Result<void> SetUpReplyRoute(const Options& options) {
  auto found = FindOwn(options);
  if (!found) {
    return std::unexpected(found.error());
  }
  const std::uint32_t metric =
      found->value_or(InstanceBits(options.bpffs_dir) | SysctlsThatAreOn());
  for (const auto family : kFamilies) {
    if (family == base::IpFamily::kV6 && !HasIpv6()) {
      continue;
    }
    if (auto added = netlink::AddReplyRoute(family, RouteOf(options, metric)); !added) {
      (void)RemoveReplyRoute(options);  // the first error counts
      return added.error().sys_errno() == ENETDOWN ? LoopbackIsDown() : added;
    }
  }
  if (auto written = WriteSysctls(kFormerBits); !written) {
    (void)RemoveReplyRoute(options);
    return written;
  }
  return {};
}

base::Result<void> RemoveReplyRoute(const Options& options) {
  auto found = FindOwn(options);
  if (!found && found.error().code() == base::ErrorCode::kAlreadyExists) {
    return {};  // another instance's, so not ours to undo
  }
  if (!found || !*found) {
    return found ? base::Result<void>() : std::unexpected(found.error());
  }
  const std::uint32_t metric = **found;
  // The sysctls first: their former values are lost with the route.
  base::Result<void> result = WriteSysctls(metric & kFormerBits);
  for (const auto family : kFamilies) {
    if (family == base::IpFamily::kV6 && !HasIpv6()) {
      continue;
    }
    if (auto removed = netlink::RemoveReplyRoute(family, RouteOf(options, metric)); !removed) {
      result = std::move(removed);
    }
  }
  return result;
}

base::Result<bool> HasReplyRoute() {
  for (const auto family : kFamilies) {
    for (auto* const list : {netlink::ReplyRoutes, netlink::ReplyRules}) {
      const auto found = list(family);
      if (!found) {
        return std::unexpected(found.error());
      }
      if (!found->empty()) {
        return true;
      }
    }
  }
  return false;
}

base::Result<void> RemoveAnyReplyRoute() {
  base::Result<void> result;
  std::optional<std::uint32_t> former;
  for (const auto family : kFamilies) {
    const auto routes = netlink::ReplyRoutes(family);
    const auto rules = netlink::ReplyRules(family);
    if (!routes || !rules) {
      return std::unexpected(routes ? rules.error() : routes.error());
    }
    if (!former && !routes->empty()) {
      former = routes->front().metric & kFormerBits;
      // The sysctls first: their former values are lost with the route.
      result = WriteSysctls(*former);
    }
    // A rule and its route share the table; either may be there without the other.
    for (netlink::ReplyRoute one : *rules) {
      const auto route = std::ranges::find(*routes, one.table, &netlink::ReplyRoute::table);
      one.metric = route == routes->end() ? kNeverZeroBit : route->metric;
      if (auto removed = netlink::RemoveReplyRoute(family, one); !removed) {
        result = std::move(removed);
      }
    }
    for (const netlink::ReplyRoute& one : *routes) {
      if (auto removed = netlink::RemoveReplyRoute(family, one); !removed) {
        result = std::move(removed);
      }
    }
  }
  return result;
}

}  // namespace weir::datapath
