#include "agent/datapath/netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <sstream>
#include <system_error>

#include "agent/base/check.h"
#include "agent/base/file.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71  // Linux 5.14, asm-generic/socket.h
#endif

namespace weir::datapath {
namespace {

constexpr std::size_t kMaxMountinfoBytes = 4U << 20U;

base::Result<NetnsIdentity> IdentityOf(const struct stat& status) {
  return NetnsIdentity{.device = status.st_dev, .inode = status.st_ino};
}

}  // namespace

base::Result<base::UniqueFd> OpenNetns(const std::string& path) {
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return base::SystemError("open the network namespace " + path);
  }
  struct statfs file_system{};
  if (::fstatfs(fd.get(), &file_system) != 0 || file_system.f_type != NSFS_MAGIC) {
    return base::MakeError(base::ErrorCode::kInvalidArgument, path + " is no network namespace");
  }
  return fd;
}

base::Result<base::UniqueFd> OpenOwnNetns() {
  return OpenNetns("/proc/thread-self/ns/net");
}

base::Result<NetnsIdentity> IdentifyNetns(int netns_fd) {
  struct stat status{};
  if (::fstat(netns_fd, &status) != 0) {
    return base::SystemError("identify a network namespace");
  }
  return IdentityOf(status);
}

base::Result<NetnsIdentity> IdentifyNetns(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    return base::SystemError("identify the network namespace " + path);
  }
  return IdentityOf(status);
}

base::Result<InNetns> InNetns::Enter(int netns_fd, int home_fd) {
  if (::setns(netns_fd, CLONE_NEWNET) != 0) {
    return base::SystemError("enter a network namespace");
  }
  return InNetns(home_fd);
}

InNetns::~InNetns() {
  if (home_fd_ >= 0) {
    WEIR_CHECK(::setns(home_fd_, CLONE_NEWNET) == 0);
  }
}

base::Result<std::uint64_t> OwnNetnsCookie() {
  const base::UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  if (!fd.valid() || ::getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) != 0) {
    return base::SystemError("read a network namespace's cookie");
  }
  return cookie;
}

PortRange LocalPortRange() {
  PortRange range;
  if (auto text = base::ReadFile("/proc/sys/net/ipv4/ip_local_port_range", 64)) {
    std::istringstream words(*text);
    unsigned low = 0;
    unsigned high = 0;
    if (words >> low >> high && low <= high && high <= 65535) {
      range = {.low = static_cast<std::uint16_t>(low), .high = static_cast<std::uint16_t>(high)};
    }
  }
  return range;
}

std::vector<base::UniqueFd> AllNetns() {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    if (std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) {
      paths.push_back("/proc/" + name + "/ns/net");
    }
  }
  const auto mounts = base::ReadFile("/proc/self/mountinfo", kMaxMountinfoBytes);
  std::istringstream lines(mounts.value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (line.find(" - nsfs ") != std::string::npos && line.find(" net:[") != std::string::npos) {
      std::istringstream words(line);
      std::string word;
      for (int i = 0; i < 5; ++i) {
        words >> word;
      }
      paths.push_back(word);
    }
  }
  std::vector<base::UniqueFd> found;
  std::vector<NetnsIdentity> seen;
  for (const auto& path : paths) {
    // A process or a mount may have gone since; others' namespaces may be off limits.
    const auto identity = IdentifyNetns(path);
    if (!identity || std::ranges::find(seen, *identity) != seen.end()) {
      continue;
    }
    if (auto fd = OpenNetns(path)) {
      seen.push_back(*identity);
      found.push_back(std::move(*fd));
    }
  }
  return found;
}

}  // namespace weir::datapath
