#include "agent/config/discovery.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/file.h"
#include "agent/config/agent_config.h"
#include "agent/config/directory_watcher.h"
#include "agent/io/event_loop.h"

#ifndef NSFS_MAGIC
#define NSFS_MAGIC 0x6e736673  // linux/magic.h since 5.x has it
#endif
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000U  // linux/stat.h since 6.8 has it
#endif

namespace weir::config {
namespace {

constexpr std::chrono::seconds kLookInterval{1};
// `ip netns add` makes the file first and mounts the namespace on it a moment later.
// No event tells of the mount, so a few looks follow closely on each change.
constexpr std::chrono::milliseconds kMountWait{20};
constexpr int kMountLooks = 5;
constexpr std::size_t kMaxSlices = 20000;  // visited in one look for units
constexpr std::size_t kMaxMountinfoBytes = 4U << 20U;

// What a configured workload is matched by, resolved to one kernel object.
struct Found {
  std::string path;
  std::uint64_t inode = 0;
  std::uint64_t mount = 0;
};

std::optional<Found> FindNetns(const std::string& path) {
  struct statfs file_system{};
  struct statx status{};
  if (::statfs(path.c_str(), &file_system) != 0 || file_system.f_type != NSFS_MAGIC ||
      ::statx(AT_FDCWD, path.c_str(), 0, STATX_INO | STATX_MNT_ID | STATX_MNT_ID_UNIQUE, &status) !=
          0) {
    return std::nullopt;
  }
  return Found{.path = path, .inode = status.stx_ino, .mount = status.stx_mnt_id};
}

std::optional<Found> FindCgroup(const std::string& path) {
  struct statfs file_system{};
  struct stat status{};
  if (::statfs(path.c_str(), &file_system) != 0 || file_system.f_type != CGROUP2_SUPER_MAGIC ||
      ::stat(path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    return std::nullopt;
  }
  return Found{.path = path, .inode = status.st_ino, .mount = 0};
}

// Directories below `path` that root owns. Others were delegated: a user who may make
// cgroups must not be able to make one that has the name of a workload's unit.
std::vector<std::string> RootsChildren(const std::string& path) {
  std::vector<std::string> names;
  DIR* const listing = ::opendir(path.c_str());
  if (listing == nullptr) {
    return names;  // it went away
  }
  for (const dirent* entry = ::readdir(listing); entry != nullptr; entry = ::readdir(listing)) {
    const std::string name = entry->d_name;
    struct stat status{};
    if (!name.starts_with('.') && entry->d_type == DT_DIR &&
        ::stat((path + "/" + name).c_str(), &status) == 0 && status.st_uid == 0) {
      names.push_back(name);
    }
  }
  (void)::closedir(listing);  // cannot fail usefully
  std::ranges::sort(names);
  return names;
}

// The cgroups of `units`, breadth first. systemd puts units into slices only, so nothing
// else is entered: what is below a unit belongs to the unit.
std::map<std::string, std::string> FindUnits(const std::string& root, std::set<std::string> units) {
  std::map<std::string, std::string> paths;
  std::deque<std::string> slices{root};
  for (std::size_t visited = 0; !slices.empty() && !units.empty() && visited < kMaxSlices;
       ++visited) {
    const std::string slice = std::move(slices.front());
    slices.pop_front();
    for (const std::string& name : RootsChildren(slice)) {
      if (units.erase(name) != 0) {
        paths.emplace(name, slice + "/" + name);
      } else if (name.ends_with(".slice")) {
        slices.push_back(slice + "/" + name);
      }
    }
  }
  return paths;
}

// mountinfo writes a space, tab, newline and backslash as three octal digits.
std::string Unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      const auto digit = [&](std::size_t at) { return (text[i + at] - '0') & 7; };
      plain += static_cast<char>(digit(1) * 64 + digit(2) * 8 + digit(3));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

class Discovery final : public WorkloadDiscovery {
 public:
  Discovery(io::EventLoop& loop, Options options)
      : options_(std::move(options)), tick_(loop, [this] { Look(); }) {}

  base::Result<void> Watch(io::EventLoop& loop) {
    auto watcher = DirectoryWatcher::Create(loop, DirectoryWatcher::NewFile::kAtOnce, [this] {
      soon_looks_ = kMountLooks;
      tick_.Arm(kMountWait);
    });
    if (!watcher) {
      return std::unexpected(watcher.error());
    }
    watcher_ = std::move(*watcher);
    watcher_->SetDirectory(options_.netns_directory);
    return {};
  }

  void SetWorkloads(const std::vector<WorkloadConfig>& workloads) override {
    wanted_ = workloads;
    Look();
  }

  void LookNow() override { Look(); }

  [[nodiscard]] std::vector<Appeared> Present() const override {
    std::vector<Appeared> all;
    for (const auto& [name, one] : present_) {
      all.push_back(one);
    }
    return all;
  }

 private:
  void Look() {
    tick_.Arm(soon_looks_ > 0 ? base::Nanoseconds(kMountWait) : base::Nanoseconds(kLookInterval));
    soon_looks_ = std::max(0, soon_looks_ - 1);
    const std::map<std::string, Appeared> found = FindAll();
    const std::map<std::string, Appeared> before = std::exchange(present_, found);
    for (const auto& [name, one] : before) {
      const auto at = found.find(name);
      if (at == found.end() || !at->second.IsSameObject(one)) {
        options_.on_vanished({.workload = name});
      }
    }
    for (const auto& [name, one] : found) {
      const auto at = before.find(name);
      if (at == before.end() || !at->second.IsSameObject(one)) {
        options_.on_appeared(one);
      }
    }
  }

  std::map<std::string, Appeared> FindAll() {
    const auto units = ResolveUnits();
    std::map<std::string, Appeared> found;
    for (const WorkloadConfig& workload : wanted_) {
      if (const auto one = Find(workload, units)) {
        found.emplace(workload.display_name(), Appeared{.workload = workload.display_name(),
                                                        .kind = workload.match_kind,
                                                        .path = one->path,
                                                        .inode = one->inode,
                                                        .mount = one->mount});
      }
    }
    return found;
  }

  [[nodiscard]] std::optional<Found> Find(const WorkloadConfig& workload,
                                          const std::map<std::string, std::string>& units) const {
    const std::string& match = workload.match;
    switch (workload.match_kind) {
      case MatchKind::kNetns:
        return FindNetns(match.starts_with('/') ? match : options_.netns_directory + "/" + match);
      case MatchKind::kUnit: {
        const auto path = units.find(match);
        return path == units.end() ? std::nullopt : FindCgroup(path->second);
      }
      case MatchKind::kCgroup:
        return FindCgroup(match.starts_with('/') ? match : options_.cgroup_root + "/" + match);
    }
    return std::nullopt;
  }

  // Unit -> cgroup path. The tree is walked only for units that are not where they were.
  std::map<std::string, std::string> ResolveUnits() {
    std::map<std::string, std::string> paths;
    std::set<std::string> missing;
    for (const WorkloadConfig& workload : wanted_) {
      if (workload.match_kind != MatchKind::kUnit) {
        continue;
      }
      const auto known = present_.find(workload.display_name());
      if (known != present_.end() && known->second.kind == MatchKind::kUnit &&
          known->second.path.ends_with("/" + workload.match) && FindCgroup(known->second.path)) {
        paths.emplace(workload.match, known->second.path);
      } else {
        missing.insert(workload.match);
      }
    }
    if (!missing.empty()) {
      paths.merge(FindUnits(options_.cgroup_root, std::move(missing)));
    }
    return paths;
  }

  Options options_;
  std::vector<WorkloadConfig> wanted_;
  std::map<std::string, Appeared> present_;  // by display name
  int soon_looks_ = 0;
  io::Timer tick_;
  std::unique_ptr<DirectoryWatcher> watcher_;
};

}  // namespace

base::Result<std::string> FindCgroup2Root(const std::string& mountinfo_path) {
  const auto text = base::ReadFile(mountinfo_path, kMaxMountinfoBytes);
  if (!text) {
    return std::unexpected(text.error());
  }
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    // proc_pid_mountinfo(5): ID PARENT DEVICE ROOT MOUNTPOINT OPTIONS [TAGS] - TYPE SOURCE ...
    const std::size_t separator = line.find(" - ");
    if (separator == std::string::npos || !line.substr(separator).starts_with(" - cgroup2 ")) {
      continue;
    }
    std::istringstream fields(line);
    std::string field;
    for (int i = 0; i < 5; ++i) {
      fields >> field;
    }
    return Unescape(field);
  }
  auto error = base::MakeError(base::ErrorCode::kNotFound, "no cgroup2 file system is mounted");
  return std::unexpected(
      std::move(error.error()).WithRemedy("mount -t cgroup2 none /sys/fs/cgroup"));
}

base::Result<std::unique_ptr<WorkloadDiscovery>> WorkloadDiscovery::Create(io::EventLoop& loop,
                                                                           Options options) {
  auto discovery = std::make_unique<Discovery>(loop, std::move(options));
  if (auto watching = discovery->Watch(loop); !watching) {
    return std::unexpected(watching.error());
  }
  return discovery;
}

}  // namespace weir::config
