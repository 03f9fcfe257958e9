#include "agent/datapath/programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <utility>

#include "agent/datapath/skeleton.h"
#include "cgroups.skel.h"
#include "connect.skel.h"
#include "getpeername.skel.h"
#include "listen_end.skel.h"
#include "listeners.skel.h"
#include "lookup.skel.h"
#include "sockops.skel.h"

namespace weir::datapath {
namespace {

constexpr std::size_t kMaxLogBytes = 4096;

thread_local std::string captured_log;  // libbpf calls back on the thread that calls it

int CaptureMessage(libbpf_print_level level, const char* format, std::va_list arguments) {
  if (level == LIBBPF_DEBUG) {
    return 0;
  }
  std::array<char, 2048> line{};
  const int length = std::vsnprintf(line.data(), line.size(), format, arguments);
  captured_log += line.data();
  if (captured_log.size() > kMaxLogBytes) {
    captured_log.erase(0, captured_log.size() - kMaxLogBytes);
  }
  return length;
}

// Reads an iterator to its end; the program does its work on the way.
base::Result<void> RunIterator(const bpf_program* program) {
  bpf_link* link = ::bpf_program__attach_iter(program, nullptr);
  if (link == nullptr) {
    return LibbpfError("attach the listener iterator", errno);
  }
  const BpfLink owner(link);
  const base::UniqueFd fd(::bpf_iter_create(::bpf_link__fd(link)));
  if (!fd.valid()) {
    return LibbpfError("start the listener iterator", errno);
  }
  std::array<char, 64> ignored{};
  for (;;) {
    const ssize_t got = ::read(fd.get(), ignored.data(), ignored.size());
    if (got == 0) {
      return {};
    }
    if (got < 0 && errno != EAGAIN && errno != EINTR) {
      return base::SystemError("read the listener iterator");
    }
  }
}

// Tries to load and attach it.
bool ProbeFentry() {
  const Skeleton<struct listen_end, listen_end__destroy> probe(listen_end__open());
  if (!probe.valid()) {
    return false;
  }
  (void)::bpf_program__set_autoload(probe->progs.weir_state, false);
  if (listen_end__load(probe.operator->()) != 0) {
    return false;
  }
  const BpfLink link(::bpf_program__attach_trace(probe->progs.weir_listen_stop));
  return link.valid();
}

bool IsTracing(Hook hook) {
  return hook == Hook::kListenEnd || hook == Hook::kCgroupMkdir || hook == Hook::kCgroupRmdir;
}

struct CloseRing {
  void operator()(ring_buffer* ring) const { ::ring_buffer__free(ring); }
};

class LoadedPrograms final : public Programs {
 public:
  explicit LoadedPrograms(unsigned worker_count)
      : connect_(connect__open()),
        getpeername_(getpeername__open()),
        sockops_(sockops__open()),
        listeners_(listeners__open()),
        listen_end_(listen_end__open()),
        cgroups_(cgroups__open()),
        worker_count_(worker_count) {}

  base::Result<void> Load();
  [[nodiscard]] int map(Map which) const override {
    return ::bpf_object__find_map_fd_by_name(connect_->obj, NameOf(which));
  }
  [[nodiscard]] std::uint32_t id(Hook hook) const override;
  [[nodiscard]] bool has_fentry() const override { return has_fentry_; }
  [[nodiscard]] bool sees_cgroups() const override { return ring_ != nullptr; }
  [[nodiscard]] int arrivals_fd() const override {
    return ring_ == nullptr ? -1 : ::ring_buffer__epoll_fd(ring_.get());
  }
  void TakeArrivals() override {
    if (ring_ != nullptr) {
      (void)::ring_buffer__consume(ring_.get());  // the callback cannot fail
    }
  }
  [[nodiscard]] base::Result<BpfLink> Attach(Hook hook, int cgroup_fd) const override;
  [[nodiscard]] base::Result<void> Replace(Hook hook, BpfLink& link) const override {
    return link.Update(ProgramOf(hook));
  }
  [[nodiscard]] base::Result<BpfLink> AttachLookup(int netns_fd, std::uint64_t cookie,
                                                   std::optional<BpfLink> former) const override;
  [[nodiscard]] base::Result<void> CountListeners() const override {
    return RunIterator(listeners_->progs.weir_count_listeners);
  }

 private:
  static const char* NameOf(Map which);
  [[nodiscard]] const bpf_program* ProgramOf(Hook hook) const;
  void LoadCgroups();
  base::Result<void> LoadSharing(bpf_object_skeleton* skeleton, bpf_object* object,
                                 const char* name) const;

  Skeleton<struct connect, connect__destroy> connect_;
  Skeleton<struct getpeername, getpeername__destroy> getpeername_;
  Skeleton<struct sockops, sockops__destroy> sockops_;
  Skeleton<struct listeners, listeners__destroy> listeners_;
  Skeleton<struct listen_end, listen_end__destroy> listen_end_;
  Skeleton<struct cgroups, cgroups__destroy> cgroups_;
  std::unique_ptr<ring_buffer, CloseRing> ring_;  // of cgroups_; null: not seen
  unsigned worker_count_;
  bool has_fentry_ = false;
};

const char* LoadedPrograms::NameOf(Map which) {
  for (const auto& [map, name] : kMapNames) {
    if (map == which) {
      return name;
    }
  }
  return "";
}

base::Result<void> LoadedPrograms::LoadSharing(bpf_object_skeleton* skeleton, bpf_object* object,
                                               const char* name) const {
  if (auto shared = ShareMaps(*this, object); !shared) {
    return shared;
  }
  if (const int error = ::bpf_object__load_skeleton(skeleton); error != 0) {
    return LibbpfError(std::string("load the ") + name + " programs", error);
  }
  return {};
}

base::Result<void> LoadedPrograms::Load() {
  if (!connect_.valid() || !getpeername_.valid() || !sockops_.valid() || !listeners_.valid() ||
      !listen_end_.valid()) {
    return LibbpfError("open the BPF programs", errno);
  }
  has_fentry_ = ProbeFentry();
  (void)TakeLibbpfLog();  // a refusal there is no failure
  connect_->rodata->weir_worker_count = worker_count_;
  if (const int error = connect__load(connect_.operator->()); error != 0) {
    return LibbpfError("load the connect programs", error);
  }
  if (auto loaded = LoadSharing(getpeername_->skeleton, getpeername_->obj, "getpeername");
      !loaded) {
    return loaded;
  }
  if (auto loaded = LoadSharing(sockops_->skeleton, sockops_->obj, "sockops"); !loaded) {
    return loaded;
  }
  if (auto loaded = LoadSharing(listeners_->skeleton, listeners_->obj, "listeners"); !loaded) {
    return loaded;
  }
  (void)::bpf_program__set_autoload(
      has_fentry_ ? listen_end_->progs.weir_state : listen_end_->progs.weir_listen_stop, false);
  LoadCgroups();
  return LoadSharing(listen_end_->skeleton, listen_end_->obj, "listen_end");
}

// Optional: without it a unit is enrolled when the agent has found it.
void LoadedPrograms::LoadCgroups() {
  if (cgroups_.valid() && LoadSharing(cgroups_->skeleton, cgroups_->obj, "cgroups")) {
    ring_.reset(::ring_buffer__new(
        ::bpf_map__fd(cgroups_->maps.weir_arrived), [](void*, void*, std::size_t) { return 0; },
        nullptr, nullptr));
  }
  (void)TakeLibbpfLog();  // a refusal is shown as a missing feature
}

const bpf_program* LoadedPrograms::ProgramOf(Hook hook) const {
  switch (hook) {
    case Hook::kConnect4:
      return connect_->progs.weir_connect4;
    case Hook::kConnect6:
      return connect_->progs.weir_connect6;
    case Hook::kGetpeername4:
      return getpeername_->progs.weir_getpeername4;
    case Hook::kGetpeername6:
      return getpeername_->progs.weir_getpeername6;
    case Hook::kSockops:
      return sockops_->progs.weir_sockops;
    case Hook::kListenEnd:
      return has_fentry_ ? listen_end_->progs.weir_listen_stop : listen_end_->progs.weir_state;
    case Hook::kCgroupMkdir:
      return cgroups_->progs.weir_cgroup_mkdir;
    case Hook::kCgroupRmdir:
      return cgroups_->progs.weir_cgroup_rmdir;
  }
  return nullptr;
}

std::uint32_t LoadedPrograms::id(Hook hook) const {
  bpf_prog_info info{};
  std::uint32_t length = sizeof(info);
  const int fd = ::bpf_program__fd(ProgramOf(hook));
  return ::bpf_obj_get_info_by_fd(fd, &info, &length) == 0 ? info.id : 0;
}

base::Result<BpfLink> LoadedPrograms::Attach(Hook hook, int cgroup_fd) const {
  const bpf_program* program = ProgramOf(hook);
  bpf_link* link = IsTracing(hook) ? ::bpf_program__attach_trace(program)
                                   : ::bpf_program__attach_cgroup(program, cgroup_fd);
  if (link == nullptr) {
    return LibbpfError(std::string("attach the hook ") + ToString(hook), errno);
  }
  return BpfLink(link);
}

base::Result<BpfLink> LoadedPrograms::AttachLookup(int netns_fd, std::uint64_t cookie,
                                                   std::optional<BpfLink> former) const {
  const Skeleton<struct lookup, lookup__destroy> object(lookup__open());
  if (!object.valid()) {
    return LibbpfError("open the lookup program", errno);
  }
  object->rodata->weir_netns_cookie = cookie;
  object->rodata->weir_worker_count = worker_count_;
  if (auto loaded = LoadSharing(object->skeleton, object->obj, "lookup"); !loaded) {
    return std::unexpected(loaded.error());
  }
  if (former) {
    if (auto updated = former->Update(object->progs.weir_lookup); !updated) {
      return std::unexpected(updated.error());
    }
    return std::move(*former);
  }
  bpf_link* link = ::bpf_program__attach_netns(object->progs.weir_lookup, netns_fd);
  if (link == nullptr) {
    return LibbpfError("attach the lookup program to a network namespace", errno);
  }
  return BpfLink(link);
}

}  // namespace

std::unexpected<base::Error> LibbpfError(const std::string& what, int error) {
  auto result = base::SystemError(what, error < 0 ? -error : error);
  const std::string log = TakeLibbpfLog();
  if (!log.empty()) {
    result = base::SystemError(what + " [" + log + "]", error < 0 ? -error : error);
  }
  if (result.error().code() == base::ErrorCode::kPermission) {
    return std::unexpected(base::Error(result.error())
                               .WithRemedy("run with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON "
                                           "and CAP_SYS_ADMIN (root)"));
  }
  return result;
}

base::Result<void> ShareMaps(const Programs& programs, bpf_object* object) {
  for (const auto& [which, name] : kMapNames) {
    bpf_map* map = ::bpf_object__find_map_by_name(object, name);
    if (map == nullptr) {
      return base::MakeError(base::ErrorCode::kInternal, std::string("no map ") + name);
    }
    if (const int error = ::bpf_map__reuse_fd(map, programs.map(which)); error != 0) {
      return LibbpfError(std::string("share the map ") + name, error);
    }
  }
  return {};
}

BpfLink& BpfLink::operator=(BpfLink&& other) noexcept {
  if (this != &other) {
    Reset();
    link_ = std::exchange(other.link_, nullptr);
  }
  return *this;
}

base::Result<std::optional<BpfLink>> BpfLink::OpenPinned(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) {
    return std::nullopt;
  }
  bpf_link* link = ::bpf_link__open(path.c_str());
  if (link == nullptr) {
    return LibbpfError("open the pinned link " + path, errno);
  }
  return BpfLink(link);
}

base::Result<BpfLink::Info> BpfLink::info() const {
  bpf_link_info raw{};
  std::uint32_t length = sizeof(raw);
  if (link_ == nullptr || ::bpf_obj_get_info_by_fd(::bpf_link__fd(link_), &raw, &length) != 0) {
    return base::SystemError("ask for a link");
  }
  std::uint64_t target = 1;
  if (raw.type == BPF_LINK_TYPE_NETNS) {
    target = raw.netns.netns_ino;
  } else if (raw.type == BPF_LINK_TYPE_CGROUP) {
    target = raw.cgroup.cgroup_id;
  }
  return Info{.link_id = raw.id, .program_id = raw.prog_id, .target = target};
}

bool BpfLink::pinned() const {
  return link_ != nullptr && ::bpf_link__pin_path(link_) != nullptr;
}

base::Result<void> BpfLink::Update(const bpf_program* program) {
  if (::bpf_link_update(::bpf_link__fd(link_), ::bpf_program__fd(program), nullptr) != 0) {
    return LibbpfError("exchange the program of a link", errno);
  }
  return {};
}

base::Result<void> BpfLink::Pin(const std::string& path) {
  if (pinned()) {
    return {};
  }
  if (const int error = ::bpf_link__pin(link_, path.c_str()); error != 0) {
    return LibbpfError("pin " + path, error);
  }
  return {};
}

base::Result<void> BpfLink::Unpin() {
  if (!pinned()) {
    return {};
  }
  if (const int error = ::bpf_link__unpin(link_); error != 0) {
    return LibbpfError("remove a pin", error);
  }
  return {};
}

void BpfLink::Reset() {
  if (link_ != nullptr) {
    // Only closes the descriptor: a pinned link lives on.
    ::bpf_link__destroy(std::exchange(link_, nullptr));
  }
}

const char* ToString(Hook hook) {
  switch (hook) {
    case Hook::kConnect4:
      return "connect4";
    case Hook::kConnect6:
      return "connect6";
    case Hook::kGetpeername4:
      return "getpeername4";
    case Hook::kGetpeername6:
      return "getpeername6";
    case Hook::kSockops:
      return "sockops";
    case Hook::kListenEnd:
      return "listen_end";
    case Hook::kCgroupMkdir:
      return "cgroup_mkdir";
    case Hook::kCgroupRmdir:
      return "cgroup_rmdir";
  }
  return "";
}

base::Result<std::unique_ptr<Programs>> Programs::Load(unsigned worker_count) {
  CaptureLibbpfLog();
  auto programs = std::make_unique<LoadedPrograms>(worker_count);
  if (auto loaded = programs->Load(); !loaded) {
    return std::unexpected(loaded.error());
  }
  return programs;
}

void CaptureLibbpfLog() {
  captured_log.clear();
  ::libbpf_set_print(CaptureMessage);
}

std::string TakeLibbpfLog() {
  std::string log = std::exchange(captured_log, {});
  while (!log.empty() && log.back() == '\n') {
    log.pop_back();
  }
  for (char& c : log) {
    c = c == '\n' ? ';' : c;  // errors are one line
  }
  return log;
}

}  // namespace weir::datapath
