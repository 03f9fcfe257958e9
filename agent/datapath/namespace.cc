#include "agent/datapath/namespace.h"

#include <algorithm>
#include <utility>

#include "agent/datapath/bpf_map.h"
#include "agent/datapath/reply_route.h"

namespace weir::datapath {
namespace {

base::IpAddress AnyV4() {
  return base::IpAddress();
}

}  // namespace

base::Result<std::unique_ptr<Namespace>> Namespace::Open(const Kernel& kernel,
                                                         const std::string& path) {
  auto fd = OpenNetns(path);
  if (!fd) {
    return std::unexpected(fd.error());
  }
  std::unique_ptr<Namespace> ns(new Namespace(kernel, std::move(*fd)));
  auto identity = IdentifyNetns(ns->fd());
  auto home = IdentifyNetns(kernel.home_fd);
  if (!identity || !home) {
    return std::unexpected((identity ? home : identity).error());
  }
  ns->identity_ = *identity;
  ns->home_ = *identity == *home;
  auto cookie = ns->Inside([]() { return OwnNetnsCookie(); });
  if (!cookie) {
    return std::unexpected(cookie.error());
  }
  ns->cookie_ = *cookie;
  return ns;
}

template <typename Body>
auto Namespace::Inside(Body body) const -> decltype(body()) {
  auto inside = InNetns::Enter(fd_.get(), kernel_.home_fd);
  if (!inside) {
    return std::unexpected(inside.error());
  }
  return body();
}

void Namespace::StopIntercepting(bool stay_refused) {
  if (!std::exchange(intercepting_, false)) {
    return;
  }
  lookup_.Reset();
  if (!stay_refused) {
    ForgetListening(std::nullopt);
    RefreshAddresses({});
  }
  if (std::exchange(set_up_, false)) {
    // Nobody can act on a failure any more; `weir uninstall-node` tries again.
    (void)Inside([&]() { return RemoveReplyRoute(kernel_.options); });
  }
}

bool Namespace::StillAt(const std::string& path) const {
  const auto now = IdentifyNetns(path);
  return now && *now == identity_;
}

bool Namespace::LookupAlive() const {
  const auto info = lookup_.info();
  return info && info->target == identity_.inode;
}

base::Result<void> Namespace::SetUp() {
  intercepting_ = true;
  return Inside([&]() -> base::Result<void> {
    if (auto done = SetUpReplyRoute(kernel_.options); !done) {
      return done;
    }
    set_up_ = true;
    port_range_ = LocalPortRange();
    auto addresses = netlink::LocalAddresses();
    if (!addresses) {
      return std::unexpected(addresses.error());
    }
    RefreshAddresses(*addresses);
    return {};
  });
}

base::Result<void> Namespace::AttachLookup(const std::string& pin_path) {
  auto former = BpfLink::OpenPinned(pin_path);
  if (!former) {
    return std::unexpected(former.error());
  }
  if (*former) {
    const auto info = (*former)->info();
    if (!info || info->target != identity_.inode) {  // its namespace is gone
      (void)(*former)->Unpin();
      former->reset();
    }
  }
  auto link = kernel_.programs.AttachLookup(fd_.get(), cookie_, std::move(*former));
  if (!link) {
    return std::unexpected(link.error());
  }
  lookup_ = std::move(*link);
  return {};
}

base::Result<std::vector<KeyedListener>> Namespace::Listen(const ListenerPlan& plan) {
  return Inside([&]() { return OpenListeners(plan); });
}

base::Result<void> Namespace::CountListeners() {
  return Inside([&]() { return kernel_.programs.CountListeners(); });
}

void Namespace::RefreshAddresses(const std::vector<base::IpAddress>& now) {
  std::set<base::IpAddress> fresh(now.begin(), now.end());
  const int map = kernel_.map(Map::kLocalAddresses);
  for (const auto& address : addresses_) {
    if (!fresh.contains(address)) {
      MapErase(map, weir_local_key{.netns_cookie = cookie_, .address = ToAbi(address)});
    }
  }
  for (const auto& address : fresh) {
    // A full map only means that a connection to itself goes through a worker.
    (void)MapSet(map, weir_local_key{.netns_cookie = cookie_, .address = ToAbi(address)},
                 std::uint8_t{1});
  }
  addresses_ = std::move(fresh);
}

void Namespace::AddSocket(Counts& counts, const netlink::TcpSocket& socket) const {
  weir_listening_key key{};
  key.netns_cookie = cookie_;
  key.address = ToAbi(socket.local.address);
  key.port = socket.local.port;
  ++counts[key];
  if (socket.is_v6 && !socket.v6_only && !socket.local.address.is_v4() &&
      socket.local.address.is_unspecified()) {
    key.address = ToAbi(AnyV4());
    ++counts[key];
  }
}

void Namespace::Refresh(const SocketFilter& owned,
                        const std::vector<weir_listening_key>& listening) {
  Counts found;
  const auto done = Inside([&]() -> base::Result<void> {
    port_range_ = LocalPortRange();
    if (auto addresses = netlink::LocalAddresses()) {
      RefreshAddresses(*addresses);
    }
    auto sockets = netlink::ListeningSockets();
    if (!sockets) {
      return std::unexpected(sockets.error());
    }
    for (const auto& socket : *sockets) {
      if (socket.bound_interface == 0 && !socket.local.address.is_loopback() && owned(socket)) {
        AddSocket(found, socket);
      }
    }
    return {};
  });
  if (done) {
    CompareListening(found, listening);
  }
}

void Namespace::CompareListening(const Counts& found,
                                 const std::vector<weir_listening_key>& listening) {
  const int map = kernel_.map(Map::kListening);
  const bool missing = std::ranges::any_of(found, [&](const auto& wanted) {
    const auto entry = MapGet<weir_listening>(map, wanted.first);
    return !entry || entry->sockets < wanted.second;
  });
  if (missing) {
    // Sockets that were made outside of the hooks' cgroup; the next turn looks again.
    (void)CountListeners();
  }
  std::set<weir_listening_key, KeyLess> nobody;
  for (const auto& key : listening) {
    if (key.netns_cookie != cookie_ || found.contains(key)) {
      continue;
    }
    if (suspects_.contains(key)) {
      MapErase(map, key);
    } else {
      nobody.insert(key);  // may have begun after the sockets were listed
    }
  }
  suspects_ = std::move(nobody);
}

std::vector<weir_listening_key> Namespace::ListeningKeys() const {
  auto keys = MapKeys<weir_listening_key>(kernel_.map(Map::kListening));
  std::erase_if(keys, [&](const auto& key) { return key.netns_cookie != cookie_; });
  return keys;
}

std::vector<netlink::TcpSocket> Namespace::Connections(const SocketFilter& wanted) const {
  auto sockets = Inside([]() { return netlink::Connections(); });
  if (!sockets) {
    return {};
  }
  std::erase_if(*sockets, [&](const auto& socket) {
    return socket.remote.address.is_loopback() || !wanted(socket);
  });
  return std::move(*sockets);
}

void Namespace::ForgetListening(std::optional<std::uint32_t> owner) {
  const int map = kernel_.map(Map::kListening);
  for (const auto& key : ListeningKeys()) {
    const auto entry = MapGet<weir_listening>(map, key);
    if (entry && (!owner || entry->owner.local_id == *owner)) {
      MapErase(map, key);
    }
  }
}

void Namespace::SetListeningOwner(std::uint32_t former, const weir_workload& owner) {
  const int map = kernel_.map(Map::kListening);
  for (const auto& key : ListeningKeys()) {
    auto entry = MapGet<weir_listening>(map, key);
    if (entry && entry->owner.local_id == former) {
      entry->owner = owner;
      (void)MapSet(map, key, *entry);  // it exists, so it fits
    }
  }
}

unsigned Namespace::ListeningCount(std::optional<std::uint32_t> owner) const {
  unsigned count = 0;
  for (const auto& key : ListeningKeys()) {
    const auto entry = MapGet<weir_listening>(kernel_.map(Map::kListening), key);
    if (entry && (!owner || entry->owner.local_id == *owner)) {
      count += entry->sockets;
    }
  }
  return count;
}

}  // namespace weir::datapath
