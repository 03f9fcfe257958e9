#include "agent/config/directory_watcher.h"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <expected>
#include <functional>
#include <memory>
#include <utility>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"
#include "agent/io/event_loop.h"

namespace weir::config {
namespace {

constexpr std::chrono::seconds kRetryInterval{1};
// No IN_MODIFY: a file counts when its writer has closed it.
constexpr std::uint32_t kDirectoryEvents = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM |
                                           IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF |
                                           IN_UNMOUNT | IN_ONLYDIR;
constexpr std::uint32_t kParentEvents = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;

}  // namespace

base::Result<std::unique_ptr<DirectoryWatcher>> DirectoryWatcher::Create(
    io::EventLoop& loop, NewFile new_file, std::function<void()> on_change) {
  base::UniqueFd inotify(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify.valid()) {
    auto error = base::SystemError("create an inotify instance");
    return std::unexpected(
        std::move(error.error()).WithRemedy("sysctl -w fs.inotify.max_user_instances=1024"));
  }
  std::unique_ptr<DirectoryWatcher> watcher(
      new DirectoryWatcher(loop, std::move(inotify), new_file, std::move(on_change)));
  auto watch = loop.Add(watcher->inotify_.get(), EPOLLIN, *watcher);
  if (!watch) {
    return std::unexpected(watch.error());
  }
  watcher->watch_ = std::move(*watch);
  return watcher;
}

DirectoryWatcher::DirectoryWatcher(io::EventLoop& loop, base::UniqueFd inotify, NewFile new_file,
                                   std::function<void()> on_change)
    : loop_(loop),
      inotify_(std::move(inotify)),
      new_file_(new_file),
      on_change_(std::move(on_change)),
      retry_(loop, [this] { Retry(); }) {}

void DirectoryWatcher::SetDirectory(const std::string& path) {
  path_ = path;
  while (path_.size() > 1 && path_.ends_with('/')) {
    path_.pop_back();
  }
  base_name_ = path_.substr(path_.rfind('/') + 1);
  (void)Rearm();  // the caller looks at the directory itself
}

bool DirectoryWatcher::Rearm() {
  const int old_directory = directory_watch_;
  const int old_parent = parent_watch_;
  const std::string parent = path_.substr(0, path_.rfind('/')) + "/";
  parent_watch_ = ::inotify_add_watch(inotify_.get(), parent.c_str(), kParentEvents | IN_ONLYDIR);
  directory_watch_ = ::inotify_add_watch(inotify_.get(), path_.c_str(), kDirectoryEvents);
  for (const int old : {old_directory, old_parent}) {
    if (old >= 0 && old != directory_watch_ && old != parent_watch_) {
      (void)::inotify_rm_watch(inotify_.get(), old);  // gone already if its inode is
    }
  }
  if (!watching() && !retry_.armed()) {
    retry_.Arm(kRetryInterval);
  }
  return directory_watch_ != old_directory;
}

void DirectoryWatcher::Retry() {
  if (Rearm()) {
    on_change_();
  }
}

bool DirectoryWatcher::Matters(int watch, std::uint32_t mask, const std::string& name) const {
  if ((mask & IN_Q_OVERFLOW) != 0) {
    return true;
  }
  if (watch == parent_watch_ && watch != directory_watch_) {
    return name == base_name_;
  }
  if ((mask & IN_CREATE) == 0 || name.empty()) {
    return (mask & IN_IGNORED) == 0 || watch == directory_watch_;
  }
  if (new_file_ == NewFile::kAtOnce) {
    return true;
  }
  // A new regular file is still being written; its IN_CLOSE_WRITE follows. A link is not.
  struct stat status{};
  return ::lstat((path_ + "/" + name).c_str(), &status) == 0 &&
         (!S_ISREG(status.st_mode) || status.st_nlink > 1);
}

void DirectoryWatcher::OnEvents(std::uint32_t /*events*/) noexcept {
  alignas(inotify_event) std::array<char, 16384> buffer{};
  bool changed = false;
  for (;;) {
    const ssize_t got = ::read(inotify_.get(), buffer.data(), buffer.size());
    if (got <= 0) {
      break;  // EAGAIN: all read
    }
    const auto size = static_cast<std::size_t>(got);
    for (std::size_t at = 0; at < size;) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof(event));
      // The kernel pads the name with NULs.
      const std::string name = event.len == 0 ? "" : buffer.data() + at + sizeof(event);
      changed |= Matters(event.wd, event.mask, name);
      if ((event.mask & IN_IGNORED) != 0 && event.wd == directory_watch_) {
        directory_watch_ = -1;
      }
      at += sizeof(event) + event.len;
    }
  }
  if (changed) {
    (void)Rearm();
    on_change_();
  }
}

}  // namespace weir::config
