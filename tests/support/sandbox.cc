#include "tests/support/sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "agent/base/file.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace weir::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr std::string_view kMark = "weir-t";  // every name begins with it and the pid
constexpr std::size_t kMaxProcBytes = 4U << 20U;
constexpr auto kEmptyCgroupWait = 5s;

// A test cannot go on without its surroundings.
[[noreturn]] void Give(const std::string& what) {
  std::fprintf(stderr, "test sandbox: %s\n", what.c_str());
  std::abort();
}

void Must(bool ok, std::string_view what) {
  if (!ok) {
    Give(base::SystemError(what).error().ToString());
  }
}

void MustRun(const std::vector<std::string>& arguments) {
  if (auto done = RunCommand(arguments); !done) {
    Give(done.error().ToString());
  }
}

bool WriteText(const fs::path& path, std::string_view text) {
  const base::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd.valid() &&
         ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

std::string CgroupRoot() {
  const auto mounts = base::ReadFile("/proc/self/mountinfo", kMaxProcBytes);
  std::istringstream lines(mounts.value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (line.find(" - cgroup2 ") != std::string::npos) {
      std::istringstream words(line);
      std::string word;
      for (int i = 0; i < 5; ++i) {
        words >> word;
      }
      return word;
    }
  }
  Give("no cgroup2 tree is mounted");
}

std::string OwnCgroup() {
  const auto text = base::ReadFile("/proc/self/cgroup", kMaxProcBytes);
  std::istringstream lines(text.value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("0::")) {
      return CgroupRoot() + line.substr(3);
    }
  }
  Give("this process is in no cgroup2");
}

// Kills what still runs in the cgroup, waits until it is empty and removes it.
void RemoveCgroup(const fs::path& path) {
  std::error_code error;
  std::vector<fs::path> all{path};
  for (fs::recursive_directory_iterator at(path, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code ignored;
    if (at->is_directory(ignored)) {
      all.push_back(at->path());
    }
  }
  (void)WriteText(path / "cgroup.kill", "1");
  const auto deadline = std::chrono::steady_clock::now() + kEmptyCgroupWait;
  const base::UniqueFd events(::open((path / "cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
  while (events.valid() && std::chrono::steady_clock::now() < deadline) {
    std::array<char, 128> text{};
    const ssize_t got = ::pread(events.get(), text.data(), text.size() - 1, 0);
    if (got <= 0 || std::string_view(text.data()).find("populated 0") != std::string_view::npos) {
      break;
    }
    pollfd change{.fd = events.get(), .events = POLLPRI, .revents = 0};
    (void)::poll(&change, 1, 100);
  }
  for (auto at = all.rbegin(); at != all.rend(); ++at) {
    (void)::rmdir(at->c_str());
  }
}

// The process id in a name "weir-tPID-...", if that process is gone.
bool IsLeftover(std::string_view name) {
  if (!name.starts_with(kMark)) {
    return false;
  }
  name.remove_prefix(kMark.size());
  int pid = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
  return error == std::errc() && (end == name.data() + name.size() || *end == '-') &&
         ::kill(pid, 0) != 0 && errno == ESRCH;
}

void RemoveDirectory(const fs::path& path) {
  (void)::umount2((path / "bpf").c_str(), MNT_DETACH);
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

template <typename Remove>
void ForEachLeftover(const fs::path& directory, Remove remove) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (IsLeftover(entry.path().filename().string())) {
      found.push_back(entry.path());
    }
  }
  for (const auto& path : found) {
    remove(path);
  }
}

void SweepLeftovers() {
  ForEachLeftover(fs::temp_directory_path(), RemoveDirectory);
  ForEachLeftover(CgroupRoot(), RemoveCgroup);
  ForEachLeftover("/run/netns", [](const fs::path& path) {
    (void)::umount2(path.c_str(), MNT_DETACH);
    (void)::unlink(path.c_str());
  });
}

}  // namespace

Namespace::Inside::Inside(const Namespace& where)
    : home_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
  Must(home_.valid() && ::setns(where.fd(), CLONE_NEWNET) == 0, "enter " + where.name());
}

Namespace::Inside::~Inside() {
  Must(::setns(home_.get(), CLONE_NEWNET) == 0, "leave a namespace");
}

std::uint64_t Namespace::Cookie() const {
  return Run([] {
    const base::UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    std::uint64_t cookie = 0;
    socklen_t length = sizeof(cookie);
    Must(::getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) == 0,
         "read a namespace's cookie");
    return cookie;
  });
}

Sandbox::Sandbox() {
  static std::atomic<unsigned> serial{0};
  SweepLeftovers();
  prefix_ = std::string(kMark) + std::to_string(::getpid()) + "-" + std::to_string(++serial);
  directory_ = (fs::temp_directory_path() / prefix_).string();
  fs::create_directories(directory_ + "/bpf");
  Must(::mount("bpf", (directory_ + "/bpf").c_str(), "bpf", 0, nullptr) == 0, "mount a bpffs");
  former_cgroup_ = OwnCgroup();
  cgroup_ = CgroupRoot() + "/" + prefix_;
  Must(::mkdir(cgroup_.c_str(), 0755) == 0, "create " + cgroup_);
  Must(WriteText(cgroup_ + "/cgroup.procs", "0"), "enter " + cgroup_);
}

Sandbox::~Sandbox() {
  Must(WriteText(former_cgroup_ + "/cgroup.procs", "0"), "leave " + cgroup_);
  RemoveCgroup(cgroup_);
  while (!namespaces_.empty()) {
    RemoveNamespace(*namespaces_.back());
  }
  RemoveDirectory(directory_);
}

std::string Sandbox::AddCgroup(const std::string& name) {
  const std::string path = cgroup_ + "/" + name;
  Must(::mkdir(path.c_str(), 0755) == 0, "create " + path);
  return path;
}

Namespace& Sandbox::AddNamespace(const std::string& name) {
  const std::string full = prefix_ + "-" + name;
  MustRun({"ip", "netns", "add", full});
  base::UniqueFd fd(::open(("/run/netns/" + full).c_str(), O_RDONLY | O_CLOEXEC));
  Must(fd.valid(), "open " + full);
  namespaces_.push_back(std::make_unique<Namespace>(full, std::move(fd)));
  MustRun({"ip", "-n", full, "link", "set", "lo", "up"});
  return *namespaces_.back();
}

Namespace& Sandbox::AddBridge(const std::string& name, unsigned subnet) {
  Namespace& ns = AddNamespace(name);
  const std::string number = std::to_string(subnet);
  std::ofstream(directory_ + "/batch") << "link add br0 type bridge\n"
                                       << "link set br0 up\n"
                                       << "addr add 198.18." << number << ".1/24 dev br0\n"
                                       << "addr add fd00:" << number << "::1/64 dev br0 nodad\n";
  MustRun({"ip", "-n", ns.name(), "-batch", directory_ + "/batch"});
  Must(ns.Run([] {
    return WriteText("/proc/sys/net/ipv4/ip_forward", "1") &&
           WriteText("/proc/sys/net/ipv6/conf/all/forwarding", "1");
  }),
       "forward between pods");
  bridges_.push_back({.ns = &ns, .subnet = subnet});
  return ns;
}

Pod Sandbox::AddPod(const std::string& name, Namespace& bridge) {
  Bridge* found = nullptr;
  for (auto& candidate : bridges_) {
    found = candidate.ns == &bridge ? &candidate : found;
  }
  if (found == nullptr) {
    Give(bridge.name() + " is no bridge of this sandbox");
  }
  Pod pod;
  pod.ns = &AddNamespace(name);
  const std::string host = std::to_string(2 + found->pods++);
  const std::string v4_net = "198.18." + std::to_string(found->subnet) + ".";
  const std::string v6_net = "fd00:" + std::to_string(found->subnet) + "::";
  pod.v4 = v4_net + host;
  pod.v6 = v6_net + host;
  std::ofstream(directory_ + "/batch")
      << "link add veth" << host << " type veth peer name eth0 netns " << pod.ns->name() << "\n"
      << "link set veth" << host << " master br0 up\n";
  MustRun({"ip", "-n", bridge.name(), "-batch", directory_ + "/batch"});
  // A link-local address would come up some time later, in the middle of a comparison.
  std::ofstream(directory_ + "/batch") << "link set eth0 addrgenmode none\n"
                                       << "link set eth0 up\n"
                                       << "addr add " << pod.v4 << "/24 dev eth0\n"
                                       << "addr add " << pod.v6 << "/64 dev eth0 nodad\n"
                                       << "route add default via " << v4_net << "1\n"
                                       << "route add default via " << v6_net << "1\n";
  MustRun({"ip", "-n", pod.ns->name(), "-batch", directory_ + "/batch"});
  return pod;
}

void Sandbox::RemoveNamespace(Namespace& ns) {
  (void)::umount2(ns.path().c_str(), MNT_DETACH);
  (void)::unlink(ns.path().c_str());
  std::erase_if(bridges_, [&](const Bridge& bridge) { return bridge.ns == &ns; });
  std::erase_if(namespaces_, [&](const auto& owned) { return owned.get() == &ns; });
}

base::Result<std::string> RunCommand(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (const auto& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));  // execve's signature
  }
  argv.push_back(nullptr);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return base::SystemError("make a pipe");
  }
  const base::UniqueFd read_end(ends[0]);
  base::UniqueFd write_end(ends[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDERR_FILENO);
  pid_t pid = -1;
  const int failed = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  write_end.Reset();
  if (failed != 0) {
    return base::SystemError("run " + arguments[0], failed);
  }
  std::string output;
  std::array<char, 4096> chunk{};
  for (ssize_t got = 0; (got = ::read(read_end.get(), chunk.data(), chunk.size())) > 0;) {
    output.append(chunk.data(), static_cast<std::size_t>(got));
  }
  int status = 0;
  (void)::waitpid(pid, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    std::string line;
    for (const auto& argument : arguments) {
      line += argument + " ";
    }
    return base::MakeError(base::ErrorCode::kSystem, line + "failed: " + output);
  }
  return output;
}

Child::Child(const std::function<int()>& body) {
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  Must(pid_ >= 0, "fork");
  if (pid_ == 0) {
    (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) {
      ::_exit(1);
    }
    ::_exit(body());
  }
}

Child::~Child() {
  if (pid_ > 0) {
    Kill();
  }
}

void Child::Kill() {
  (void)::kill(pid_, SIGKILL);
  (void)Wait();
}

int Child::Wait() {
  int status = 0;
  (void)::waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace weir::test
