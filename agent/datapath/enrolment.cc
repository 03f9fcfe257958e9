#include <algorithm>
#include <utility>

#include "agent/datapath/bpf_map.h"
#include "agent/datapath/datapath_impl.h"

namespace weir::datapath {
namespace {

constexpr std::size_t kMaxOlderConnections = 65536;
constexpr char kOwnNetns[] = "/proc/thread-self/ns/net";

base::Error Name(const Enrolment& wanted, const base::Error& error) {
  return base::Error(error.code(), "enrol " + wanted.name + ": " + error.message(),
                     error.sys_errno())
      .WithRemedy(error.remedy());
}

}  // namespace

weir_workload DatapathImpl::Workload::entry() const {
  return {.local_id = static_cast<std::uint32_t>(wanted.id),
          .flags = (closed() ? WEIR_WORKLOAD_CLOSED : 0U) |
                   (wanted.infer_parents ? WEIR_WORKLOAD_INFER : 0U) |
                   (wanted.runtime_hooks.go ? WEIR_WORKLOAD_GO : 0U) |
                   (wanted.runtime_hooks.node ? WEIR_WORKLOAD_NODE : 0U)};
}

base::Result<std::vector<std::vector<seam::Listener>>> DatapathImpl::Enrol(
    const Enrolment& wanted) {
  if (stopped_ || wanted.id == model::LocalId::kNone || workloads_.contains(wanted.id)) {
    return base::MakeError(base::ErrorCode::kAlreadyExists,
                           "enrol " + wanted.name + ": its id is in use");
  }
  auto ns = FindNamespace(wanted);
  if (!ns) {
    return std::unexpected(Name(wanted, ns.error()));
  }
  Workload& workload = workloads_[wanted.id];
  workload.wanted = wanted;
  workload.ns = *ns;
  if (const auto* match = std::get_if<CgroupPath>(&wanted.match)) {
    workload.cgroup = IdentifyCgroup(match->path).value_or(CgroupId{});
  }
  const bool was_unclaimed = workload.cgroup ? IsUnclaimed(workload.cgroup->id)
                                             : unclaimed_netns_.contains((*ns)->cookie());
  auto listeners = Intercept(workload);
  if (!listeners) {
    auto error = Name(wanted, listeners.error());
    (void)Remove(workload, was_unclaimed);  // the first error counts
    return std::unexpected(std::move(error));
  }
  std::vector<std::vector<seam::Listener>> by_worker(parts_.options.worker_count);
  for (auto& item : *listeners) {
    by_worker[item.worker].push_back(std::move(item.listener));
  }
  return by_worker;
}

// Opens the namespace that the workload lives in, or finds it open already.
base::Result<Namespace*> DatapathImpl::FindNamespace(const Enrolment& wanted) {
  std::string path = kOwnNetns;
  const auto* cgroup = std::get_if<CgroupPath>(&wanted.match);
  if (cgroup != nullptr) {
    auto identity = IdentifyCgroup(cgroup->path);
    if (!identity) {
      return std::unexpected(identity.error());
    }
    for (const auto& [id, workload] : workloads_) {
      if (workload.cgroup && workload.cgroup->id == identity->id) {
        return base::MakeError(base::ErrorCode::kAlreadyExists,
                               cgroup->path + " is enrolled as " + workload.wanted.name);
      }
    }
  } else {
    path = std::get<NetnsPath>(wanted.match).path;
  }
  auto opened = OpenNamespace(path);
  if (!opened) {
    return opened;
  }
  for (const auto& [id, workload] : workloads_) {
    if (workload.ns == *opened && (cgroup == nullptr || !workload.cgroup)) {
      return base::MakeError(base::ErrorCode::kAlreadyExists,
                             path + " is enrolled as " + workload.wanted.name);
    }
  }
  return opened;
}

// The namespace at `path`, as the one object of it.
base::Result<Namespace*> DatapathImpl::OpenNamespace(const std::string& path) {
  auto opened = Namespace::Open(kernel_, path);
  if (!opened) {
    return std::unexpected(opened.error());
  }
  auto& slot = namespaces_[(*opened)->cookie()];
  if (!slot) {
    slot = std::move(*opened);
  }
  return slot.get();
}

base::Result<std::vector<KeyedListener>> DatapathImpl::Intercept(Workload& workload) {
  Namespace& ns = *workload.ns;
  if (auto done = ns.SetUp(); !done) {
    return std::unexpected(done.error());
  }
  auto listeners = ns.Listen({.owner = workload.wanted.id,
                              .worker_count = parts_.options.worker_count,
                              .backlog = parts_.options.listen_backlog});
  if (!listeners) {
    return listeners;
  }
  for (const auto& item : *listeners) {
    const auto fd = static_cast<std::uint64_t>(item.listener.fd.get());
    if (auto set = MapSet(map(Map::kListeners), item.key, fd); !set) {
      return std::unexpected(set.error());
    }
    workload.listeners.push_back(item.key);
  }
  NoteOlderConnections(workload);
  HookRuntimes(workload);
  if (auto done = Publish(workload); !done) {
    return std::unexpected(done.error());
  }
  return listeners;
}

// From here on connections are taken. The workload's closed entry first: an unclaimed
// one is refused until its listeners are known.
base::Result<void> DatapathImpl::Publish(Workload& workload) {
  Namespace& ns = *workload.ns;
  if (auto done = WriteEntry(workload); !done) {
    return done;
  }
  if (auto done = ns.CountListeners(); !done) {
    return done;
  }
  if (!ns.lookup().valid()) {
    if (auto done = ns.AttachLookup(parts_.pins.LookupFile(ns.cookie())); !done) {
      return done;
    }
  }
  if (workload.cgroup) {
    unclaimed_cgroups_.erase(workload.cgroup->id);
  } else {
    unclaimed_netns_.erase(ns.cookie());
  }
  if (auto done = SyncPins(); !done) {
    return done;
  }
  TellWorkers(workload);
  return {};
}

void DatapathImpl::TellWorkers(const Workload& workload) {
  const Namespace& ns = *workload.ns;
  table_.Set(workload.wanted.id, {.netns_fd = ns.home() ? -1 : ns.fd(),
                                  .cookie = ns.cookie(),
                                  .ports = LegPortsOutside(ns.port_range())});
}

base::Result<void> DatapathImpl::WriteEntry(const Workload& workload) {
  const std::uint64_t cookie = workload.ns->cookie();
  if (parts_.parent != nullptr && workload.wanted.infer_parents) {
    parts_.parent->NoteEnrolment();
  }
  if (!workload.cgroup) {
    return MapSet(map(Map::kNetns), cookie, workload.entry());
  }
  for (const auto port : workload.wanted.ports) {
    weir_port_key key{};
    key.netns_cookie = cookie;
    key.port = port;
    const auto taken = MapGet<weir_workload>(map(Map::kPorts), key);
    if (taken && taken->local_id != workload.entry().local_id) {
      return base::MakeError(base::ErrorCode::kAlreadyExists,
                             "port " + std::to_string(port) + " is another workload's");
    }
    if (auto set = MapSet(map(Map::kPorts), key, workload.entry()); !set) {
      return set;
    }
  }
  if (auto set = MapSet(map(Map::kCgroups), workload.cgroup->id, workload.entry()); !set) {
    return set;
  }
  return WriteHost();
}

base::Result<void> DatapathImpl::Unenrol(model::LocalId id) {
  const auto found = workloads_.find(id);
  if (found == workloads_.end()) {
    return base::MakeError(base::ErrorCode::kNotFound, "un-enrol: no such workload");
  }
  return Remove(found->second, /*was_unclaimed=*/false);
}

base::Result<void> DatapathImpl::Remove(Workload& workload, bool was_unclaimed) {
  Namespace& ns = *workload.ns;
  const std::uint64_t cookie = ns.cookie();
  const auto id = workload.wanted.id;
  const std::uint32_t number = workload.entry().local_id;
  const weir_workload unclaimed{.local_id = 0, .flags = WEIR_WORKLOAD_CLOSED};
  base::Result<void> result;
  if (was_unclaimed) {
    const bool by_cgroup = workload.cgroup.has_value();
    const std::uint64_t key = by_cgroup ? workload.cgroup->id : cookie;
    result = MapSet(map(by_cgroup ? Map::kCgroups : Map::kNetns), key, unclaimed);
    (by_cgroup ? unclaimed_cgroups_ : unclaimed_netns_).insert(key);
  } else if (workload.cgroup) {
    MapErase(map(Map::kCgroups), workload.cgroup->id);
  } else {
    MapErase(map(Map::kNetns), cookie);
  }
  for (const auto port : workload.wanted.ports) {
    weir_port_key key{};
    key.netns_cookie = cookie;
    key.port = port;
    const auto entry = MapGet<weir_workload>(map(Map::kPorts), key);
    if (entry && entry->local_id == number) {
      MapErase(map(Map::kPorts), key);
    }
  }
  for (const auto& key : workload.listeners) {
    MapErase(map(Map::kListeners), key);
  }
  if (was_unclaimed) {
    ns.SetListeningOwner(number, unclaimed);
  } else {
    ns.ForgetListening(number);
  }
  table_.Remove(id);
  runtimes_.Remove(id);
  workloads_.erase(id);  // `workload` is gone from here on
  (void)WriteHost();     // an array element always fits
  if (UsersOf(ns) == 0 && !(ns.home() && expecting_)) {
    auto released = ReleaseNamespace(ns);
    result = result ? std::move(released) : std::move(result);
  }
  auto synced = SyncPins();
  return result ? std::move(synced) : std::move(result);
}

unsigned DatapathImpl::UsersOf(const Namespace& ns) const {
  return static_cast<unsigned>(
      std::ranges::count_if(workloads_, [&](const auto& item) { return item.second.ns == &ns; }));
}

base::Result<void> DatapathImpl::ReleaseNamespace(Namespace& ns) {
  base::Result<void> result;
  const bool keep = unclaimed_netns_.contains(ns.cookie()) || NamespaceClosed(ns);
  if (!keep) {
    result = ns.lookup().Unpin();
  }
  ns.StopIntercepting(keep);
  namespaces_.erase(ns.cookie());
  return result;
}

// Refused, of an earlier run or since its birth, and not enrolled.
bool DatapathImpl::IsUnclaimed(std::uint64_t cgroup) const {
  const auto entry = MapGet<weir_workload>(map(Map::kCgroups), cgroup);
  return entry && entry->local_id == 0;
}

base::Result<void> DatapathImpl::Expect(const std::vector<ExpectedCgroup>& cgroups) {
  if (!parts_.programs->sees_cgroups()) {
    return {};
  }
  std::set<std::string> wanted;  // the keys, as bytes
  for (const auto& cgroup : cgroups) {
    weir_cgroup_name key{};
    const auto parent = cgroup.parent.empty() ? CgroupId{} : IdentifyCgroup(cgroup.parent);
    if (cgroup.name.size() >= sizeof(key.name) || !parent) {
      continue;
    }
    key.parent_id = parent->id;
    cgroup.name.copy(key.name, sizeof(key.name) - 1);
    if (auto set = MapSet(map(Map::kExpected), key, std::uint8_t{1}); !set) {
      return set;
    }
    wanted.emplace(reinterpret_cast<const char*>(&key), sizeof(key));
  }
  bool fewer = false;
  for (const auto& key : MapKeys<weir_cgroup_name>(map(Map::kExpected))) {
    if (!wanted.contains({reinterpret_cast<const char*>(&key), sizeof(key)})) {
      MapErase(map(Map::kExpected), key);
      fewer = true;
    }
  }
  // What waits for its enrolment may be nobody's any more; what is still a workload's is
  // enrolled next.
  for (const auto id :
       fewer ? MapKeys<std::uint64_t>(map(Map::kCgroups)) : std::vector<std::uint64_t>{}) {
    if (IsUnclaimed(id) && !unclaimed_cgroups_.contains(id)) {
      MapErase(map(Map::kCgroups), id);
    }
  }
  const bool had = std::exchange(expecting_, !wanted.empty());
  const auto home = namespaces_.find(home_cookie_);
  const bool held = home != namespaces_.end() && home->second->lookup().valid();
  if (had == expecting_ && (held || !expecting_)) {
    return {};  // every second: nothing changed that is pinned
  }
  if (auto done = HoldHome(); !done) {
    return done;
  }
  return SyncPins();
}

base::Result<void> DatapathImpl::HoldHome() {
  const auto found = namespaces_.find(home_cookie_);
  if (!expecting_) {
    return found != namespaces_.end() && UsersOf(*found->second) == 0
               ? ReleaseNamespace(*found->second)
               : base::Result<void>();
  }
  if (found != namespaces_.end() && found->second->lookup().valid()) {
    return {};
  }
  auto ns = OpenNamespace(kOwnNetns);
  if (!ns) {
    return std::unexpected(ns.error());
  }
  if (auto done = (*ns)->SetUp(); !done) {
    return done;
  }
  return (*ns)->AttachLookup(parts_.pins.LookupFile(home_cookie_));
}

base::Result<void> DatapathImpl::SetOnAgentDown(model::LocalId id, model::OnAgentDown mode) {
  const auto found = workloads_.find(id);
  if (found == workloads_.end()) {
    return base::MakeError(base::ErrorCode::kNotFound, "no such workload");
  }
  Workload& workload = found->second;
  workload.wanted.on_agent_down = mode;
  if (auto written = WriteEntry(workload); !written) {
    return written;
  }
  workload.ns->SetListeningOwner(workload.entry().local_id, workload.entry());
  return SyncPins();
}

base::Result<void> DatapathImpl::SetInferParents(model::LocalId id, bool infer) {
  const auto found = workloads_.find(id);
  if (found == workloads_.end()) {
    return base::MakeError(base::ErrorCode::kNotFound, "no such workload");
  }
  found->second.wanted.infer_parents = infer;
  return WriteEntry(found->second);
}

base::Result<void> DatapathImpl::SetRuntimeHooks(model::LocalId id,
                                                 const model::RuntimeHooks& hooks) {
  const auto found = workloads_.find(id);
  if (found == workloads_.end()) {
    return base::MakeError(base::ErrorCode::kNotFound, "no such workload");
  }
  found->second.wanted.runtime_hooks = hooks;
  HookRuntimes(found->second);
  return WriteEntry(found->second);
}

// Before its connections are seen: what is opened later is known to the runtimes' hooks.
void DatapathImpl::HookRuntimes(const Workload& workload) {
  HookedRuntimes::Place place;
  if (const auto* match = std::get_if<CgroupPath>(&workload.wanted.match)) {
    place = match->path;
  } else if (const auto identity = IdentifyNetns(workload.ns->fd())) {
    place = *identity;
  }
  runtimes_.Set(workload.wanted.id, place, workload.wanted.runtime_hooks);
}

unsigned DatapathImpl::DropUnclaimed() {
  const auto count = static_cast<unsigned>(unclaimed_netns_.size() + unclaimed_cgroups_.size());
  std::set<std::uint64_t> cookies;
  for (const auto cookie : parts_.pins.LookupCookies()) {
    if (!namespaces_.contains(cookie)) {
      (void)PinDirectory::RemovePin(parts_.pins.LookupFile(cookie));  // best effort
      cookies.insert(cookie);
    }
  }
  for (const auto cookie : unclaimed_netns_) {
    MapErase(map(Map::kNetns), cookie);
    cookies.insert(cookie);
  }
  for (const auto cgroup : unclaimed_cgroups_) {
    MapErase(map(Map::kCgroups), cgroup);
  }
  unclaimed_netns_.clear();
  unclaimed_cgroups_.clear();
  (void)WriteHost();
  (void)SyncPins();
  // A crash leaves rules and routes also where the workload was open.
  (void)CleanUnusedNamespaces();
  return count;
}

std::vector<model::LocalId> DatapathImpl::Sweep() {
  const auto listening = MapKeys<weir_listening_key>(map(Map::kListening));
  for (auto& [cookie, ns] : namespaces_) {
    RefreshNamespace(*ns, listening);
  }
  runtimes_.Sweep();
  std::vector<model::LocalId> gone;
  for (const auto& [id, workload] : workloads_) {
    if (Vanished(workload)) {
      gone.push_back(id);
    }
  }
  return gone;
}

void DatapathImpl::RefreshNamespace(Namespace& ns,
                                    const std::vector<weir_listening_key>& listening) {
  std::set<std::uint64_t> cgroups;
  std::set<std::uint16_t> ports;
  bool whole = false;
  const PortRange former_range = ns.port_range();
  for (const auto& [id, workload] : workloads_) {
    if (workload.ns != &ns) {
      continue;
    }
    whole = whole || !workload.cgroup;
    ports.insert(workload.wanted.ports.begin(), workload.wanted.ports.end());
    if (workload.cgroup) {
      cgroups.merge(SubtreeOf(workload));
    }
  }
  ns.Refresh(
      [&](const netlink::TcpSocket& socket) {
        return whole || cgroups.contains(socket.cgroup_id) || ports.contains(socket.local.port);
      },
      listening);
  for (const auto& [id, workload] : workloads_) {
    if (workload.ns == &ns && ns.port_range() != former_range) {
      TellWorkers(workload);
    }
  }
}

bool DatapathImpl::Vanished(const Workload& workload) const {
  if (const auto* match = std::get_if<NetnsPath>(&workload.wanted.match)) {
    return !workload.ns->StillAt(match->path);
  }
  const auto now = IdentifyCgroup(std::get<CgroupPath>(workload.wanted.match).path);
  return !now || now->id != workload.cgroup->id;
}

std::set<std::uint64_t> DatapathImpl::SubtreeOf(const Workload& workload) {
  const auto* match = std::get_if<CgroupPath>(&workload.wanted.match);
  if (match == nullptr) {
    return {};
  }
  const auto ids = CgroupSubtreeIds(match->path);
  return {ids.begin(), ids.end()};
}

std::vector<netlink::TcpSocket> DatapathImpl::ConnectionsOf(const Workload& workload) const {
  const auto cgroups = SubtreeOf(workload);
  return workload.ns->Connections([&](const netlink::TcpSocket& socket) {
    return !workload.cgroup || cgroups.contains(socket.cgroup_id);
  });
}

void DatapathImpl::NoteOlderConnections(Workload& workload) {
  for (const auto& socket : ConnectionsOf(workload)) {
    if (workload.older_connections.size() < kMaxOlderConnections) {
      workload.older_connections.insert(socket.cookie);
    }
  }
}

}  // namespace weir::datapath
