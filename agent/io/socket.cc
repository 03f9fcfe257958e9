#include "agent/io/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

namespace weir::io {
namespace {

base::Result<base::UniqueFd> MakeSocket(const base::Endpoint& address) {
  const int family = address.address.is_v4() ? AF_INET : AF_INET6;
  base::UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) {
    return base::SystemError("create a TCP socket");
  }
  return fd;
}

void SetOption(int fd, int level, int option, int value) {
  // Fails only on a descriptor that is no TCP socket; then nothing else works either.
  (void)::setsockopt(fd, level, option, &value, sizeof(value));
}

}  // namespace

base::Result<base::UniqueFd> ListenTcp(const base::Endpoint& address, int backlog) {
  auto fd = MakeSocket(address);
  if (!fd) {
    return fd;
  }
  if (!address.address.is_v4()) {
    SetOption(fd->get(), IPPROTO_IPV6, IPV6_V6ONLY, 1);
  }
  SetOption(fd->get(), SOL_SOCKET, SO_REUSEADDR, 1);
  const base::RawSocketAddress raw = base::ToSockaddr(address);
  if (::bind(fd->get(), raw.get(), raw.length) != 0) {
    return base::SystemError("bind " + address.ToString());
  }
  if (::listen(fd->get(), backlog) != 0) {
    return base::SystemError("listen on " + address.ToString());
  }
  return fd;
}

base::Result<base::UniqueFd> ConnectTcp(const base::Endpoint& address) {
  auto fd = MakeSocket(address);
  if (!fd) {
    return fd;
  }
  const base::RawSocketAddress raw = base::ToSockaddr(address);
  if (::connect(fd->get(), raw.get(), raw.length) != 0 && errno != EINPROGRESS) {
    return base::SystemError("connect to " + address.ToString());
  }
  return fd;
}

void SetNoDelay(int fd) {
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

void ResetOnClose(int fd) {
  const linger option{.l_onoff = 1, .l_linger = 0};
  (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, sizeof(option));
}

bool IsConnected(int fd) {
  pollfd state{.fd = fd, .events = POLLOUT, .revents = 0};
  return ::poll(&state, 1, 0) == 1 && state.revents == POLLOUT;
}

int TakeSocketError(int fd) {
  int error = 0;
  socklen_t length = sizeof(error);
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

}  // namespace weir::io
