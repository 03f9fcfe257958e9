#include "agent/admin/unix_socket.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

namespace weir::admin {
namespace {

// SOMAXCONN of the kernel bounds it anyway.
constexpr int kBacklog = 1024;

base::Result<gid_t> GroupId(const std::string& name) {
  if (name.empty()) {
    return ::getegid();
  }
  std::vector<char> buffer(16384);
  group entry{};
  group* found = nullptr;
  const int error = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (error != 0) {
    return base::SystemError("look up group " + name, error);
  }
  if (found == nullptr) {
    return std::unexpected(
        base::Error(base::ErrorCode::kNotFound, "group " + name + " of the admin socket is unknown")
            .WithRemedy("groupadd --system " + name));
  }
  return entry.gr_gid;
}

base::Result<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return base::MakeError(base::ErrorCode::kInvalidArgument,
                           "path of the admin socket '" + path + "' must have 1 to " +
                               std::to_string(sizeof(address.sun_path) - 1) + " bytes");
  }
  std::memcpy(static_cast<char*>(address.sun_path), path.data(), path.size());
  return address;
}

const sockaddr* Generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

base::Result<base::UniqueFd> MakeSocket() {
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    return base::SystemError("create the admin socket");
  }
  return fd;
}

// Locks the directory while the path is looked at and taken, so that of two agents that
// start at once only one finds it free. Nothing is left behind.
base::Result<base::UniqueFd> LockDirectoryOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  base::UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    return base::SystemError("open directory " + directory + " of the admin socket");
  }
  if (::flock(fd.get(), LOCK_EX) != 0) {
    return base::SystemError("lock directory " + directory);
  }
  return fd;
}

// Removes what a dead agent left.
base::Result<void> ClearStale(const std::string& path, const sockaddr_un& address) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) {
    return errno == ENOENT ? base::Result<void>{} : base::SystemError("look at " + path);
  }
  if (!S_ISSOCK(status.st_mode)) {
    return std::unexpected(
        base::Error(base::ErrorCode::kAlreadyExists, path + " exists and is not a socket")
            .WithRemedy("move it away, or set admin.socket to another path"));
  }
  auto probe = MakeSocket();
  if (!probe) {
    return std::unexpected(probe.error());
  }
  if (::connect(probe->get(), Generic(address), sizeof(address)) == 0 || errno == EAGAIN) {
    return std::unexpected(
        base::Error(base::ErrorCode::kAlreadyExists, "an agent is already running on " + path)
            .WithRemedy("stop it, or give this one another admin.socket"));
  }
  if (errno != ECONNREFUSED) {
    return base::SystemError("connect to " + path);
  }
  return ::unlink(path.c_str()) == 0 ? base::Result<void>{}
                                     : base::SystemError("remove the stale " + path);
}

}  // namespace

UnixListener::UnixListener(base::UniqueFd fd, std::string path, gid_t gid, dev_t device,
                           ino_t inode)
    : fd_(std::move(fd)), path_(std::move(path)), gid_(gid), device_(device), inode_(inode) {}

UnixListener::UnixListener(UnixListener&& other) noexcept
    : fd_(std::move(other.fd_)),
      path_(std::exchange(other.path_, {})),
      gid_(other.gid_),
      device_(other.device_),
      inode_(other.inode_) {}

UnixListener::~UnixListener() {
  struct stat status{};
  if (!path_.empty() && ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
      status.st_ino == inode_) {
    (void)::unlink(path_.c_str());  // a stale socket is replaced by the next agent anyway
  }
}

base::Result<UnixListener> UnixListener::Bind(const std::string& path, const std::string& group,
                                              mode_t mode) {
  const auto gid = GroupId(group);
  if (!gid) {
    return std::unexpected(gid.error());
  }
  const auto address = AddressOf(path);
  if (!address) {
    return std::unexpected(address.error());
  }
  const auto lock = LockDirectoryOf(path);
  if (!lock) {
    return std::unexpected(lock.error());
  }
  if (auto cleared = ClearStale(path, *address); !cleared) {
    return std::unexpected(cleared.error());
  }
  auto fd = MakeSocket();
  if (!fd) {
    return std::unexpected(fd.error());
  }
  if (::bind(fd->get(), Generic(*address), sizeof(*address)) != 0) {
    return base::SystemError("bind " + path);
  }
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) {
    return base::SystemError("look at " + path);
  }
  UnixListener listener(std::move(*fd), path, *gid, status.st_dev, status.st_ino);
  // Nobody can connect before listen(), so the wider mode that bind() may have given it
  // is never of use.
  if (::chown(path.c_str(), static_cast<uid_t>(-1), *gid) != 0 ||
      ::chmod(path.c_str(), mode) != 0) {
    return base::SystemError("give " + path + " to group " + (group.empty() ? "root" : group));
  }
  if (::listen(listener.fd_.get(), kBacklog) != 0) {
    return base::SystemError("listen on " + path);
  }
  return listener;
}

bool PeerCredentials::InGroup(gid_t group) const {
  return gid == group || std::ranges::find(groups, group) != groups.end();
}

base::Result<PeerCredentials> CredentialsOf(int fd) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return base::SystemError("read the credentials of a peer");
  }
  PeerCredentials peer{
      .uid = credentials.uid, .gid = credentials.gid, .pid = credentials.pid, .groups = {}};
  length = 0;
  // The first call tells the size (ERANGE), Linux 4.13 and later.
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, nullptr, &length) != 0 && errno == ERANGE) {
    peer.groups.resize(length / sizeof(gid_t));
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &length) != 0) {
      return base::SystemError("read the groups of a peer");
    }
    peer.groups.resize(length / sizeof(gid_t));
  }
  return peer;
}

}  // namespace weir::admin
