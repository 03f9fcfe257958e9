#include "agent/datapath/sockets.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "agent/datapath/bpf_map.h"

namespace weir::datapath {
namespace {

constexpr std::uint16_t kFirstListenerPort = 15001;
constexpr unsigned kMaxBindAttempts = 4096;
constexpr unsigned kMaxLegAttempts = 16;

template <typename Value>
base::Result<void> SetOption(int fd, int level, int option, const Value& value) {
  if (::setsockopt(fd, level, option, &value, sizeof(value)) != 0) {
    return base::SystemError("set a socket option");
  }
  return {};
}

int RawFamily(const base::IpAddress& address) {
  return address.is_v4() ? AF_INET : AF_INET6;
}

// Walks ports outside of the namespace's local range, for listeners.
class PortWalk {
 public:
  explicit PortWalk(PortRange local) : local_(local) {}
  std::uint16_t Next() {
    std::uint16_t port = next_++;
    if (port >= local_.low && port <= local_.high) {
      // Past the range, or below the first choice if it ends at the top.
      port = local_.high < 65535 ? static_cast<std::uint16_t>(local_.high + 1) : 1024;
      next_ = static_cast<std::uint16_t>(port + 1);
    }
    if (next_ < 1024) {
      next_ = 1024;
    }
    return port;
  }

 private:
  PortRange local_;
  std::uint16_t next_ = kFirstListenerPort;
};

base::Result<base::UniqueFd> BindListener(const base::IpAddress& address, PortWalk& ports) {
  base::UniqueFd fd(::socket(RawFamily(address), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) {
    return base::SystemError("create a listener");
  }
  if (!address.is_v4()) {
    if (auto set = SetOption(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1); !set) {
      return std::unexpected(set.error());
    }
  }
  for (unsigned attempt = 0; attempt < kMaxBindAttempts; ++attempt) {
    const auto raw = base::ToSockaddr({.address = address, .port = ports.Next()});
    if (::bind(fd.get(), raw.get(), raw.length) == 0) {
      // What it accepts takes over this option and the application's own port: without it
      // an application that begins again could not bind its port while a tunnel is open.
      if (auto set = SetOption(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1); !set) {
        return std::unexpected(set.error());
      }
      return fd;
    }
    if (errno != EADDRINUSE && errno != EACCES) {
      break;
    }
  }
  return base::SystemError("bind a listener on " + address.ToString());
}

base::Result<seam::Listener> OpenListener(const ListenerPlan& plan, seam::ListenerKind kind,
                                          const base::IpAddress& address, PortWalk& ports) {
  auto fd = BindListener(address, ports);
  if (!fd) {
    return std::unexpected(fd.error());
  }
  if (::listen(fd->get(), plan.backlog) != 0) {
    return base::SystemError("listen on " + address.ToString());
  }
  auto bound = base::LocalEndpoint(fd->get());
  if (!bound) {
    return std::unexpected(bound.error());
  }
  return seam::Listener{.fd = std::move(*fd), .kind = kind, .owner = plan.owner, .bound = *bound};
}

// Marks a socket as the agent's own before it connects.
base::Result<void> FlagOwn(int sockets_map, int fd, const weir_leg& leg, bool transparent) {
  weir_sock value{};
  value.flags = WEIR_SOCK_OWN | (transparent ? WEIR_SOCK_TRANSPARENT : 0U);
  value.leg = leg;
  return MapSet(sockets_map, fd, value);
}

base::IpAddress LoopbackV4() {
  return base::IpAddress::V4(htonl(INADDR_LOOPBACK));
}
base::IpAddress LoopbackV6() {
  return base::IpAddress::V6(in6addr_loopback);
}

}  // namespace

base::Result<std::vector<KeyedListener>> OpenListeners(const ListenerPlan& plan) {
  PortWalk ports(LocalPortRange());
  std::vector<KeyedListener> listeners;
  for (unsigned worker = 0; worker < plan.worker_count; ++worker) {
    for (const auto kind : {seam::ListenerKind::kOutbound, seam::ListenerKind::kInbound}) {
      for (const bool v6 : {false, true}) {
        auto listener = OpenListener(plan, kind, v6 ? LoopbackV6() : LoopbackV4(), ports);
        if (!listener) {
          const int error = listener.error().sys_errno();
          if (v6 && (error == EADDRNOTAVAIL || error == EAFNOSUPPORT)) {
            continue;  // no IPv6 in this namespace, so nothing to take either
          }
          return std::unexpected(listener.error());
        }
        listeners.push_back(
            {.key = {.local_id = static_cast<std::uint32_t>(plan.owner),
                     .worker = static_cast<std::uint16_t>(worker),
                     .kind = static_cast<std::uint8_t>(kind == seam::ListenerKind::kOutbound
                                                           ? WEIR_LISTENER_OUTBOUND
                                                           : WEIR_LISTENER_INBOUND),
                     .is_v6 = static_cast<std::uint8_t>(v6 ? 1 : 0)},
             .worker = worker,
             .listener = std::move(*listener)});
      }
    }
  }
  return listeners;
}

base::Result<void> LegMaker::MakeTransparent(int fd, int family) const {
  auto set = family == AF_INET ? SetOption(fd, IPPROTO_IP, IP_TRANSPARENT, 1)
                               : SetOption(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);
  if (set) {
    set = SetOption(fd, SOL_SOCKET, SO_MARK, fwmark_);
  }
  if (set) {
    // So that an application can still bind a port that a leg happens to have.
    set = SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  }
  return set;
}

base::Result<void> LegMaker::BindLeg(int fd, const base::IpAddress& source, const LegPorts& ports,
                                     unsigned first_attempt) {
  for (unsigned attempt = first_attempt; attempt < kMaxLegAttempts; ++attempt) {
    const std::uint32_t turn = next_turn_.fetch_add(1, std::memory_order_relaxed);
    const auto raw =
        base::ToSockaddr({.address = source, .port = PickLegPort(ports, turn, attempt)});
    if (::bind(fd, raw.get(), raw.length) == 0) {
      return {};
    }
    if (errno != EADDRINUSE) {
      break;
    }
  }
  return base::SystemError("bind a transparent leg to " + source.ToString());
}

base::Result<base::UniqueFd> LegMaker::Connect(const seam::ConnectRequest& request) {
  const int family = RawFamily(request.destination.address);
  const auto raw = base::ToSockaddr(request.destination);
  const weir_leg leg{.kind = static_cast<std::uint16_t>(request.kind),
                     .worker = static_cast<std::uint16_t>(request.worker),
                     .request_handle = request.request_handle};
  int error = EADDRINUSE;
  for (unsigned attempt = 0; attempt < kMaxLegAttempts; ++attempt) {
    auto made = table_.MakeSocket(request.from, family);
    if (!made) {
      return std::unexpected(made.error());
    }
    const int fd = made->fd.get();
    const bool transparent = request.transparent_source.has_value();
    if (auto flagged = FlagOwn(sockets_map_, fd, leg, transparent); !flagged) {
      return std::unexpected(flagged.error());
    }
    if (transparent) {
      auto ready = MakeTransparent(fd, family);
      ready = ready ? BindLeg(fd, *request.transparent_source, made->ports, attempt) : ready;
      if (!ready) {
        return std::unexpected(ready.error());
      }
    }
    if (::connect(fd, raw.get(), raw.length) == 0 || errno == EINPROGRESS) {
      return std::move(made->fd);
    }
    error = errno;
    // The hook or the kernel found a live connection with this tuple: another port, on
    // another socket, because a bound one keeps its port.
    if (!transparent || (error != EADDRINUSE && error != EADDRNOTAVAIL)) {
      break;
    }
  }
  return std::unexpected(base::Error(
      base::ErrorCode::kUnavailable,
      base::SystemError("connect to " + request.destination.ToString(), error).error().message(),
      error));
}

weir_address ToAbi(const base::IpAddress& address) {
  weir_address result{};
  static_assert(sizeof(result) == sizeof(address.bytes()));
  std::memcpy(&result, address.bytes().data(), sizeof(result));
  return result;
}

base::IpAddress FromAbi(const weir_address& address) {
  in6_addr raw{};
  std::memcpy(&raw, &address, sizeof(raw));
  return base::IpAddress::V6(raw);
}

}  // namespace weir::datapath
