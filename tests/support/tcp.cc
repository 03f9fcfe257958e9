#include "tests/support/tcp.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "agent/io/socket.h"

namespace weir::test {
namespace {

base::Endpoint EndpointOf(const std::string& address, std::uint16_t port) {
  auto parsed = base::IpAddress::Parse(address);
  if (!parsed) {
    std::fprintf(stderr, "test: %s\n", parsed.error().ToString().c_str());
    std::abort();
  }
  return {.address = *parsed, .port = port};
}

template <typename Value>
bool Set(int fd, int level, int option, const Value& value) {
  return ::setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

bool WaitFor(int fd, short events, std::chrono::milliseconds wait) {
  pollfd entry{.fd = fd, .events = events, .revents = 0};
  return ::poll(&entry, 1, static_cast<int>(wait.count())) == 1;
}

}  // namespace

base::UniqueFd Listen(const std::string& address, std::uint16_t port,
                      const ListenOptions& options) {
  const base::Endpoint endpoint = EndpointOf(address, port);
  const int family = endpoint.address.is_v4() ? AF_INET : AF_INET6;
  base::UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  (void)Set(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (options.reuse_port) {
    (void)Set(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  }
  if (family == AF_INET6) {
    (void)Set(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, options.dual_stack ? 0 : 1);
  }
  const base::RawSocketAddress raw = base::ToSockaddr(endpoint);
  if (::bind(fd.get(), raw.get(), raw.length) != 0 || ::listen(fd.get(), 512) != 0) {
    std::perror(("test: listen on " + endpoint.ToString()).c_str());
    std::abort();
  }
  return fd;
}

std::uint16_t PortOf(int fd) {
  const auto local = base::LocalEndpoint(fd);
  return local ? local->port : 0;
}

base::Result<base::UniqueFd> Dial(const std::string& address, std::uint16_t port,
                                  const DialOptions& options) {
  const base::Endpoint endpoint = EndpointOf(address, port);
  const int family = endpoint.address.is_v4() && !options.mapped ? AF_INET : AF_INET6;
  base::UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (options.mark != 0 && !Set(fd.get(), SOL_SOCKET, SO_MARK, options.mark)) {
    return base::SystemError("mark a socket");
  }
  if (!options.device.empty() &&
      ::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, options.device.data(),
                   static_cast<socklen_t>(options.device.size())) != 0) {
    return base::SystemError("bind a socket to " + options.device);
  }
  if (options.source || options.source_port != 0) {
    (void)Set(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    const base::Endpoint source = EndpointOf(
        options.source.value_or(endpoint.address.is_v4() ? "0.0.0.0" : "::"), options.source_port);
    const base::RawSocketAddress raw = base::ToSockaddr(source, options.mapped);
    if (::bind(fd.get(), raw.get(), raw.length) != 0) {
      return base::SystemError("bind " + source.ToString());
    }
  }
  // SO_SNDTIMEO bounds a blocking connect, with EINPROGRESS at its end.
  const timeval limit{.tv_sec = kTcpWait.count() / 1000, .tv_usec = 0};
  (void)Set(fd.get(), SOL_SOCKET, SO_SNDTIMEO, limit);
  const base::RawSocketAddress raw = base::ToSockaddr(endpoint, options.mapped);
  if (::connect(fd.get(), raw.get(), raw.length) != 0) {
    return base::SystemError("connect to " + endpoint.ToString(),
                             errno == EINPROGRESS ? ETIMEDOUT : errno);
  }
  return fd;
}

base::UniqueFd AcceptOne(int listener, std::chrono::milliseconds wait) {
  if (!WaitFor(listener, POLLIN, wait)) {
    return {};
  }
  return base::UniqueFd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
}

bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) {
      return false;
    }
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

std::optional<std::string> ReadAll(int fd, std::size_t limit) {
  std::string bytes;
  std::array<char, 16384> chunk{};
  while (bytes.size() < limit && WaitFor(fd, POLLIN, kTcpWait)) {
    const ssize_t got = ::recv(fd, chunk.data(), std::min(chunk.size(), limit - bytes.size()), 0);
    if (got < 0) {
      return std::nullopt;
    }
    if (got == 0) {
      break;
    }
    bytes.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return bytes;
}

}  // namespace weir::test
