#pragma once

#include <memory>

#include "agent/base/error.h"
#include "agent/datapath/go_binary.h"
#include "agent/datapath/parent_program.h"
#include "agent/datapath/programs.h"

namespace weir::datapath {

// The probes in one Go program; destroying them takes them out of its code.
struct GoProbes {
  BpfLink round_trip;
  BpfLink write_loop;
};

// RuntimeProgram is bpf/progs/runtime.bpf.c, loaded: what runtimes say goes to the maps of
// the parent program. Nothing is attached by loading, and nothing outlives the agent.
class RuntimeProgram {
 public:
  // Both outlive the result. An error says what the kernel lacks.
  static base::Result<std::unique_ptr<RuntimeProgram>> Load(const Programs& programs,
                                                            const ParentProgram& parent);
  RuntimeProgram(const RuntimeProgram&) = delete;
  RuntimeProgram& operator=(const RuntimeProgram&) = delete;
  virtual ~RuntimeProgram() = default;

  // Puts probes into the file open as `fd`, for everybody who runs it. kUnsupported on
  // machines other than x86_64.
  [[nodiscard]] virtual base::Result<GoProbes> ProbeGo(int fd,
                                                       const GoHttpFunctions& functions) const = 0;
  // Takes the marks of Node.js programs below a cgroup directory, as long as the link lives.
  [[nodiscard]] virtual base::Result<BpfLink> TakeNodeMarks(int cgroup_fd) const = 0;

 protected:
  RuntimeProgram() = default;
};

}  // namespace weir::datapath
