#include "agent/export/log_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

namespace weir::telemetry {
namespace {

constexpr unsigned kMode = 0640;

// A socket (of a unit's journal) cannot be opened by its name.
int InheritedDescriptor(const std::string& path) {
  if (path == "/dev/stdout") {
    return STDOUT_FILENO;
  }
  return path == "/dev/stderr" ? STDERR_FILENO : -1;
}

}  // namespace

base::Result<void> LogFile::Open() {
  is_torn_ = false;
  // Non-blocking: a FIFO without a reader is an error, not a wait.
  fd_.Reset(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                   kMode));
  if (!fd_.valid() && errno == ENXIO && InheritedDescriptor(path_) >= 0) {
    fd_.Reset(::fcntl(InheritedDescriptor(path_), F_DUPFD_CLOEXEC, 0));
  }
  struct stat facts{};
  if (!fd_.valid() || ::fstat(fd_.get(), &facts) != 0) {
    const int error = errno;
    fd_.Reset();
    return base::SystemError("open log " + path_, error);
  }
  is_regular_ = S_ISREG(facts.st_mode);
  is_socket_ = S_ISSOCK(facts.st_mode);
  size_ = is_regular_ ? static_cast<std::uint64_t>(facts.st_size) : 0;
  return {};
}

bool LogFile::IsFull(std::uint64_t more_bytes, std::uint64_t limit) const {
  return is_regular_ && size_ > 0 && limit > 0 && size_ + more_bytes > limit;
}

base::Result<void> LogFile::Rotate(unsigned keep) {
  for (unsigned i = keep; i > 0; --i) {
    const std::string from = i == 1 ? path_ : path_ + "." + std::to_string(i - 1);
    const std::string to = path_ + "." + std::to_string(i);
    if (std::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT) {
      return base::SystemError("rename log " + from);
    }
  }
  return Open();
}

base::Result<void> LogFile::AwaitRoom() {
  pollfd waits[2] = {{.fd = stop_fd_, .events = POLLIN, .revents = 0},
                     {.fd = fd_.get(), .events = POLLOUT, .revents = 0}};
  while (::poll(waits, 2, -1) < 0) {
    if (errno != EINTR) {
      return base::SystemError("wait for log " + path_);
    }
  }
  if (waits[1].revents == 0) {
    return base::MakeError(base::ErrorCode::kTimeout, "log " + path_ + " takes nothing");
  }
  return {};
}

LogFile::Outcome LogFile::WriteBytes(std::string_view bytes) {
  Outcome outcome;
  while (outcome.written_bytes < bytes.size()) {
    const std::string_view rest = bytes.substr(outcome.written_bytes);
    const ssize_t count =
        is_socket_ ? ::send(fd_.get(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                   : ::write(fd_.get(), rest.data(), rest.size());
    if (count >= 0) {
      outcome.written_bytes += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN) {
      if (outcome.result = AwaitRoom(); !outcome.result) {
        return outcome;
      }
    } else if (errno != EINTR) {
      outcome.result = base::SystemError("write log " + path_);
      return outcome;
    }
  }
  return outcome;
}

LogFile::Outcome LogFile::Write(std::string_view lines) {
  if (is_torn_) {
    if (Outcome end = WriteBytes("\n"); !end.result) {
      return {.written_bytes = 0, .result = std::move(end.result)};
    }
    is_torn_ = false;
  }
  Outcome outcome = WriteBytes(lines);
  const std::size_t last = lines.substr(0, outcome.written_bytes).rfind('\n');
  const std::size_t whole = last == std::string_view::npos ? 0 : last + 1;
  if (whole != outcome.written_bytes) {
    // A regular file loses the part of a line; elsewhere the next line begins behind it.
    const auto good_size = static_cast<off_t>(size_ + whole);
    is_torn_ = !is_regular_ || ::ftruncate(fd_.get(), good_size) != 0;
    outcome.written_bytes = whole;
  }
  size_ += is_regular_ ? whole : 0;
  return outcome;
}

}  // namespace weir::telemetry
