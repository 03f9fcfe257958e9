#include "agent/datapath/datapath.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "agent/datapath/bpf_map.h"
#include "agent/datapath/datapath_impl.h"

namespace weir::datapath {
namespace {

constexpr unsigned kMaxWorkers = 512;

base::Result<std::string> ChooseCgroup(const Options& options) {
  if (!options.cgroup_path.empty()) {
    auto known = IdentifyCgroup(options.cgroup_path);
    return known ? base::Result<std::string>(options.cgroup_path) : std::unexpected(known.error());
  }
  auto mount = FindCgroupMount();
  return mount ? base::Result<std::string>(mount->path) : std::unexpected(mount.error());
}

// Closed entries of an earlier run's map, now nobody's, copied into the new one.
std::set<std::uint64_t> AdoptClosed(const std::string& pin, int fresh_map) {
  std::set<std::uint64_t> adopted;
  const base::UniqueFd former = OpenPinnedMap(pin, sizeof(std::uint64_t), sizeof(weir_workload));
  if (!former.valid()) {
    return adopted;
  }
  for (const auto key : MapKeys<std::uint64_t>(former.get())) {
    const auto entry = MapGet<weir_workload>(former.get(), key);
    if (entry && (entry->flags & WEIR_WORKLOAD_CLOSED) != 0 &&
        MapSet(fresh_map, key, weir_workload{.local_id = 0, .flags = WEIR_WORKLOAD_CLOSED})) {
      adopted.insert(key);
    }
  }
  return adopted;
}

}  // namespace

base::Result<std::unique_ptr<Datapath>> Datapath::Create(Options options) {
  options.worker_count = std::clamp(options.worker_count, 1U, kMaxWorkers);
  auto cgroup_path = ChooseCgroup(options);
  if (!cgroup_path) {
    return std::unexpected(cgroup_path.error());
  }
  base::UniqueFd cgroup(::open(cgroup_path->c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup.valid()) {
    return base::SystemError("open the cgroup " + *cgroup_path);
  }
  auto home = OpenOwnNetns();
  if (!home) {
    return std::unexpected(home.error());
  }
  auto pins = PinDirectory::Lock(options.bpffs_dir);
  if (!pins) {
    return std::unexpected(pins.error());
  }
  auto programs = Programs::Load(options.worker_count);
  if (!programs) {
    return std::unexpected(programs.error());
  }
  auto features = ProbeFeatures(**programs);
  auto parent = ParentProgram::Load(**programs);
  const base::Result<void> loaded = parent ? base::Result<void>() : std::unexpected(parent.error());
  auto runtime = parent ? RuntimeProgram::Load(**programs, **parent)
                        : base::Result<std::unique_ptr<RuntimeProgram>>(base::MakeError(
                              base::ErrorCode::kUnsupported, "the parent program is missing"));
  const base::Result<void> asked =
      runtime ? base::Result<void>() : std::unexpected(runtime.error());
  std::ranges::move(CausalityFeatures(loaded, asked), std::back_inserter(features));
  return DatapathImpl::Create({.options = std::move(options),
                               .cgroup_path = std::move(*cgroup_path),
                               .home = std::move(*home),
                               .cgroup = std::move(cgroup),
                               .pins = std::move(*pins),
                               .programs = std::move(*programs),
                               .parent = parent ? std::move(*parent) : nullptr,
                               .runtime = runtime ? std::move(*runtime) : nullptr,
                               .features = std::move(features)});
}

DatapathImpl::DatapathImpl(Parts parts)
    : parts_(std::move(parts)),
      kernel_{
          .options = parts_.options, .programs = *parts_.programs, .home_fd = parts_.home.get()},
      table_(parts_.home.get()),
      legs_(table_, parts_.programs->map(Map::kSockets), parts_.options.fwmark),
      originals_map_(parts_.programs->map(Map::kOriginals)),
      legs_map_(parts_.programs->map(Map::kLegs)),
      slots_(parts_.parent == nullptr ? nullptr : parts_.parent->slots(),
             parts_.options.worker_count),
      runtimes_(parts_.parent.get(), std::move(parts_.runtime), parts_.cgroup.get()) {}

base::Result<std::unique_ptr<Datapath>> DatapathImpl::Create(Parts parts) {
  std::unique_ptr<DatapathImpl> created(new DatapathImpl(std::move(parts)));
  auto cookie = OwnNetnsCookie();
  if (!cookie) {
    created->stopped_ = true;
    return std::unexpected(cookie.error());
  }
  created->home_cookie_ = *cookie;
  created->AdoptUnclaimed();
  if (auto attached = created->AttachHooks(); !attached) {
    created->stopped_ = true;  // pins of an earlier run stay
    return std::unexpected(attached.error());
  }
  if (auto synced = created->SyncPins(); !synced) {
    return std::unexpected(synced.error());
  }
  return created;
}

// The new maps refuse what the old ones refused before any hook is exchanged.
void DatapathImpl::AdoptUnclaimed() {
  unclaimed_netns_ = AdoptClosed(parts_.pins.File(kNetnsPin), map(Map::kNetns));
  unclaimed_cgroups_ = AdoptClosed(parts_.pins.File(kCgroupsPin), map(Map::kCgroups));
  for (const auto cookie : parts_.pins.LookupCookies()) {
    auto link = BpfLink::OpenPinned(parts_.pins.LookupFile(cookie));
    const auto info = link && *link ? (*link)->info() : base::Result<BpfLink::Info>();
    if (link && *link && info && info->target == 0) {  // the namespace is gone
      (void)(*link)->Unpin();
      unclaimed_netns_.erase(cookie);
      MapErase(map(Map::kNetns), cookie);
    }
  }
  (void)WriteHost();  // an array element always fits
}

base::Result<void> DatapathImpl::AttachHooks() {
  struct stat directory{};
  if (::fstat(parts_.cgroup.get(), &directory) != 0) {
    return base::SystemError("identify " + parts_.cgroup_path);
  }
  for (const Hook hook : kHooks) {
    if ((hook == Hook::kCgroupMkdir || hook == Hook::kCgroupRmdir) &&
        !parts_.programs->sees_cgroups()) {
      continue;
    }
    auto former = BpfLink::OpenPinned(parts_.pins.File(ToString(hook)));
    if (!former) {
      return std::unexpected(former.error());
    }
    const auto info = *former ? (*former)->info() : base::Result<BpfLink::Info>();
    // A tracing link takes no other program: that one is replaced below.
    if (*former && info && info->target == directory.st_ino) {
      if (auto replaced = parts_.programs->Replace(hook, **former); !replaced) {
        return replaced;
      }
      hooks_[hook] = std::move(**former);
      continue;
    }
    auto link = parts_.programs->Attach(hook, parts_.cgroup.get());
    if (!link) {
      return std::unexpected(link.error());
    }
    hooks_[hook] = std::move(*link);
    if (*former) {
      (void)(*former)->Unpin();
    }
  }
  return {};
}

base::Result<void> DatapathImpl::WriteHost() {
  weir_host host{};
  host.netns_cookie = home_cookie_;
  for (const auto& [id, workload] : workloads_) {
    if (workload.cgroup) {
      const int level = workload.cgroup->level;
      host.cgroup_levels |=
          level >= 0 && level < WEIR_MAX_CGROUP_LEVELS ? 1U << static_cast<unsigned>(level) : ~0U;
    }
  }
  if (!unclaimed_cgroups_.empty()) {
    host.cgroup_levels = ~0U;  // only their ids are known
  }
  return MapSet(map(Map::kHost), std::uint32_t{0}, host);
}

bool DatapathImpl::AnyClosed() const {
  return !unclaimed_netns_.empty() || !unclaimed_cgroups_.empty() || expecting_ ||
         std::ranges::any_of(workloads_, [](const auto& item) { return item.second.closed(); });
}

bool DatapathImpl::NamespaceClosed(const Namespace& ns) const {
  return (ns.home() && (expecting_ || !unclaimed_cgroups_.empty())) ||
         std::ranges::any_of(workloads_, [&](const auto& item) {
           return item.second.ns == &ns && item.second.closed();
         });
}

base::Result<void> DatapathImpl::SyncPins() {
  const bool closed = AnyClosed();
  base::Result<void> result;
  const auto keep_first = [&](base::Result<void> next) {
    if (result && !next) {
      result = std::move(next);
    }
  };
  if (closed) {
    keep_first(PinMap(map(Map::kNetns), parts_.pins.File(kNetnsPin)));
    keep_first(PinMap(map(Map::kCgroups), parts_.pins.File(kCgroupsPin)));
  } else {
    (void)::unlink(parts_.pins.File(kNetnsPin).c_str());  // missing is what is wanted
    (void)::unlink(parts_.pins.File(kCgroupsPin).c_str());
  }
  for (auto& [hook, link] : hooks_) {
    keep_first(closed ? link.Pin(parts_.pins.File(ToString(hook))) : link.Unpin());
  }
  for (auto& [cookie, ns] : namespaces_) {
    if (ns->lookup().valid()) {
      keep_first(NamespaceClosed(*ns) ? ns->lookup().Pin(parts_.pins.LookupFile(cookie))
                                      : ns->lookup().Unpin());
    }
  }
  return result;
}

std::optional<weir_tuple> DatapathImpl::KeyOf(model::LocalId of,
                                              const base::ConnectionTuple& accepted) const {
  const auto workload = table_.Find(of);
  if (!workload) {
    return std::nullopt;
  }
  weir_tuple key{};  // as the opening side sees it
  key.netns_cookie = workload->cookie;
  key.local = ToAbi(accepted.remote.address);
  key.remote = ToAbi(accepted.local.address);
  key.local_port = accepted.remote.port;
  key.remote_port = accepted.local.port;
  return key;
}

std::optional<seam::OriginalDestination> DatapathImpl::TakeOriginalDestination(
    const seam::Listener& listener, const base::ConnectionTuple& accepted) {
  const auto key = KeyOf(listener.owner, accepted);
  if (!key) {
    return std::nullopt;
  }
  const auto record = MapTake<weir_original>(originals_map_, *key);
  // Of another workload: its listener was called directly, or the port was reused.
  if (!record || record->local_id != static_cast<std::uint32_t>(listener.owner)) {
    return std::nullopt;
  }
  seam::OriginalDestination original{
      .destination = {.address = FromAbi(record->address), .port = record->port},
      .source = listener.owner,
      .pid = record->pid};
  static_assert(sizeof(original.comm) == sizeof(record->comm));
  std::memcpy(original.comm, record->comm, sizeof(original.comm));
  original.comm[sizeof(original.comm) - 1] = '\0';
  return original;
}

std::optional<seam::OwnLeg> DatapathImpl::FindOwnLeg(model::LocalId source,
                                                     const base::ConnectionTuple& accepted) {
  const auto key = KeyOf(source, accepted);
  const auto leg = key ? MapGet<weir_leg>(legs_map_, *key) : std::nullopt;
  if (!leg || leg->kind < static_cast<std::uint32_t>(seam::LegKind::kTunnel) ||
      leg->kind > static_cast<std::uint32_t>(seam::LegKind::kWitness)) {
    return std::nullopt;
  }
  return seam::OwnLeg{.kind = static_cast<seam::LegKind>(leg->kind), .worker = leg->worker};
}

std::optional<seam::ParentHint> DatapathImpl::TakeHint(model::LocalId source,
                                                       const base::ConnectionTuple& accepted) {
  const auto key = parts_.parent == nullptr ? std::nullopt : KeyOf(source, accepted);
  const auto found =
      key ? MapTake<weir_hint>(parts_.parent->hints(), *key) : std::optional<weir_hint>();
  return found ? std::optional(FromAbi(*found)) : std::nullopt;
}

void DatapathImpl::Stop() {
  if (std::exchange(stopped_, true)) {
    return;
  }
  for (auto at = workloads_.begin(); at != workloads_.end();) {
    const auto next = std::next(at);
    if (!at->second.closed()) {
      (void)Unenrol(at->first);  // what is left of it, uninstall-node removes
    }
    at = next;
  }
  runtimes_.RemoveAll();
  for (auto& [id, workload] : workloads_) {
    table_.Remove(id);
    for (const auto& key : workload.listeners) {
      MapErase(map(Map::kListeners), key);  // refused from here on
    }
  }
  for (auto& [cookie, ns] : namespaces_) {
    ns->StopIntercepting(/*stay_refused=*/true);
  }
  workloads_.clear();
  namespaces_.clear();
  hooks_.clear();
}

}  // namespace weir::datapath
