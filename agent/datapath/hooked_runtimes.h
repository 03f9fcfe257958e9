#pragma once

#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "agent/base/unique_fd.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/netns.h"
#include "agent/datapath/parent_program.h"
#include "agent/datapath/runtime_program.h"

namespace weir::datapath {

// HookedRuntimes keeps the hooks in the runtimes of the workloads that asked for them: probes
// in the files of their Go programs, and the socket option hook for Node.js programs as long
// as one workload wants it. Control thread.
//
// A workload's processes are looked at when it is enrolled, within a second (the next Sweep)
// of a new one's first listen() or connect(), and once a minute, which also takes the probes
// out of files that no process runs any more. Probes belong to a file, so a program that is
// started again has them from its first instruction on.
class HookedRuntimes {
 public:
  // Files that probes are in, or that were looked at in vain, at once; others are not looked
  // at (counted as "too-many-programs").
  static constexpr std::size_t kMaxPrograms = 4096;
  // Once that much of new files was read, those that are left wait for the next Sweep.
  static constexpr std::uint64_t kMaxBytesPerScan = 256ULL << 20U;

  // `parent` and the result of Load outlive it; null where the kernel cannot.
  HookedRuntimes(const ParentProgram* parent, std::unique_ptr<RuntimeProgram> program,
                 int cgroup_fd);
  HookedRuntimes(const HookedRuntimes&) = delete;
  HookedRuntimes& operator=(const HookedRuntimes&) = delete;
  ~HookedRuntimes() = default;

  // The workload's processes: those of a cgroup directory, or of a network namespace.
  using Place = std::variant<std::string, NetnsIdentity>;
  // What a workload wants from now on. What cannot be had is counted.
  void Set(model::LocalId id, const Place& place, const model::RuntimeHooks& wanted);
  void Remove(model::LocalId id);
  void RemoveAll();
  // About once a second.
  void Sweep();

  // Files with probes in them now.
  [[nodiscard]] unsigned probed() const;
  // How often something was not understood or could not be done, by reason.
  [[nodiscard]] const std::map<std::string, std::uint64_t>& failures() const { return failures_; }

 private:
  struct Workload {
    Place place;
    model::RuntimeHooks wanted;
  };
  // A file, as long as it is not written to.
  struct FileId {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    std::int64_t changed_ns = 0;
    friend auto operator<=>(const FileId&, const FileId&) = default;
  };
  struct Program {
    std::optional<GoProbes> probes;  // empty: nothing to probe
    std::set<model::LocalId> users;
  };

  void Rescan();
  [[nodiscard]] std::map<model::LocalId, std::vector<pid_t>> FindProcesses() const;
  void LookAt(pid_t pid, model::LocalId id, std::set<FileId>& seen);
  [[nodiscard]] std::optional<GoProbes> Probe(int fd);
  void DropUnused();
  void SyncNode();
  [[nodiscard]] bool AnyWants(bool model::RuntimeHooks::* runtime) const;

  const ParentProgram* parent_;
  std::unique_ptr<RuntimeProgram> program_;
  int cgroup_fd_;
  std::map<model::LocalId, Workload> workloads_;
  std::map<FileId, Program> programs_;
  std::optional<BpfLink> node_;
  std::map<std::string, std::uint64_t> failures_;
  std::uint64_t known_arrivals_ = 0;
  unsigned sweeps_ = 0;                // since the last scan
  std::uint64_t bytes_this_scan_ = 0;  // of new files
};

}  // namespace weir::datapath
