#pragma once

#include <cstdint>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/ip.h"

// The few questions and orders to the kernel's routing and socket tables, each in the
// calling thread's network namespace. Control thread; blocks for the kernel's answer.
namespace weir::datapath::netlink {

// A rule "fwmark M lookup T" and the default local route of T that it leads to.
struct ReplyRoute {
  std::uint32_t fwmark = 0;
  std::uint32_t table = 0;
  std::uint32_t rule_priority = 0;
  std::uint32_t metric = 0;  // carries what the owner wants to remember; not 0
};

// Adds the route and then the rule, both with weir's protocol number.
base::Result<void> AddReplyRoute(base::IpFamily family, const ReplyRoute& wanted);
// Removes both; a missing one is no failure.
base::Result<void> RemoveReplyRoute(base::IpFamily family, const ReplyRoute& wanted);
// Every route of a family with weir's protocol number: its table and its metric.
base::Result<std::vector<ReplyRoute>> ReplyRoutes(base::IpFamily family);
// Every rule of a family with weir's protocol number: all but the metric.
base::Result<std::vector<ReplyRoute>> ReplyRules(base::IpFamily family);

// Every address of the namespace.
base::Result<std::vector<base::IpAddress>> LocalAddresses();

// One TCP socket as sock_diag tells.
struct TcpSocket {
  base::Endpoint local;
  base::Endpoint remote;
  std::uint64_t cookie = 0;
  std::uint64_t cgroup_id = 0;  // that it was made in; 0 where the kernel does not tell
  std::uint32_t bound_interface = 0;
  bool is_v6 = false;
  bool v6_only = false;
};
base::Result<std::vector<TcpSocket>> ListeningSockets();
// Established and half-closed connections.
base::Result<std::vector<TcpSocket>> Connections();

}  // namespace weir::datapath::netlink
