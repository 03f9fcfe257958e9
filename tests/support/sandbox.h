#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"

// Network namespaces, a cgroup subtree and a BPF file system of a test's own. Every
// name carries the test's process id; what dead processes left is swept when the next
// sandbox is made, so a killed test leaves nothing for long.
namespace weir::test {

// Namespace is one network namespace, with a name in /run/netns so that
// `ip netns exec` works while debugging. Loopback is up.
class Namespace {
 public:
  Namespace(std::string name, base::UniqueFd fd) : name_(std::move(name)), fd_(std::move(fd)) {}
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::string path() const { return "/run/netns/" + name_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  // SO_NETNS_COOKIE of its sockets.
  [[nodiscard]] std::uint64_t Cookie() const;

  // Runs `body` with the calling thread inside the namespace and returns its result.
  template <typename Body>
  auto Run(Body body) const {
    const Inside inside(*this);
    return body();
  }
  // Starts a thread that lives inside the namespace.
  template <typename Body>
  std::thread Thread(Body body) const {
    return std::thread([this, body = std::move(body)]() mutable { Run(std::move(body)); });
  }

 private:
  class Inside {
   public:
    explicit Inside(const Namespace& where);
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
    ~Inside();

   private:
    base::UniqueFd home_;
  };
  std::string name_;
  base::UniqueFd fd_;
};

// One end of a bridge: a namespace with eth0, an IPv4 and an IPv6 address on it, and
// default routes to the bridge.
struct Pod {
  Namespace* ns = nullptr;
  std::string v4;  // "198.18.7.2"
  std::string v6;  // "fd00:7::2"
};

// Sandbox is a test's world; everything in it goes with it. One per test; a failure to
// build it ends the test with the reason.
class Sandbox {
 public:
  // Also moves this process into cgroup(), so that hooks attached there see its sockets.
  Sandbox();
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;
  ~Sandbox();

  // A directory of its own, below the system's temporary directory.
  [[nodiscard]] const std::string& directory() const { return directory_; }
  // A directory inside a BPF file system of its own.
  [[nodiscard]] std::string bpffs() const { return directory_ + "/bpf"; }
  // The cgroup2 directory that this process was moved into.
  [[nodiscard]] const std::string& cgroup() const { return cgroup_; }
  // Makes a cgroup below cgroup() and returns its path.
  std::string AddCgroup(const std::string& name);

  // A namespace that is connected to nothing.
  Namespace& AddNamespace(const std::string& name);
  // A namespace with the bridge br0, which has the addresses 198.18.`subnet`.1/24 and
  // fd00:`subnet`::1/64 and forwards.
  Namespace& AddBridge(const std::string& name, unsigned subnet);
  // A pod on such a bridge; the first gets host number 2.
  Pod AddPod(const std::string& name, Namespace& bridge);
  // Unmounts and forgets a namespace, as `ip netns del` does.
  void RemoveNamespace(Namespace& ns);

 private:
  struct Bridge {
    Namespace* ns = nullptr;
    unsigned subnet = 0;
    unsigned pods = 0;
  };
  std::string prefix_;
  std::string directory_;
  std::string cgroup_;
  std::string former_cgroup_;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  std::vector<std::string> names_;
  std::vector<Bridge> bridges_;
};

// What a command printed; fails with its output if it does not end with 0.
base::Result<std::string> RunCommand(const std::vector<std::string>& arguments);

// A child process that runs `body` and then exits with what it returns; killed and
// reaped when this goes. Only for bodies that start their own threads.
class Child {
 public:
  explicit Child(const std::function<int()>& body);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();
  [[nodiscard]] pid_t pid() const { return pid_; }
  void Kill();  // SIGKILL, and waits
  // Waits for its end; the exit status, or 128 + signal.
  int Wait();

 private:
  pid_t pid_ = -1;
};

}  // namespace weir::test
