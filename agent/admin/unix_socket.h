#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"

namespace weir::admin {

// UnixListener is a listening Unix socket with a path, which it removes when it ends
// unless somebody else has taken the path meanwhile.
class UnixListener {
 public:
  // Binds `path` with `mode`, owned by `group` ("": the process's). A socket that nobody
  // listens on is replaced; a live one is kAlreadyExists, as is any other kind of file.
  static base::Result<UnixListener> Bind(const std::string& path, const std::string& group,
                                         mode_t mode);
  UnixListener(UnixListener&& other) noexcept;
  UnixListener& operator=(UnixListener&&) = delete;
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;
  ~UnixListener();

  // Gives up the descriptor; the path stays this object's to remove.
  [[nodiscard]] base::UniqueFd TakeFd() { return std::move(fd_); }
  [[nodiscard]] gid_t gid() const { return gid_; }

 private:
  UnixListener(base::UniqueFd fd, std::string path, gid_t gid, dev_t device, ino_t inode);
  base::UniqueFd fd_;
  std::string path_;  // empty: moved from
  gid_t gid_ = 0;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// Who is at the other end of a Unix socket, as the kernel recorded it at connect().
struct PeerCredentials {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
  std::vector<gid_t> groups;  // supplementary

  [[nodiscard]] bool InGroup(gid_t group) const;
};
base::Result<PeerCredentials> CredentialsOf(int fd);

}  // namespace weir::admin
