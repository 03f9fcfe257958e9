#include "agent/datapath/runtime_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <string>

#include "agent/datapath/skeleton.h"
#include "runtime.skel.h"

namespace weir::datapath {
namespace {

// Of a name that a runtime.bpf.c for another machine does not have.
constexpr char kRoundTrip[] = "weir_go_round_trip";
constexpr char kWriteLoop[] = "weir_go_write_loop";

class LoadedRuntimeProgram final : public RuntimeProgram {
 public:
  LoadedRuntimeProgram() : object_(runtime__open()) {}

  base::Result<void> Load(const Programs& programs, const ParentProgram& parent);
  base::Result<GoProbes> ProbeGo(int fd, const GoHttpFunctions& functions) const override;
  base::Result<BpfLink> TakeNodeMarks(int cgroup_fd) const override;

 private:
  [[nodiscard]] base::Result<BpfLink> Probe(const char* name, int fd, std::uint64_t offset) const;

  Skeleton<struct runtime, runtime__destroy> object_;
};

base::Result<void> LoadedRuntimeProgram::Load(const Programs& programs,
                                              const ParentProgram& parent) {
  if (!object_.valid()) {
    return LibbpfError("open the runtime program", errno);
  }
  if (auto shared = ShareMaps(programs, object_->obj); !shared) {
    return shared;
  }
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object_->obj) {
    const bpf_map* same = ::bpf_object__find_map_by_name(parent.object(), ::bpf_map__name(map));
    const int error = same == nullptr ? 0 : ::bpf_map__reuse_fd(map, ::bpf_map__fd(same));
    if (error != 0) {
      return LibbpfError(std::string("share the map ") + ::bpf_map__name(map), error);
    }
  }
  if (const int error = runtime__load(object_.operator->()); error != 0) {
    return LibbpfError("load the runtime program", error);
  }
  return {};
}

base::Result<BpfLink> LoadedRuntimeProgram::Probe(const char* name, int fd,
                                                  std::uint64_t offset) const {
  const bpf_program* program = ::bpf_object__find_program_by_name(object_->obj, name);
  if (program == nullptr) {
    return base::MakeError(base::ErrorCode::kUnsupported,
                           "Go programs can be probed on x86_64 only");
  }
  // By the descriptor: the path may lead into another mount namespace, or elsewhere by now.
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  bpf_uprobe_opts options{};
  options.sz = sizeof(options);
  bpf_link* link =
      ::bpf_program__attach_uprobe_opts(program, /*pid=*/-1, path.c_str(), offset, &options);
  if (link == nullptr) {
    return LibbpfError("probe a Go program", errno);
  }
  return BpfLink(link);
}

base::Result<GoProbes> LoadedRuntimeProgram::ProbeGo(int fd,
                                                     const GoHttpFunctions& functions) const {
  auto write_loop = Probe(kWriteLoop, fd, functions.write_loop);
  if (!write_loop) {
    return std::unexpected(write_loop.error());
  }
  auto round_trip = Probe(kRoundTrip, fd, functions.round_trip);
  if (!round_trip) {
    return std::unexpected(round_trip.error());
  }
  return GoProbes{.round_trip = std::move(*round_trip), .write_loop = std::move(*write_loop)};
}

base::Result<BpfLink> LoadedRuntimeProgram::TakeNodeMarks(int cgroup_fd) const {
  bpf_link* link = ::bpf_program__attach_cgroup(object_->progs.weir_setsockopt, cgroup_fd);
  if (link == nullptr) {
    return LibbpfError("attach the setsockopt hook", errno);
  }
  return BpfLink(link);
}

}  // namespace

base::Result<std::unique_ptr<RuntimeProgram>> RuntimeProgram::Load(const Programs& programs,
                                                                   const ParentProgram& parent) {
  auto program = std::make_unique<LoadedRuntimeProgram>();
  if (auto loaded = program->Load(programs, parent); !loaded) {
    return std::unexpected(loaded.error());
  }
  return program;
}

}  // namespace weir::datapath
