#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/netlink.h"
#include "agent/datapath/netns.h"
#include "agent/datapath/programs.h"
#include "agent/datapath/sockets.h"

namespace weir::datapath {

// What all parts of one Datapath share. Outlives them.
struct Kernel {
  const Options& options;
  const Programs& programs;
  int home_fd = -1;  // the agent's own network namespace
  [[nodiscard]] int map(Map which) const { return programs.map(which); }
};

// Any strict order of keys of maps.
struct KeyLess {
  template <typename Key>
  bool operator()(const Key& left, const Key& right) const {
    return std::memcmp(&left, &right, sizeof(Key)) < 0;  // the padding is zero
  }
};

// Namespace is one network namespace in which weir intercepts: its handle, its lookup
// link, and the maps' entries about its listening ports and addresses. Control thread.
class Namespace {
 public:
  // Opens it without changing anything.
  static base::Result<std::unique_ptr<Namespace>> Open(const Kernel& kernel,
                                                       const std::string& path);
  Namespace(const Namespace&) = delete;
  Namespace& operator=(const Namespace&) = delete;
  ~Namespace() { StopIntercepting(/*stay_refused=*/false); }

  [[nodiscard]] std::uint64_t cookie() const { return cookie_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool home() const { return home_; }
  [[nodiscard]] PortRange port_range() const { return port_range_; }
  [[nodiscard]] BpfLink& lookup() { return lookup_; }
  // Whether `path` still leads to it.
  [[nodiscard]] bool StillAt(const std::string& path) const;
  // Whether the lookup link is still attached here.
  [[nodiscard]] bool LookupAlive() const;
  // Detaches the lookup link, unless it is pinned, and undoes SetUp. What the pinned hooks
  // need to go on refusing is kept with `stay_refused`.
  void StopIntercepting(bool stay_refused);

  // Routes, sysctl and addresses.
  base::Result<void> SetUp();
  // Attaches the lookup program, or exchanges that of the pinned link of an earlier run.
  base::Result<void> AttachLookup(const std::string& pin_path);
  // Opens a workload's listeners here.
  base::Result<std::vector<KeyedListener>> Listen(const ListenerPlan& plan);
  // Counts the applications' listening sockets.
  base::Result<void> CountListeners();

  using SocketFilter = std::function<bool(const netlink::TcpSocket&)>;
  // Brings addresses, listening ports and the local port range up to date; `owned` says
  // which listening sockets are workloads', `listening` are the keys of Map::kListening.
  void Refresh(const SocketFilter& owned, const std::vector<weir_listening_key>& listening);
  // The connections for which `wanted` holds.
  [[nodiscard]] std::vector<netlink::TcpSocket> Connections(const SocketFilter& wanted) const;

  // Forgets the listening entries of `owner`, or of all owners.
  void ForgetListening(std::optional<std::uint32_t> owner);
  // Writes a changed owner into the listening entries of `former`.
  void SetListeningOwner(std::uint32_t former, const weir_workload& owner);
  // How many listening sockets of `owner` (or all) are counted.
  [[nodiscard]] unsigned ListeningCount(std::optional<std::uint32_t> owner) const;

 private:
  Namespace(const Kernel& kernel, base::UniqueFd fd) : kernel_(kernel), fd_(std::move(fd)) {}
  using Counts = std::map<weir_listening_key, unsigned, KeyLess>;

  template <typename Body>
  auto Inside(Body body) const -> decltype(body());
  void RefreshAddresses(const std::vector<base::IpAddress>& now);
  void CompareListening(const Counts& found, const std::vector<weir_listening_key>& listening);
  void AddSocket(Counts& counts, const netlink::TcpSocket& socket) const;
  [[nodiscard]] std::vector<weir_listening_key> ListeningKeys() const;

  Kernel kernel_;
  base::UniqueFd fd_;
  NetnsIdentity identity_;
  std::uint64_t cookie_ = 0;
  bool home_ = false;
  bool intercepting_ = false;  // SetUp was begun
  bool set_up_ = false;        // the reply route is there
  PortRange port_range_;
  BpfLink lookup_;
  std::set<base::IpAddress> addresses_;
  std::set<weir_listening_key, KeyLess>
      suspects_;  // entries that the last Refresh found nobody for
};

}  // namespace weir::datapath
