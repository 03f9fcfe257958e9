#include "agent/datapath/parent_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>

#include "agent/datapath/skeleton.h"
#include "parent.skel.h"

namespace weir::datapath {
namespace {

constexpr std::size_t kSlotsBytes = WEIR_SLOT_COUNT * sizeof(weir_slot);
constexpr unsigned kKernelMinorBits = 20;

// This process as the program recognises it: by its pid in its own pid namespace.
weir_agent_process ThisProcess() {
  weir_agent_process process{};
  struct stat ns{};
  if (::stat("/proc/self/ns/pid", &ns) == 0) {
    process.pid_namespace_device = (std::uint64_t{::gnu_dev_major(ns.st_dev)} << kKernelMinorBits) |
                                   ::gnu_dev_minor(ns.st_dev);
    process.pid_namespace_inode = ns.st_ino;
    process.pid = static_cast<std::uint32_t>(::getpid());
  }
  return process;
}

class LoadedParentProgram final : public ParentProgram {
 public:
  LoadedParentProgram() : object_(parent__open()) {}
  LoadedParentProgram(const LoadedParentProgram&) = delete;
  LoadedParentProgram& operator=(const LoadedParentProgram&) = delete;
  ~LoadedParentProgram() override {
    if (slots_ != nullptr) {
      (void)::munmap(slots_, kSlotsBytes);
    }
  }

  base::Result<void> Load(const Programs& programs);
  [[nodiscard]] weir_slot* slots() const override { return slots_; }
  void NoteEnrolment() override;
  [[nodiscard]] int hints() const override { return ::bpf_map__fd(object_->maps.weir_hints); }
  [[nodiscard]] bpf_object* object() const override { return object_->obj; }
  [[nodiscard]] std::uint64_t go_arrivals() const override {
    return __atomic_load_n(&object_->bss->weir_go_arrivals, __ATOMIC_RELAXED);
  }

 private:
  Skeleton<struct parent, parent__destroy> object_;
  weir_slot* slots_ = nullptr;
};

base::Result<void> LoadedParentProgram::Load(const Programs& programs) {
  if (!object_.valid()) {
    return LibbpfError("open the parent program", errno);
  }
  object_->rodata->weir_agent = ThisProcess();
  if (auto shared = ShareMaps(programs, object_->obj); !shared) {
    return shared;
  }
  if (const int error = parent__load(object_.operator->()); error != 0) {
    return LibbpfError("load the parent program", error);
  }
  void* mapped = ::mmap(nullptr, kSlotsBytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                        ::bpf_map__fd(object_->maps.weir_slots), 0);
  if (mapped == MAP_FAILED) {
    return base::SystemError("map the slots of deliveries");
  }
  slots_ = static_cast<weir_slot*>(mapped);
  if (const int error = parent__attach(object_.operator->()); error != 0) {
    return LibbpfError("attach the parent program", error);
  }
  return {};
}

// The kernel gives the start of processes by this clock.
void LoadedParentProgram::NoteEnrolment() {
  timespec now{};
  (void)::clock_gettime(CLOCK_BOOTTIME, &now);  // cannot fail
  const auto since_boot = std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  object_->bss->weir_enrolled_ns = static_cast<std::uint64_t>(since_boot.count());
}

seam::HintSource SourceOf(std::uint32_t source) {
  switch (source) {
    case WEIR_PARENT_RUNTIME:
      return seam::HintSource::kRuntime;
    case WEIR_PARENT_TURN:
      return seam::HintSource::kTurn;
    case WEIR_PARENT_SOLE:
      return seam::HintSource::kSole;
    default:
      return seam::HintSource::kNone;
  }
}

}  // namespace

seam::ParentHint FromAbi(const weir_hint& hint) {
  seam::ParentHint result;
  const auto copy = [](const weir_span_ref& from, seam::SpanRef& to) {
    std::ranges::copy(from.trace_id, to.trace_id.begin());
    std::ranges::copy(from.span_id, to.span_id.begin());
  };
  result.source = SourceOf(hint.source);
  if (result.source != seam::HintSource::kNone) {
    copy(hint.parent.span, result.parent.span);
    result.parent.flags = hint.parent.flags;
    result.parent.SetTraceState(
        {hint.parent.state,
         std::min<std::size_t>(hint.parent.state_bytes, sizeof(hint.parent.state))});
    return result;
  }
  result.candidate_count =
      std::min<std::size_t>(hint.candidate_count, seam::ParentHint::kMaxCandidates);
  for (std::size_t i = 0; i < result.candidate_count; ++i) {
    copy(hint.candidates[i], result.candidates[i]);
  }
  return result;
}

std::vector<Tracepoint> ProbeTracepoints() {
  std::vector<Tracepoint> tracepoints = {{.name = "sock_recv_length"},
                                         {.name = "tcp_sendmsg_locked"},
                                         {.name = "inet_sock_set_state"}};
  for (auto& tracepoint : tracepoints) {
    tracepoint.available = ::libbpf_find_vmlinux_btf_id(tracepoint.name, BPF_TRACE_RAW_TP) > 0;
  }
  return tracepoints;
}

base::Result<std::unique_ptr<ParentProgram>> ParentProgram::Load(const Programs& programs) {
  for (const auto& tracepoint : ProbeTracepoints()) {
    if (!tracepoint.available) {
      return base::MakeError(base::ErrorCode::kUnsupported,
                             std::string("the kernel has no tracepoint ") + tracepoint.name);
    }
  }
  auto program = std::make_unique<LoadedParentProgram>();
  if (auto loaded = program->Load(programs); !loaded) {
    return std::unexpected(loaded.error());
  }
  return program;
}

}  // namespace weir::datapath
