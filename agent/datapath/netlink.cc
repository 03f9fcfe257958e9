#include "agent/datapath/netlink.h"

#include <linux/fib_rules.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <span>
#include <string>

#include "agent/base/unique_fd.h"

namespace weir::datapath::netlink {
namespace {

constexpr std::uint8_t kProtocol = 119;  // unassigned in rtnetlink.h and iproute2's rt_protos
constexpr std::size_t kReceiveBytes = 65536;

using Bytes = std::span<const std::uint8_t>;

// Request builds one netlink message.
class Request {
 public:
  Request(std::uint16_t type, std::uint16_t flags) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<std::uint16_t>(flags | NLM_F_REQUEST);
    header.nlmsg_seq = 1;
    Put(header);
  }
  template <typename Value>
  void Put(const Value& value) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + NLMSG_ALIGN(sizeof(value)));
    std::memcpy(bytes_.data() + at, &value, sizeof(value));
  }
  template <typename Value>
  void Attribute(std::uint16_t type, const Value& value) {
    const rtattr head{.rta_len = static_cast<std::uint16_t>(RTA_LENGTH(sizeof(value))),
                      .rta_type = type};
    Put(head);
    Put(value);
  }
  Bytes Finish() {
    const auto length = static_cast<std::uint32_t>(bytes_.size());
    std::memcpy(bytes_.data(), &length, sizeof(length));  // nlmsg_len is the first field
    return bytes_;
  }

 private:
  std::vector<std::uint8_t> bytes_;
};

template <typename Value>
Value Load(Bytes bytes) {
  Value value{};
  std::memcpy(&value, bytes.data(), std::min(sizeof(value), bytes.size()));
  return value;
}

using OnMessage = std::function<void(std::uint16_t type, Bytes body)>;

// What one datagram of answers meant for the exchange.
struct Progress {
  bool done = false;
  int error = 0;
};

Progress Consume(Bytes bytes, const OnMessage& on_message) {
  while (bytes.size() >= sizeof(nlmsghdr)) {
    const auto header = Load<nlmsghdr>(bytes);
    if (header.nlmsg_len < sizeof(nlmsghdr) || header.nlmsg_len > bytes.size()) {
      return {.done = true, .error = EBADMSG};
    }
    const Bytes body = bytes.subspan(NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN);
    if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE) {
      return {.done = true, .error = body.size() >= sizeof(int) ? -Load<int>(body) : 0};
    }
    on_message(header.nlmsg_type, body);
    bytes = bytes.subspan(std::min<std::size_t>(bytes.size(), NLMSG_ALIGN(header.nlmsg_len)));
  }
  return {};
}

// Sends one request and hands every message of the answer over; an errno, 0 for none.
int Exchange(int protocol, Request request, const OnMessage& on_message) {
  const base::UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  const Bytes message = request.Finish();
  if (!fd.valid() || ::send(fd.get(), message.data(), message.size(), 0) < 0) {
    return errno;
  }
  std::vector<std::uint8_t> buffer(kReceiveBytes);
  for (;;) {
    const ssize_t got = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return errno;
    }
    const Progress progress =
        Consume(Bytes(buffer).subspan(0, static_cast<std::size_t>(got)), on_message);
    if (progress.done) {
      return progress.error;
    }
  }
}

base::Result<void> Order(Request request, std::string_view what) {
  const int error = Exchange(NETLINK_ROUTE, std::move(request), [](std::uint16_t, Bytes) {});
  if (error != 0) {
    return base::SystemError(what, error);
  }
  return {};
}

// Calls back for each attribute behind the fixed part of a message.
template <typename OnAttribute>
void ForEachAttribute(Bytes body, std::size_t fixed, OnAttribute on_attribute) {
  body = body.subspan(std::min<std::size_t>(body.size(), NLMSG_ALIGN(fixed)));
  while (body.size() >= sizeof(rtattr)) {
    const auto head = Load<rtattr>(body);
    if (head.rta_len < sizeof(rtattr) || head.rta_len > body.size()) {
      return;
    }
    on_attribute(head.rta_type & NLA_TYPE_MASK,
                 body.subspan(RTA_LENGTH(0), head.rta_len - RTA_LENGTH(0)));
    body = body.subspan(std::min<std::size_t>(body.size(), RTA_ALIGN(head.rta_len)));
  }
}

std::uint8_t RawFamily(base::IpFamily family) {
  return family == base::IpFamily::kV4 ? AF_INET : AF_INET6;
}

Request RouteRequest(std::uint16_t type, std::uint16_t flags, base::IpFamily family,
                     const ReplyRoute& wanted) {
  Request request(type, flags);
  rtmsg route{};
  route.rtm_family = RawFamily(family);
  route.rtm_table = RT_TABLE_UNSPEC;
  route.rtm_protocol = kProtocol;
  route.rtm_scope = family == base::IpFamily::kV4 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
  route.rtm_type = RTN_LOCAL;
  request.Put(route);
  request.Attribute(RTA_TABLE, wanted.table);
  request.Attribute(RTA_OIF, ::if_nametoindex("lo"));
  request.Attribute(RTA_PRIORITY, wanted.metric);
  return request;
}

Request RuleRequest(std::uint16_t type, std::uint16_t flags, base::IpFamily family,
                    const ReplyRoute& wanted) {
  Request request(type, flags);
  fib_rule_hdr rule{};
  rule.family = RawFamily(family);
  rule.table = RT_TABLE_UNSPEC;
  rule.action = FR_ACT_TO_TBL;
  request.Put(rule);
  request.Attribute(FRA_TABLE, wanted.table);
  request.Attribute(FRA_PRIORITY, wanted.rule_priority);
  request.Attribute(FRA_FWMARK, wanted.fwmark);
  request.Attribute(FRA_FWMASK, 0xffffffffU);
  request.Attribute(FRA_PROTOCOL, kProtocol);
  return request;
}

base::IpAddress ReadAddress(Bytes bytes, int family) {
  return family == AF_INET ? base::IpAddress::V4(Load<std::uint32_t>(bytes))
                           : base::IpAddress::V6(Load<in6_addr>(bytes));
}

TcpSocket ReadSocket(Bytes body) {
  const auto message = Load<inet_diag_msg>(body);
  const auto endpoint = [&](const __be32* address, __be16 port) {
    return base::Endpoint{
        .address = ReadAddress(Bytes(reinterpret_cast<const std::uint8_t*>(address), 16),
                               message.idiag_family),
        .port = ntohs(port)};
  };
  TcpSocket socket{.local = endpoint(message.id.idiag_src, message.id.idiag_sport),
                   .remote = endpoint(message.id.idiag_dst, message.id.idiag_dport),
                   .bound_interface = message.id.idiag_if,
                   .is_v6 = message.idiag_family == AF_INET6};
  socket.cookie =
      message.id.idiag_cookie[0] | (static_cast<std::uint64_t>(message.id.idiag_cookie[1]) << 32U);
  ForEachAttribute(body, sizeof(message), [&](std::uint16_t type, Bytes value) {
    if (type == INET_DIAG_CGROUP_ID) {
      socket.cgroup_id = Load<std::uint64_t>(value);
    } else if (type == INET_DIAG_SKV6ONLY) {
      socket.v6_only = Load<std::uint8_t>(value) != 0;
    }
  });
  return socket;
}

base::Result<std::vector<TcpSocket>> DumpSockets(std::uint32_t states) {
  std::vector<TcpSocket> sockets;
  for (const std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
    Request request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
    inet_diag_req_v2 wanted{};
    wanted.sdiag_family = family;
    wanted.sdiag_protocol = IPPROTO_TCP;
    wanted.idiag_states = states;
    request.Put(wanted);
    const int error =
        Exchange(NETLINK_SOCK_DIAG, std::move(request), [&](std::uint16_t, Bytes body) {
          if (body.size() >= sizeof(inet_diag_msg)) {
            sockets.push_back(ReadSocket(body));
          }
        });
    if (error != 0) {
      return base::SystemError("list the sockets of a namespace", error);
    }
  }
  return sockets;
}

}  // namespace

base::Result<void> AddReplyRoute(base::IpFamily family, const ReplyRoute& wanted) {
  if (auto added = Order(
          RouteRequest(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, family, wanted),
          "add the local route of transparent legs");
      !added) {
    return added;
  }
  auto added =
      Order(RuleRequest(RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, family, wanted),
            "add the routing rule of transparent legs");
  if (!added && added.error().sys_errno() == EEXIST) {
    return {};
  }
  return added;
}

base::Result<void> RemoveReplyRoute(base::IpFamily family, const ReplyRoute& wanted) {
  auto rule = Order(RuleRequest(RTM_DELRULE, NLM_F_ACK, family, wanted),
                    "remove the routing rule of transparent legs");
  auto route = Order(RouteRequest(RTM_DELROUTE, NLM_F_ACK, family, wanted),
                     "remove the local route of transparent legs");
  const auto missing = [](const base::Error& error) {
    return error.sys_errno() == ENOENT || error.sys_errno() == ESRCH;
  };
  if (!rule && !missing(rule.error())) {
    return rule;
  }
  if (!route && !missing(route.error())) {
    return route;
  }
  return {};
}

base::Result<std::vector<ReplyRoute>> ReplyRoutes(base::IpFamily family) {
  Request request(RTM_GETROUTE, NLM_F_DUMP);
  rtmsg filter{};
  filter.rtm_family = RawFamily(family);
  request.Put(filter);
  std::vector<ReplyRoute> found;
  const int error = Exchange(NETLINK_ROUTE, std::move(request), [&](std::uint16_t, Bytes body) {
    const auto route = Load<rtmsg>(body);
    ReplyRoute one{.table = route.rtm_table};
    ForEachAttribute(body, sizeof(route), [&](std::uint16_t type, Bytes value) {
      if (type == RTA_TABLE) {
        one.table = Load<std::uint32_t>(value);
      } else if (type == RTA_PRIORITY) {
        one.metric = Load<std::uint32_t>(value);
      }
    });
    if (route.rtm_family == filter.rtm_family && route.rtm_protocol == kProtocol &&
        route.rtm_type == RTN_LOCAL) {
      found.push_back(one);
    }
  });
  if (error != 0) {
    return base::SystemError("list routes", error);
  }
  return found;
}

base::Result<std::vector<ReplyRoute>> ReplyRules(base::IpFamily family) {
  Request request(RTM_GETRULE, NLM_F_DUMP);
  fib_rule_hdr filter{};
  filter.family = RawFamily(family);
  request.Put(filter);
  std::vector<ReplyRoute> found;
  const int error = Exchange(NETLINK_ROUTE, std::move(request), [&](std::uint16_t, Bytes body) {
    const auto rule = Load<fib_rule_hdr>(body);
    ReplyRoute one{.table = rule.table};
    std::uint8_t protocol = 0;
    ForEachAttribute(body, sizeof(rule), [&](std::uint16_t type, Bytes value) {
      if (type == FRA_TABLE) {
        one.table = Load<std::uint32_t>(value);
      } else if (type == FRA_PRIORITY) {
        one.rule_priority = Load<std::uint32_t>(value);
      } else if (type == FRA_FWMARK) {
        one.fwmark = Load<std::uint32_t>(value);
      } else if (type == FRA_PROTOCOL) {
        protocol = Load<std::uint8_t>(value);
      }
    });
    if (rule.family == filter.family && protocol == kProtocol) {
      found.push_back(one);
    }
  });
  if (error != 0) {
    return base::SystemError("list routing rules", error);
  }
  return found;
}

base::Result<std::vector<base::IpAddress>> LocalAddresses() {
  Request request(RTM_GETADDR, NLM_F_DUMP);
  request.Put(ifaddrmsg{});
  std::vector<base::IpAddress> addresses;
  const int error = Exchange(NETLINK_ROUTE, std::move(request), [&](std::uint16_t, Bytes body) {
    const auto message = Load<ifaddrmsg>(body);
    if (message.ifa_family != AF_INET && message.ifa_family != AF_INET6) {
      return;
    }
    // IFA_LOCAL is the own end where IFA_ADDRESS may be the peer of a link.
    std::optional<base::IpAddress> local;
    std::optional<base::IpAddress> address;
    ForEachAttribute(body, sizeof(message), [&](std::uint16_t type, Bytes value) {
      if (type == IFA_LOCAL) {
        local = ReadAddress(value, message.ifa_family);
      } else if (type == IFA_ADDRESS) {
        address = ReadAddress(value, message.ifa_family);
      }
    });
    if (local || address) {
      addresses.push_back(local ? *local : *address);
    }
  });
  if (error != 0) {
    return base::SystemError("list the addresses of a namespace", error);
  }
  return addresses;
}

base::Result<std::vector<TcpSocket>> ListeningSockets() {
  return DumpSockets(1U << static_cast<unsigned>(TCP_LISTEN));
}

base::Result<std::vector<TcpSocket>> Connections() {
  return DumpSockets((1U << static_cast<unsigned>(TCP_ESTABLISHED)) |
                     (1U << static_cast<unsigned>(TCP_CLOSE_WAIT)) |
                     (1U << static_cast<unsigned>(TCP_FIN_WAIT1)) |
                     (1U << static_cast<unsigned>(TCP_FIN_WAIT2)));
}

}  // namespace weir::datapath::netlink
