#include "agent/export/log_stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "agent/client/resolve.h"

namespace weir::telemetry {
namespace {

using std::chrono::steady_clock;

// A peer that acknowledges nothing for so long is given up (tcp(7)).
constexpr int kUserTimeoutMilliseconds = 120'000;
constexpr std::size_t kMaxDiscardBytes = 64U << 10U;  // at a time

int MillisecondsUntil(const steady_clock::time_point* deadline) {
  if (deadline == nullptr) {
    return -1;
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - steady_clock::now());
  return static_cast<int>(std::max<std::chrono::milliseconds::rep>(left.count(), 0));
}

}  // namespace

LogStream::LogStream(std::string_view target, int stop_fd, const std::atomic<bool>& stopped)
    : target_(target), stop_fd_(stop_fd), stopped_(stopped) {
  target.remove_prefix(std::min(kTcpScheme.size(), target.size()));
  const std::size_t colon = std::min(target.rfind(':'), target.size());
  host_ = target.substr(0, colon);
  if (host_.starts_with('[') && host_.ends_with(']')) {
    host_ = host_.substr(1, host_.size() - 2);
  }
  const std::string_view port = target.substr(std::min(colon + 1, target.size()));
  (void)std::from_chars(port.data(), port.data() + port.size(), port_);  // 0 is refused below
}

base::Result<void> LogStream::Open() {
  const auto deadline = steady_clock::now() + kConnectTimeout;
  const auto addresses = client::ResolveHost(host_, deadline, stopped_);
  if (!addresses) {
    return std::unexpected(addresses.error());
  }
  base::Result<void> result =
      base::MakeError(base::ErrorCode::kUnavailable, "log " + target_ + ": no address");
  for (const base::IpAddress& address : *addresses) {
    result = Connect({.address = address, .port = port_}, deadline);
    if (result) {
      return {};
    }
    fd_.Reset();
  }
  return result;
}

base::Result<void> LogStream::Connect(const base::Endpoint& peer,
                                      steady_clock::time_point deadline) {
  const base::RawSocketAddress at = base::ToSockaddr(peer);
  fd_.Reset(::socket(at.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd_.valid()) {
    return base::SystemError("make a socket for log " + target_);
  }
  const int on = 1;
  (void)::setsockopt(fd_.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));  // a help only
  (void)::setsockopt(fd_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeoutMilliseconds,
                     sizeof(kUserTimeoutMilliseconds));
  if (::connect(fd_.get(), at.get(), at.length) == 0) {
    return {};
  }
  if (errno != EINPROGRESS) {
    return base::SystemError("connect log " + target_);
  }
  if (auto ready = AwaitRoom(&deadline); !ready) {
    return ready;
  }
  int error = 0;
  socklen_t error_size = sizeof(error);
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &error_size) != 0 || error != 0) {
    return base::SystemError("connect log " + target_, error != 0 ? error : errno);
  }
  return {};
}

base::Result<void> LogStream::AwaitRoom(const steady_clock::time_point* deadline) {
  pollfd waits[2] = {{.fd = stop_fd_, .events = POLLIN, .revents = 0},
                     {.fd = fd_.get(), .events = POLLOUT, .revents = 0}};
  while (::poll(waits, 2, MillisecondsUntil(deadline)) < 0) {
    if (errno != EINTR) {
      return base::SystemError("wait for log " + target_);
    }
  }
  if (waits[1].revents == 0) {
    return base::MakeError(base::ErrorCode::kTimeout, "log " + target_ + " takes nothing");
  }
  return {};
}

base::Result<void> LogStream::Discard() {
  std::array<char, 4096> bytes;
  for (std::size_t total = 0; total < kMaxDiscardBytes;) {
    const ssize_t count = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count > 0) {
      total += static_cast<std::size_t>(count);
    } else if (count == 0) {
      return base::MakeError(base::ErrorCode::kUnavailable, "log " + target_ + " was closed");
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      return base::SystemError("write log " + target_);
    }
  }
  return {};
}

LogOutput::Outcome LogStream::Write(std::string_view lines) {
  Outcome outcome{.written_bytes = 0, .result = Discard()};
  while (outcome.result && outcome.written_bytes < lines.size()) {
    const std::string_view rest = lines.substr(outcome.written_bytes);
    const ssize_t count = ::send(fd_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (count >= 0) {
      outcome.written_bytes += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN) {
      outcome.result = AwaitRoom(nullptr);
    } else if (errno != EINTR) {
      outcome.result = base::SystemError("write log " + target_);
    }
  }
  // A line that was cut off is sent again, whole, on the next connection.
  const std::size_t last = lines.substr(0, outcome.written_bytes).rfind('\n');
  outcome.written_bytes = last == std::string_view::npos ? 0 : last + 1;
  return outcome;
}

}  // namespace weir::telemetry
