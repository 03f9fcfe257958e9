#include "agent/datapath/hooked_runtimes.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "agent/datapath/processes.h"

namespace weir::datapath {
namespace {

constexpr unsigned kSweepsBetweenScans = 60;
constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;
// Reasons besides those of GoBinaryError.
constexpr char kTooMany[] = "too-many-programs";
constexpr char kAttachFailed[] = "attach-failed";
constexpr char kUnsupported[] = "unsupported-kernel";

}  // namespace

HookedRuntimes::HookedRuntimes(const ParentProgram* parent, std::unique_ptr<RuntimeProgram> program,
                               int cgroup_fd)
    : parent_(parent), program_(std::move(program)), cgroup_fd_(cgroup_fd) {
  for (const auto error :
       {GoBinaryError::kOtherMachine, GoBinaryError::kUnsupportedVersion, GoBinaryError::kMalformed,
        GoBinaryError::kTooLarge, GoBinaryError::kUnexpectedCode}) {
    failures_[std::string(ToString(error))] = 0;
  }
  for (const char* reason : {kTooMany, kAttachFailed, kUnsupported}) {
    failures_[reason] = 0;
  }
}

void HookedRuntimes::Set(model::LocalId id, const Place& place, const model::RuntimeHooks& wanted) {
  if (wanted == model::RuntimeHooks{}) {
    Remove(id);
    return;
  }
  if (program_ == nullptr) {
    ++failures_[kUnsupported];
    return;
  }
  workloads_[id] = {.place = place, .wanted = wanted};
  Rescan();
  SyncNode();
}

void HookedRuntimes::Remove(model::LocalId id) {
  if (workloads_.erase(id) == 0) {
    return;
  }
  for (auto& [file, program] : programs_) {
    program.users.erase(id);
  }
  DropUnused();
  SyncNode();
}

void HookedRuntimes::RemoveAll() {
  workloads_.clear();
  programs_.clear();
  node_.reset();
}

void HookedRuntimes::Sweep() {
  if (!AnyWants(&model::RuntimeHooks::go)) {
    return;
  }
  ++sweeps_;
  const auto arrivals = parent_->go_arrivals();
  if (arrivals != known_arrivals_ || sweeps_ >= kSweepsBetweenScans) {
    known_arrivals_ = arrivals;
    Rescan();
  }
}

unsigned HookedRuntimes::probed() const {
  return static_cast<unsigned>(std::ranges::count_if(
      programs_, [](const auto& item) { return item.second.probes.has_value(); }));
}

bool HookedRuntimes::AnyWants(bool model::RuntimeHooks::* runtime) const {
  return std::ranges::any_of(workloads_,
                             [&](const auto& item) { return item.second.wanted.*runtime; });
}

void HookedRuntimes::SyncNode() {
  if (!AnyWants(&model::RuntimeHooks::node)) {
    node_.reset();
    return;
  }
  if (!node_) {
    auto link = program_->TakeNodeMarks(cgroup_fd_);
    if (!link) {
      ++failures_[kAttachFailed];
      return;
    }
    node_ = std::move(*link);
  }
}

void HookedRuntimes::Rescan() {
  sweeps_ = 0;
  bytes_this_scan_ = 0;
  for (auto& [file, program] : programs_) {
    program.users.clear();
  }
  std::set<FileId> seen;
  for (const auto& [id, pids] : FindProcesses()) {
    for (const pid_t pid : pids) {
      LookAt(pid, id, seen);
    }
  }
  DropUnused();
}

void HookedRuntimes::DropUnused() {
  std::erase_if(programs_, [](const auto& item) { return item.second.users.empty(); });
}

std::map<model::LocalId, std::vector<pid_t>> HookedRuntimes::FindProcesses() const {
  std::map<model::LocalId, std::vector<pid_t>> found;
  bool by_namespace = false;
  for (const auto& [id, workload] : workloads_) {
    const auto* cgroup = std::get_if<std::string>(&workload.place);
    if (workload.wanted.go && cgroup != nullptr) {
      found[id] = ProcessesOfCgroup(*cgroup);
    }
    by_namespace = by_namespace || (workload.wanted.go && cgroup == nullptr);
  }
  if (!by_namespace) {
    return found;
  }
  const auto all = AllProcesses();
  for (const auto& [id, workload] : workloads_) {
    const auto* ns = std::get_if<NetnsIdentity>(&workload.place);
    if (!workload.wanted.go || ns == nullptr) {
      continue;
    }
    for (const auto& [pid, identity] : all) {
      if (identity == *ns) {
        found[id].push_back(pid);
      }
    }
  }
  return found;
}

void HookedRuntimes::LookAt(pid_t pid, model::LocalId id, std::set<FileId>& seen) {
  const std::string path = "/proc/" + std::to_string(pid) + "/exe";
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return;  // gone, or a kernel thread
  }
  const auto identify = [](const struct stat& of) {
    return FileId{.device = of.st_dev,
                  .inode = of.st_ino,
                  .size = of.st_size,
                  .changed_ns = of.st_ctim.tv_sec * kNanosecondsPerSecond + of.st_ctim.tv_nsec};
  };
  const FileId known = identify(status);
  if (const auto found = programs_.find(known); found != programs_.end()) {
    found->second.users.insert(id);
    return;
  }
  if (programs_.size() >= kMaxPrograms) {
    if (seen.insert(known).second) {
      ++failures_[kTooMany];
    }
    return;
  }
  if (bytes_this_scan_ > kMaxBytesPerScan) {
    sweeps_ = kSweepsBetweenScans;
    return;
  }
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return;
  }
  Program& program = programs_[identify(status)];
  if (program.users.empty()) {
    program.probes = Probe(fd.get());
  }
  program.users.insert(id);
}

std::optional<GoProbes> HookedRuntimes::Probe(int fd) {
  const FileSource file(fd);
  const auto functions = FindGoHttpFunctions(file);
  bytes_this_scan_ += file.bytes_read();
  if (!functions) {
    if (IsFailure(functions.error())) {
      ++failures_[std::string(ToString(functions.error()))];
    }
    return std::nullopt;
  }
  auto probes = program_->ProbeGo(fd, *functions);
  if (!probes) {
    ++failures_[kAttachFailed];
    return std::nullopt;
  }
  return std::move(*probes);
}

}  // namespace weir::datapath
