#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/datapath/programs.h"
#include "agent/seam/causality.h"
#include "bpf/abi/causality.h"

struct bpf_object;

namespace weir::datapath {

// Name of a kernel tracepoint that finding parents needs, and whether the kernel has it.
struct Tracepoint {
  const char* name;
  bool available = false;
};
// By the kernel's type information. sock_recv_length came with 6.3, tcp_sendmsg_locked with
// 6.16.
std::vector<Tracepoint> ProbeTracepoints();

// A hint of the program, bounds checked.
seam::ParentHint FromAbi(const weir_hint& hint);

// ParentProgram is bpf/progs/parent.bpf.c, loaded and attached for as long as this lives.
class ParentProgram {
 public:
  // Shares the maps of `programs`. An error says what the kernel lacks; then requests have
  // parents by their headers only.
  static base::Result<std::unique_ptr<ParentProgram>> Load(const Programs& programs);
  ParentProgram(const ParentProgram&) = delete;
  ParentProgram& operator=(const ParentProgram&) = delete;
  virtual ~ParentProgram() = default;

  // The array of WEIR_SLOT_COUNT slots, mapped into this process.
  [[nodiscard]] virtual weir_slot* slots() const = 0;
  // A workload was enrolled: nothing is concluded for 30 s from what processes do that are
  // older, since they may be serving requests that nobody saw them read.
  virtual void NoteEnrolment() = 0;
  // Descriptor of the hints' map.
  [[nodiscard]] virtual int hints() const = 0;
  // Loaded, for whoever shares its maps; lives as long as this.
  [[nodiscard]] virtual bpf_object* object() const = 0;
  // How many processes of workloads with RuntimeHooks::go were seen for the first time.
  [[nodiscard]] virtual std::uint64_t go_arrivals() const = 0;

 protected:
  ParentProgram() = default;
};

}  // namespace weir::datapath
