#include "agent/datapath/pin_directory.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>

namespace weir::datapath {
namespace {
constexpr std::string_view kLookupPrefix = "lookup_";
}  // namespace

base::Result<std::string> FindBpfFileSystem(const std::string& path) {
  std::filesystem::path existing = path;
  std::error_code ignored;
  while (existing.has_relative_path() && !std::filesystem::exists(existing, ignored)) {
    existing = existing.parent_path();
  }
  struct statfs file_system{};
  if (::statfs(existing.c_str(), &file_system) != 0 || file_system.f_type != BPF_FS_MAGIC) {
    const std::string mount_point = std::filesystem::path(path).parent_path().string();
    return std::unexpected(
        base::Error(base::ErrorCode::kNotFound, "no BPF file system at " + mount_point)
            .WithRemedy("mount -t bpf bpf " + mount_point));
  }
  return existing.string();
}

base::Result<PinDirectory> PinDirectory::Lock(const std::string& path) {
  if (auto found = FindBpfFileSystem(path); !found) {
    return std::unexpected(found.error());
  }
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    return base::SystemError("create " + path, error.value());
  }
  // Nobody else may look at or replace the pins.
  (void)::chmod(path.c_str(), 0700);
  base::UniqueFd lock(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock.valid() || ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (lock.valid() && errno == EWOULDBLOCK) {
      return std::unexpected(
          base::Error(base::ErrorCode::kAlreadyExists, "another agent runs on " + path)
              .WithRemedy("stop it, or give this one its own bpffs directory"));
    }
    return base::SystemError("lock " + path);
  }
  return PinDirectory(path, std::move(lock));
}

PinDirectory::~PinDirectory() {
  if (lock_.valid()) {
    (void)::rmdir(path_.c_str());  // fails while something is pinned, as it should
  }
}

std::string PinDirectory::LookupFile(std::uint64_t netns_cookie) const {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), netns_cookie, 16);
  return File(std::string(kLookupPrefix) + std::string(digits.data(), end.ptr));
}

std::vector<std::uint64_t> PinDirectory::LookupCookies() const {
  std::vector<std::uint64_t> cookies;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    const std::string name = entry.path().filename().string();
    std::uint64_t cookie = 0;
    if (name.starts_with(kLookupPrefix)) {
      const char* end = name.data() + name.size();
      const auto parsed = std::from_chars(name.data() + kLookupPrefix.size(), end, cookie, 16);
      if (parsed.ec == std::errc() && parsed.ptr == end) {
        cookies.push_back(cookie);
      }
    }
  }
  return cookies;
}

bool PinDirectory::RemovePin(const std::string& file) {
  // The kernel frees a link that loses its pin a moment later; detached it is without
  // effect at once. Maps, and links of kinds without detachment, answer with an error.
  const base::UniqueFd object(::bpf_obj_get(file.c_str()));
  if (object.valid()) {
    (void)::bpf_link_detach(object.get());
  }
  return ::unlink(file.c_str()) == 0;
}

base::Result<void> PinDirectory::Clear() const {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    files.push_back(entry.path());
  }
  for (const auto& file : files) {
    if (!RemovePin(file.string())) {
      return base::SystemError("remove the pin " + file.string());
    }
  }
  return {};
}

}  // namespace weir::datapath
