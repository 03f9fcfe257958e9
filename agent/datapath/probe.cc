#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <string_view>

#include "agent/datapath/datapath_impl.h"
#include "agent/datapath/netns.h"

namespace weir::datapath {
namespace {

constexpr int kProbeMilliseconds = 1000;

// Where a probe got stuck; also the exit status of the child that makes one.
enum class Stage : std::uint8_t { kDone, kSocket, kJoinCgroup, kConnect, kAnswer, kWrongAnswer };

struct Outcome {
  Stage stage = Stage::kDone;
  int error = 0;
};

std::string Describe(const Outcome& outcome) {
  const auto with_errno = [&](std::string_view what) {
    return base::SystemError(what, outcome.error).error().message();
  };
  switch (outcome.stage) {
    case Stage::kDone:
      return {};
    case Stage::kSocket:
      return with_errno("make a socket in the workload's namespace");
    case Stage::kJoinCgroup:
      return with_errno("join the workload's cgroup");
    case Stage::kConnect:
      return with_errno("connect: the hook did not lead it to a worker");
    case Stage::kAnswer:
      return with_errno("no answer from the worker");
    case Stage::kWrongAnswer:
      return "something else than the worker answered";
  }
  return {};
}

// The connection itself; only system calls, so that a forked child can make it.
Outcome Ask(int fd) {
  const auto raw = base::ToSockaddr(seam::kProbeDestination);
  pollfd wait{.fd = fd, .events = POLLOUT, .revents = 0};
  if (::connect(fd, raw.get(), raw.length) != 0) {
    if (errno != EINPROGRESS) {
      return {Stage::kConnect, errno};
    }
    if (::poll(&wait, 1, kProbeMilliseconds) != 1) {
      return {Stage::kConnect, ETIMEDOUT};
    }
    int error = 0;
    socklen_t length = sizeof(error);
    (void)::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      return {Stage::kConnect, error};
    }
  }
  constexpr std::size_t kAnswerBytes = sizeof(seam::kProbeAnswer) - 1;
  char answer[kAnswerBytes] = {};
  std::size_t have = 0;
  wait.events = POLLIN;
  while (have < kAnswerBytes) {
    if (::poll(&wait, 1, kProbeMilliseconds) != 1) {
      return {Stage::kAnswer, ETIMEDOUT};
    }
    const ssize_t got = ::recv(fd, answer + have, kAnswerBytes - have, 0);
    if (got <= 0) {
      return {Stage::kAnswer, got == 0 ? ECONNRESET : errno};
    }
    have += static_cast<std::size_t>(got);
  }
  return std::memcmp(answer, seam::kProbeAnswer, kAnswerBytes) == 0
             ? Outcome{}
             : Outcome{Stage::kWrongAnswer, 0};
}

int MakeSocket() {
  return ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

// In a child of a process with threads: nothing here may allocate or lock.
Outcome AskFromCgroup(const char* procs_path) {
  const int procs = ::open(procs_path, O_WRONLY | O_CLOEXEC);
  if (procs < 0 || ::write(procs, "0", 1) != 1) {
    return {Stage::kJoinCgroup, errno};
  }
  const int fd = MakeSocket();
  return fd < 0 ? Outcome{Stage::kSocket, errno} : Ask(fd);
}

template <typename Body>
SelfProbe Timed(Body body) {
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = body();
  return {.ok = outcome.stage == Stage::kDone,
          .detail = Describe(outcome),
          .duration = std::chrono::duration_cast<std::chrono::microseconds>(
              std::chrono::steady_clock::now() - start)};
}

}  // namespace

SelfProbe ProbeNamespace(int netns_fd, int home_fd) {
  return Timed([&]() -> Outcome {
    base::UniqueFd fd;
    {
      auto inside = InNetns::Enter(netns_fd, home_fd);
      if (!inside) {
        return {Stage::kSocket, inside.error().sys_errno()};
      }
      fd.Reset(MakeSocket());
    }
    return fd.valid() ? Ask(fd.get()) : Outcome{Stage::kSocket, errno};
  });
}

SelfProbe ProbeCgroup(const std::string& cgroup) {
  const std::string procs = cgroup + "/cgroup.procs";
  return Timed([&]() -> Outcome {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      return {Stage::kSocket, errno};
    }
    const base::UniqueFd read_end(ends[0]);
    base::UniqueFd write_end(ends[1]);
    const pid_t child = ::fork();
    if (child == 0) {
      (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
      // No copies: a socket that the agent closes meanwhile must close.
      (void)::close_range(3, static_cast<unsigned>(ends[1]) - 1, 0);
      (void)::close_range(static_cast<unsigned>(ends[1]) + 1, ~0U, 0);
      const Outcome outcome = AskFromCgroup(procs.c_str());
      (void)!::write(ends[1], &outcome, sizeof(outcome));
      ::_exit(0);
    }
    if (child < 0) {
      return {Stage::kSocket, errno};
    }
    write_end.Reset();
    Outcome outcome{Stage::kAnswer, ECHILD};  // unless the child says better
    (void)!::read(read_end.get(), &outcome, sizeof(outcome));
    (void)::waitpid(child, nullptr, 0);
    return outcome;
  });
}

base::Result<SelfProbe> DatapathImpl::Probe(model::LocalId id) {
  const auto found = workloads_.find(id);
  if (found == workloads_.end()) {
    return base::MakeError(base::ErrorCode::kNotFound, "probe: no such workload");
  }
  Workload& workload = found->second;
  const auto* match = std::get_if<CgroupPath>(&workload.wanted.match);
  workload.last_probe = match != nullptr ? ProbeCgroup(match->path)
                                         : ProbeNamespace(workload.ns->fd(), parts_.home.get());
  return workload.last_probe;
}

}  // namespace weir::datapath
