#include "agent/datapath/cgroup.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>

#include "agent/base/file.h"

namespace weir::datapath {
namespace {

constexpr std::size_t kMaxMountinfoBytes = 4U << 20U;

std::vector<std::string_view> Fields(std::string_view line) {
  std::vector<std::string_view> fields;
  while (!line.empty()) {
    const std::string_view field = line.substr(0, line.find(' '));
    if (!field.empty()) {
      fields.push_back(field);
    }
    line.remove_prefix(std::min(line.size(), field.size() + 1));
  }
  return fields;
}

struct MountLine {
  std::string_view root;
  std::string_view mount_point;
  std::string_view type;
};

// "36 35 98:0 /root /mount options [optional...] - type source superoptions"
std::optional<MountLine> ParseMountLine(std::string_view line) {
  const auto fields = Fields(line);
  const auto dash = std::ranges::find(fields, "-");
  if (fields.size() < 6 || dash == fields.end() || std::next(dash) == fields.end()) {
    return std::nullopt;
  }
  return MountLine{.root = fields[3], .mount_point = fields[4], .type = *std::next(dash)};
}

// Inode number of the hierarchy's root (kernfs). A cgroup namespace shows a cgroup further
// below as the root of its mount; only the number tells.
constexpr ino_t kRootInode = 1;

// Depth of `path` below the root of its cgroup2 tree; -1 if unknown.
int LevelOf(const std::string& path) {
  const auto mount = FindCgroupMount();
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  struct stat top{};
  if (!mount || !mount->whole || error || ::stat(mount->path.c_str(), &top) != 0 ||
      top.st_ino != kRootInode) {
    return -1;
  }
  const auto relative = real.lexically_relative(mount->path);
  if (relative.empty() || *relative.begin() == "..") {
    return -1;
  }
  return relative == "." ? 0 : static_cast<int>(std::distance(relative.begin(), relative.end()));
}

}  // namespace

base::Result<CgroupMount> FindCgroupMount(std::string_view mountinfo) {
  std::optional<CgroupMount> found;
  bool v1 = false;
  while (!mountinfo.empty()) {
    const std::string_view line = mountinfo.substr(0, mountinfo.find('\n'));
    mountinfo.remove_prefix(std::min(mountinfo.size(), line.size() + 1));
    const auto mount = ParseMountLine(line);
    if (!mount) {
      continue;
    }
    v1 = v1 || mount->type == "cgroup";
    const bool whole = mount->root == "/";
    if (mount->type == "cgroup2" && (!found || (whole && !found->whole))) {
      found = CgroupMount{.path = std::string(mount->mount_point), .whole = whole};
    }
  }
  if (!found) {
    return std::unexpected(
        base::Error(base::ErrorCode::kNotFound,
                    v1 ? "only cgroup v1 is mounted, no cgroup2" : "no cgroup2 tree is mounted")
            .WithRemedy("mount -t cgroup2 none /sys/fs/cgroup/unified"));
  }
  found->hybrid = v1;
  return *found;
}

base::Result<CgroupMount> FindCgroupMount() {
  auto text = base::ReadFile("/proc/self/mountinfo", kMaxMountinfoBytes);
  if (!text) {
    return std::unexpected(text.error());
  }
  return FindCgroupMount(*text);
}

base::Result<CgroupId> IdentifyCgroup(const std::string& path) {
  struct statfs file_system{};
  struct stat status{};
  if (::statfs(path.c_str(), &file_system) != 0 || ::stat(path.c_str(), &status) != 0) {
    return base::SystemError("find the cgroup " + path);
  }
  if (file_system.f_type != CGROUP2_SUPER_MAGIC || !S_ISDIR(status.st_mode)) {
    return std::unexpected(base::Error(base::ErrorCode::kInvalidArgument,
                                       path + " is not a directory of a cgroup2 tree")
                               .WithRemedy("correct it in agent.yaml (cgroupRoot, or a workload's "
                                           "match); findmnt -t cgroup2 shows the trees"));
  }
  // The inode number of a cgroup2 directory is the cgroup's id (kernfs, 64-bit).
  return CgroupId{.id = status.st_ino, .level = LevelOf(path)};
}

std::vector<std::uint64_t> CgroupSubtreeIds(const std::string& path) {
  std::vector<std::uint64_t> ids;
  const auto add = [&](const std::filesystem::path& directory) {
    struct stat status{};
    if (::stat(directory.c_str(), &status) == 0) {
      ids.push_back(status.st_ino);
    }
  };
  add(path);
  std::error_code error;
  std::filesystem::recursive_directory_iterator at(path, error);
  for (; !error && at != std::filesystem::recursive_directory_iterator(); at.increment(error)) {
    std::error_code ignored;
    if (at->is_directory(ignored)) {
      add(at->path());
    }
  }
  return ids;
}

}  // namespace weir::datapath
