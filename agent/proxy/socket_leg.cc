#include "agent/proxy/socket_leg.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "agent/io/socket.h"

namespace weir::proxy {
namespace {

constexpr int kKeepAliveIdleSeconds = 60;  // F18
constexpr int kKeepAliveIntervalSeconds = 10;
constexpr int kKeepAliveProbes = 3;

void SetOption(int fd, int level, int option, int value) {
  (void)::setsockopt(fd, level, option, &value, sizeof(value));  // a socket without it works
}

}  // namespace

void SetLegOptions(int fd) {
  io::SetNoDelay(fd);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveIntervalSeconds);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

observe::Reason ReasonOf(int sys_errno) {
  switch (sys_errno) {
    case ECONNREFUSED:
      return observe::Reason::kUpstreamRefused;
    case ETIMEDOUT:
      return observe::Reason::kUpstreamTimeout;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
      return observe::Reason::kUpstreamReset;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return observe::Reason::kLimitReached;
    default:
      return observe::Reason::kUpstreamUnreachable;
  }
}

SocketLeg::SocketLeg(io::EventLoop& loop, io::MutableBytes scratch, LegOwner& owner,
                     base::UniqueFd fd, State state)
    : loop_(loop), scratch_(scratch), owner_(owner), fd_(std::move(fd)), state_(state) {}

SocketLeg::~SocketLeg() {
  watch_.CloseWith(fd_);
}

std::uint32_t SocketLeg::WantedEvents() const {
  const bool read = state_ == State::kOpen && !paused_ && !ended_;
  const bool write = state_ == State::kConnecting || !pending_.empty();
  return (read ? EPOLLIN | EPOLLRDHUP : 0U) | (write ? EPOLLOUT : 0U);
}

bool SocketLeg::Start() {
  if (state_ == State::kConnecting && io::IsConnected(fd_.get())) {
    state_ = State::kOpen;
  }
  return Register();
}

bool SocketLeg::Register() {
  auto watch = loop_.Add(fd_.get(), WantedEvents(), *this);
  if (!watch) {
    return false;
  }
  watch_ = std::move(*watch);
  return true;
}

base::UniqueFd SocketLeg::Release() {
  watch_.Reset();
  state_ = State::kClosed;
  return std::move(fd_);
}

void SocketLeg::UpdateWatch() {
  const std::uint32_t wanted = WantedEvents();
  if (watch_.active()) {
    watch_.Want(wanted);
  } else if (hung_up_ && wanted != 0U && state_ != State::kClosed) {
    hung_up_ = false;
    if (!Register()) {
      Fail(ENOMEM);
    }
  }
}

void SocketLeg::OnEvents(std::uint32_t events) noexcept {
  if (state_ == State::kConnecting) {
    OnConnectResult();
    return;
  }
  const bool reads = !paused_ && !ended_;
  if ((events & EPOLLERR) != 0U && !reads) {
    // What was received before the error is given up: nobody has room for it.
    Fail(io::TakeSocketError(fd_.get()));
    return;
  }
  if (const std::uint32_t wanted = WantedEvents();
      (events & (EPOLLIN | EPOLLRDHUP | EPOLLOUT) & ~wanted) != 0U) {
    watch_.Modify(wanted);
  }
  if ((events & EPOLLOUT) != 0U && !pending_.empty()) {
    OnWritable();
  }
  if (state_ != State::kOpen) {
    return;
  }
  if ((events & (EPOLLIN | EPOLLERR)) != 0U && !paused_ && !ended_) {
    OnReadable(events);  // gives what came before an error, then the error
  } else if ((events & EPOLLHUP) != 0U) {
    // Both directions are closed, which epoll reports whether asked or not; with bytes
    // that nobody wants yet it would do so in every turn.
    watch_.Reset();
    hung_up_ = true;
  }
}

void SocketLeg::OnConnectResult() {
  const int error = io::TakeSocketError(fd_.get());
  if (error != 0) {
    Fail(error);
    return;
  }
  state_ = State::kOpen;
  owner_.OnLegOpen(*this);
  if (state_ == State::kOpen && (!pending_.empty() || fin_wanted_)) {
    OnWritable();
  }
  UpdateWatch();
}

void SocketLeg::OnReadable(std::uint32_t events) {
  // Last bytes and the end of the stream go on together.
  if (ReadOnce() && (events & EPOLLRDHUP) != 0U && state_ == State::kOpen && !paused_) {
    (void)ReadOnce();
  }
}

bool SocketLeg::ReadOnce() {
  const ssize_t count = ::recv(fd_.get(), scratch_.data(), scratch_.size(), 0);
  if (count > 0) {
    owner_.OnLegData(*this, scratch_.first(static_cast<std::size_t>(count)));
    return true;
  }
  if (count < 0) {
    if (errno != EAGAIN && errno != EINTR) {
      Fail(errno);
    }
    return false;
  }
  ended_ = true;
  owner_.OnLegEnd(*this);
  UpdateWatch();
  return false;
}

void SocketLeg::OnWritable() {
  std::size_t flushed = 0;
  if (!pending_.empty()) {
    const io::Bytes bytes = pending_.Readable();
    const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0) {
      if (errno != EAGAIN && errno != EINTR) {
        Fail(errno);
      }
      return;
    }
    flushed = static_cast<std::size_t>(count);
    pending_.Consume(flushed);
  }
  if (pending_.empty()) {
    pending_.Trim();
    if (fin_wanted_) {
      SendFin();
    }
    UpdateWatch();
  }
  if (flushed > 0) {
    owner_.OnLegFlushed(*this, flushed);
  }
}

void SocketLeg::Write(io::Bytes first, io::Bytes second) {
  if (state_ == State::kClosed) {
    return;
  }
  if (state_ == State::kOpen && pending_.empty()) {
    const std::size_t taken = SendNow(first, second);
    const std::size_t of_first = std::min(taken, first.size());
    first = first.subspan(of_first);
    second = second.subspan(taken - of_first);
  }
  pending_.Append(first);
  pending_.Append(second);
  UpdateWatch();
}

// A broken connection takes nothing; epoll reports it, outside of this call.
std::size_t SocketLeg::SendNow(io::Bytes first, io::Bytes second) {
  if (first.empty()) {
    std::swap(first, second);
  }
  ssize_t count = 0;
  if (second.empty()) {
    count = ::send(fd_.get(), first.data(), first.size(), MSG_NOSIGNAL);
  } else {
    const auto part = [](io::Bytes bytes) {
      // sendmsg does not write to what it sends.
      return iovec{.iov_base = const_cast<std::uint8_t*>(bytes.data()), .iov_len = bytes.size()};
    };
    std::array<iovec, 2> parts = {part(first), part(second)};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    count = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
  }
  return count < 0 ? 0 : static_cast<std::size_t>(count);
}

void SocketLeg::ShutdownWrite() {
  if (state_ == State::kClosed || fin_wanted_) {
    return;
  }
  fin_wanted_ = true;
  if (state_ == State::kOpen && pending_.empty()) {
    SendFin();
  }
}

void SocketLeg::SendFin() {
  if (ended_) {
    Close();
  } else {
    (void)::shutdown(fd_.get(), SHUT_WR);  // fails only when the connection is gone already
  }
}

void SocketLeg::Close() {
  state_ = State::kClosed;
  watch_.CloseWith(fd_);
  pending_.Clear();
  pending_.Trim();
}

void SocketLeg::PauseReading() {
  paused_ = true;
  UpdateWatch();
}

void SocketLeg::ResumeReading() {
  paused_ = false;
  UpdateWatch();
}

void SocketLeg::Reset(observe::Reason reason) {
  (void)reason;  // TCP cannot say why
  if (state_ == State::kClosed) {
    return;
  }
  io::ResetOnClose(fd_.get());
  Close();
}

void SocketLeg::Fail(int sys_errno) {
  if (state_ == State::kClosed) {
    return;
  }
  Close();
  owner_.OnLegFailed(*this, ReasonOf(sys_errno));
}

}  // namespace weir::proxy
