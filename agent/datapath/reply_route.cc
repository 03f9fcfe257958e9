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

constexpr char kFwmarkAccept[] = "/proc/sys/net/ipv4/tcp_fwmark_accept";
constexpr std::size_t kMaxSysctlBytes = 64;
constexpr std::array kFamilies = {base::IpFamily::kV4, base::IpFamily::kV6};

// The metric: which instance owns the route, and the former tcp_fwmark_accept.
constexpr std::uint32_t kFormerValueBit = 1;
constexpr std::uint32_t kNeverZeroBit = 2;

std::uint32_t InstanceBits(std::string_view name) {
  std::uint32_t hash = 2166136261U;  // FNV-1a
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  }
  return (hash & ~(kFormerValueBit | kNeverZeroBit)) | kNeverZeroBit;
}

bool HasIpv6() {
  const auto off = base::ReadFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", kMaxSysctlBytes);
  return off && off->starts_with('0');
}

base::Result<bool> ReadFwmarkAccept() {
  auto text = base::ReadFile(kFwmarkAccept, kMaxSysctlBytes);
  if (!text) {
    return std::unexpected(text.error());
  }
  return !text->starts_with('0');
}

base::Result<void> WriteFwmarkAccept(bool on) {
  const base::UniqueFd fd(::open(kFwmarkAccept, O_WRONLY | O_CLOEXEC));
  if (!fd.valid() || ::write(fd.get(), on ? "1" : "0", 1) != 1) {
    return base::SystemError(std::string("write ") + kFwmarkAccept);
  }
  return {};
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
    auto metrics = netlink::ReplyRouteMetrics(family, options.route_table);
    if (!metrics) {
      return std::unexpected(metrics.error());
    }
    for (const std::uint32_t metric : *metrics) {
      if ((metric & ~kFormerValueBit) != own) {
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
  auto accepts = ReadFwmarkAccept();
  if (!accepts) {
    return std::unexpected(accepts.error());
  }
  const std::uint32_t metric =
      found->value_or(InstanceBits(options.bpffs_dir) | (*accepts ? kFormerValueBit : 0U));
  for (const auto family : kFamilies) {
    if (family == base::IpFamily::kV6 && !HasIpv6()) {
      continue;
    }
    if (auto added = netlink::AddReplyRoute(family, RouteOf(options, metric)); !added) {
      (void)RemoveReplyRoute(options);  // the first error counts
      return added.error().sys_errno() == ENETDOWN ? LoopbackIsDown() : added;
    }
  }
  if (auto written = WriteFwmarkAccept(true); !written) {
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
  // The sysctl first: its former value is lost with the route.
  base::Result<void> result = WriteFwmarkAccept((metric & kFormerValueBit) != 0);
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

}  // namespace weir::datapath
