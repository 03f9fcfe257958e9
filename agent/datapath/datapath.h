#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "agent/base/error.h"
#include "agent/model/snapshot.h"
#include "agent/seam/causality.h"
#include "agent/seam/interception.h"

// Everything between weir and the kernel: the BPF programs that lead connections to
// the workers, the sockets inside workloads' namespaces, and what must be undone.
// No type of libbpf is visible here.
namespace weir::datapath {

// What one Datapath works on. Several may share a machine when cgroup_path (or the
// workloads) and bpffs_dir differ.
struct Options {
  // Directory of a cgroup2 tree that the connect hooks are attached to; sockets made
  // outside of it are not seen. Empty: the root of the machine's cgroup2 mount.
  std::string cgroup_path;
  // Where hooks that must outlive the agent are pinned; inside a mounted BPF file
  // system. It also names the instance: leftovers of another one are left alone.
  std::string bpffs_dir = "/sys/fs/bpf/weir";
  unsigned worker_count = 1;
  // Mark of transparent legs, and the routing table (one rule and one local route, for
  // IPv4 and IPv6 each, in every enrolled namespace) that leads the replies back.
  std::uint32_t fwmark = 0x77656972;
  std::uint32_t route_table = 30569;
  std::uint32_t rule_priority = 90;
  // Of each listener of a worker.
  int listen_backlog = 1024;
};

// A network namespace, by a path that names it (/run/netns/x, /proc/PID/ns/net).
struct NetnsPath {
  std::string path;
};
// A cgroup2 directory, whose processes live in the agent's own network namespace.
struct CgroupPath {
  std::string path;
};

// One workload to intercept.
struct Enrolment {
  model::LocalId id = model::LocalId::kNone;
  std::string name;  // for messages
  std::variant<NetnsPath, CgroupPath> match;
  model::OnAgentDown on_agent_down = model::OnAgentDown::kClosed;
  // By cgroup only: ports whose listening socket is this workload's even if it was made
  // outside of its cgroup (socket activation).
  std::vector<std::uint16_t> ports;
  // Whether the parents of its outbound requests are looked for in the kernel.
  bool infer_parents = false;
  // With infer_parents: runtimes that are asked first.
  model::RuntimeHooks runtime_hooks{};
};

// A cgroup that a closed workload's processes will be in once somebody makes it.
struct ExpectedCgroup {
  std::string name;    // of its directory
  std::string parent;  // directory that it is made in; empty: anywhere (a systemd unit)
};

// One kernel feature, found out by trying it.
struct Feature {
  std::string name;       // "sk_lookup program"
  std::string needed_by;  // what weir does with it
  bool available = false;
  std::string fallback;  // what happens without it; empty: weir does not start
  std::string detail;    // the kernel's answer where it is missing
};

// What a self-probe found: an ordinary socket of the workload was led to a worker and
// the worker answered.
struct SelfProbe {
  bool ok = false;
  std::string detail;  // where it got stuck; empty when ok
  std::chrono::microseconds duration{0};
};

// One enrolled workload as `weir status` shows it.
struct EnrolmentStatus {
  model::LocalId id = model::LocalId::kNone;
  std::string name;
  std::uint64_t netns_cookie = 0;
  std::uint64_t cgroup_id = 0;  // 0: enrolled by namespace
  std::uint32_t lookup_link_id = 0;
  bool lookup_link_alive = false;   // still attached to the namespace
  unsigned listeners_expected = 0;  // over all workers
  unsigned listeners_alive = 0;
  unsigned listening_ports = 0;  // sockets of applications that inbound connections are taken for
  bool closed_when_agent_down = true;
  SelfProbe last_probe;  // of the last Probe() of it
};

// A counter of the programs, over all CPUs since the agent started.
struct KernelCounter {
  std::string hook;    // "connect", "lookup", "sockops"
  std::string reason;  // "redirected", "own-socket", ...
  std::uint64_t value = 0;
  bool is_loss = false;  // a connection was refused or its record lost, not just led somewhere
};

// One of the hooks shared by all workloads.
struct HookStatus {
  std::string name;  // "connect4"
  std::uint32_t link_id = 0;
  std::uint32_t program_id = 0;
  bool attached = false;  // the link still leads to the cgroup and runs our program
  bool pinned = false;
};

enum class CheckOutcome : std::uint8_t { kOk, kWarn, kFail, kNotApplicable, kUnknown };

// One check of `weir check`.
struct CheckResult {
  std::string code;      // "WK104"
  std::string category;  // "kernel", "system"
  CheckOutcome outcome = CheckOutcome::kUnknown;
  std::string fact;    // with numbers
  std::string remedy;  // a command, where there is one
};

// Connections of a workload that are older than its enrolment and stay outside (WK302).
struct PreexistingConnections {
  model::LocalId id = model::LocalId::kNone;
  std::string name;
  unsigned count = 0;
  std::vector<std::string> examples;  // "198.18.0.2:41000 -> 198.18.0.3:5432", at most 5
};

// Datapath owns the programs, maps and links, and every namespace handle. The control
// thread calls everything below "control"; the seam interfaces are for workers.
class Datapath : public seam::SocketFactory, public seam::Redirections, public seam::Causality {
 public:
  // Loads the programs and attaches the shared hooks; takes the pins of an earlier run
  // over, whose closed workloads stay refused until they are enrolled again or
  // DropUnclaimed() is called. Fails with one line that names the missing thing and
  // the remedy (kPermission, kUnsupported, kNotFound, kAlreadyExists when another
  // agent holds bpffs_dir), and then leaves everything as it was.
  static base::Result<std::unique_ptr<Datapath>> Create(Options options);
  // As Stop().
  ~Datapath() override = default;

  // Control. Starts intercepting a workload; the result holds the new listeners of each
  // worker by its index, to be accepted from soon. kNotFound: no such namespace or
  // cgroup; kAlreadyExists: enrolled already under another id. On failure nothing is
  // left behind.
  virtual base::Result<std::vector<std::vector<seam::Listener>>> Enrol(const Enrolment&) = 0;
  // Control. Undoes everything that Enrol did; the workers close their listeners.
  virtual base::Result<void> Unenrol(model::LocalId id) = 0;
  // Control. Cgroups of closed workloads that may be made from now on, all of them: each is
  // refused in both directions from its birth until it is enrolled, also while no agent
  // runs. A parent that does not exist yet is for a later call; a name of 120 bytes or more
  // is not supported and has no effect. Without the kernel's help (see Features) nothing
  // happens. Only cgroups that root makes count.
  virtual base::Result<void> Expect(const std::vector<ExpectedCgroup>& cgroups) = 0;
  // Control. A descriptor of this object's that is readable when an expected cgroup was
  // made, until TakeArrivals(); -1 where the kernel does not tell.
  [[nodiscard]] virtual int arrivals_fd() const = 0;
  virtual void TakeArrivals() = 0;
  // Control. Changes what happens to a workload while no agent runs.
  virtual base::Result<void> SetOnAgentDown(model::LocalId id, model::OnAgentDown mode) = 0;
  // Control. Changes Enrolment::infer_parents; connections that are open may still be judged
  // by the former.
  virtual base::Result<void> SetInferParents(model::LocalId id, bool infer) = 0;
  // Control. Changes Enrolment::runtime_hooks, for connections that are opened from now on.
  virtual base::Result<void> SetRuntimeHooks(model::LocalId id,
                                             const model::RuntimeHooks& hooks) = 0;
  // Control. Forgets closed workloads of an earlier run that were not enrolled again:
  // call it once the configuration has been enrolled. Returns how many.
  virtual unsigned DropUnclaimed() = 0;

  // Control, about once a second. Brings listening ports, local addresses and the Go programs
  // that are probed up to date
  // and returns the workloads whose namespace or cgroup is gone, to be un-enrolled.
  virtual std::vector<model::LocalId> Sweep() = 0;

  // Control. A real connection of the workload's to seam::kProbeDestination; blocks at
  // most about a second, so a worker must be running.
  virtual base::Result<SelfProbe> Probe(model::LocalId id) = 0;
  [[nodiscard]] virtual std::vector<EnrolmentStatus> Status() const = 0;
  [[nodiscard]] virtual std::vector<HookStatus> Hooks() const = 0;
  [[nodiscard]] virtual std::vector<KernelCounter> Counters() const = 0;
  [[nodiscard]] virtual const std::vector<Feature>& Features() const = 0;
  [[nodiscard]] virtual std::vector<PreexistingConnections> Preexisting() const = 0;
  // The cgroup2 directory in use (found or given).
  [[nodiscard]] virtual const std::string& cgroup_path() const = 0;

  // Control, once. Open workloads are un-enrolled; closed ones stay refused in both
  // directions by the pinned hooks. Nothing may be called afterwards.
  virtual void Stop() = 0;
};

// Removes everything that any earlier run with this bpffs_dir left on the machine: pins
// and so links and programs, rules, routes and sysctls. kAlreadyExists while an agent
// runs on it. Needs no running agent.
base::Result<void> UninstallNode(const Options& options);

// What a start needs of the machine before anything else: privileges (kPermission), a
// kernel and its type information (kUnsupported). Cheap; changes nothing.
base::Result<void> CheckMachine();

// The checks WK101 to WK110 on this machine, without an agent and without changing
// anything. `workload_count` is for the limits (WK109).
std::vector<CheckResult> Preflight(const Options& options, unsigned workload_count);

}  // namespace weir::datapath
