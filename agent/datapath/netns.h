#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"

namespace weir::datapath {

// Which namespace a descriptor or a path names: device and inode of nsfs.
struct NetnsIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  friend bool operator==(const NetnsIdentity&, const NetnsIdentity&) = default;
};

// Opens the network namespace that `path` names. kNotFound when there is none,
// kInvalidArgument when the path is something else.
base::Result<base::UniqueFd> OpenNetns(const std::string& path);
// The calling thread's.
base::Result<base::UniqueFd> OpenOwnNetns();
base::Result<NetnsIdentity> IdentifyNetns(int netns_fd);
base::Result<NetnsIdentity> IdentifyNetns(const std::string& path);

// Holds the calling thread inside a namespace; the destructor takes it back to `home`
// and ends the process if it cannot: nothing may go on in a stranger's namespace.
class InNetns {
 public:
  static base::Result<InNetns> Enter(int netns_fd, int home_fd);
  InNetns(InNetns&& other) noexcept : home_fd_(std::exchange(other.home_fd_, -1)) {}
  InNetns& operator=(InNetns&&) = delete;
  InNetns(const InNetns&) = delete;
  InNetns& operator=(const InNetns&) = delete;
  ~InNetns();

 private:
  explicit InNetns(int home_fd) : home_fd_(home_fd) {}
  int home_fd_ = -1;
};

// SO_NETNS_COOKIE of the calling thread's namespace.
base::Result<std::uint64_t> OwnNetnsCookie();

// The calling thread's namespace's net.ipv4.ip_local_port_range.
struct PortRange {
  std::uint16_t low = 32768;
  std::uint16_t high = 60999;
  friend bool operator==(const PortRange&, const PortRange&) = default;
};
PortRange LocalPortRange();

// Handles of every network namespace that a process lives in or a mount names.
std::vector<base::UniqueFd> AllNetns();

}  // namespace weir::datapath
