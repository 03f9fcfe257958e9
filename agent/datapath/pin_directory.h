#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"

namespace weir::datapath {

// The BPF file system's directory that `path` is, or would be made, in: the nearest one
// that exists. kNotFound with a remedy where that is of another file system.
base::Result<std::string> FindBpfFileSystem(const std::string& path);

// PinDirectory is one instance's directory in a BPF file system, locked against another
// agent as long as it lives. An empty one is removed with it.
class PinDirectory {
 public:
  // Makes the directory. kAlreadyExists while another process holds it,
  // kInvalidArgument when no BPF file system is mounted there.
  static base::Result<PinDirectory> Lock(const std::string& path);
  PinDirectory(PinDirectory&& other) noexcept = default;
  PinDirectory& operator=(PinDirectory&&) = delete;
  PinDirectory(const PinDirectory&) = delete;
  PinDirectory& operator=(const PinDirectory&) = delete;
  ~PinDirectory();

  [[nodiscard]] std::string File(const std::string& name) const { return path_ + "/" + name; }
  // Path of the pinned lookup link of a namespace.
  [[nodiscard]] std::string LookupFile(std::uint64_t netns_cookie) const;
  // Cookies of the namespaces that have one.
  [[nodiscard]] std::vector<std::uint64_t> LookupCookies() const;
  // Removes one pin; a link that it held has no effect any more when this returns. errno on
  // failure.
  static bool RemovePin(const std::string& file);
  // Removes every pin.
  base::Result<void> Clear() const;

 private:
  PinDirectory(std::string path, base::UniqueFd lock)
      : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  base::UniqueFd lock_;
};

}  // namespace weir::datapath
