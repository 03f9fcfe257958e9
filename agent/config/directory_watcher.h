#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"
#include "agent/io/event_loop.h"

namespace weir::config {

// DirectoryWatcher calls back when the entries of a directory change, or the directory
// itself is replaced, removed or made; while it is missing it looks once a second. Tells
// that something happened, not what: the owner looks. Control thread.
class DirectoryWatcher final : public io::EventHandler {
 public:
  // When a new regular file is a change: once its writer has closed it, or at once.
  enum class NewFile : std::uint8_t { kWhenClosed, kAtOnce };

  // `loop` outlives the object. Fails when the user's inotify instances are used up.
  static base::Result<std::unique_ptr<DirectoryWatcher>> Create(io::EventLoop& loop,
                                                                NewFile new_file,
                                                                std::function<void()> on_change);
  DirectoryWatcher(const DirectoryWatcher&) = delete;
  DirectoryWatcher& operator=(const DirectoryWatcher&) = delete;
  ~DirectoryWatcher() = default;

  // Watches `path` from now on instead of the directory before.
  void SetDirectory(const std::string& path);
  // Whether the directory exists and is watched.
  [[nodiscard]] bool watching() const { return directory_watch_ >= 0; }

  void OnEvents(std::uint32_t events) noexcept override;

 private:
  DirectoryWatcher(io::EventLoop& loop, base::UniqueFd inotify, NewFile new_file,
                   std::function<void()> on_change);
  // Puts the watches where `path_` leads now; true if that is another directory than before.
  bool Rearm();
  void Retry();
  [[nodiscard]] bool Matters(int watch, std::uint32_t mask, const std::string& name) const;

  io::EventLoop& loop_;
  base::UniqueFd inotify_;
  NewFile new_file_;
  std::function<void()> on_change_;
  io::Timer retry_;
  io::Watch watch_;
  std::string path_;
  std::string base_name_;
  int directory_watch_ = -1;
  int parent_watch_ = -1;
};

}  // namespace weir::config
