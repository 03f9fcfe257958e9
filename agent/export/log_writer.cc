#include "agent/export/log_writer.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <numeric>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "agent/base/unique_fd.h"
#include "agent/export/log_file.h"

namespace weir::telemetry {
namespace {

struct Lines {
  std::string text;
  std::size_t count = 0;
};

}  // namespace

// Shared with the thread, which outlives the writer when a disk hangs.
struct LogWriter::State {
  LogWriterOptions options;
  base::UniqueFd stop_fd;  // readable once it stops
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<Lines> queue;
  std::size_t queued_bytes = 0;
  std::size_t in_hand = 0;  // lines that the thread is writing
  bool is_stopping = false;
  bool is_done = false;
  bool reopen = false;
  LogWriterStatus status;

  void Drop(LogDrop reason, std::size_t count) {
    status.dropped[static_cast<std::size_t>(reason)] += count;
  }
  void DropQueued() {
    for (const Lines& lines : queue) {
      Drop(LogDrop::kStopped, lines.count);
    }
    queue.clear();
    queued_bytes = 0;
  }
  void WriteOne(LogFile& file, const Lines& lines,
                std::chrono::steady_clock::time_point& next_open);
  base::Result<void> Prepare(LogFile& file, std::size_t more_bytes,
                             std::chrono::steady_clock::time_point& next_open);
};

std::string_view ToString(LogDrop value) {
  switch (value) {
    case LogDrop::kQueueFull:
      return "queue-full";
    case LogDrop::kOpenFailed:
      return "open-failed";
    case LogDrop::kWriteFailed:
      return "write-failed";
    case LogDrop::kStopped:
      return "stopped";
  }
  return "stopped";
}

std::uint64_t LogWriterStatus::dropped_total() const {
  return std::accumulate(dropped.begin(), dropped.end(), std::uint64_t{0});
}

LogWriter::LogWriter(std::shared_ptr<State> state) : state_(std::move(state)) {}

LogWriter::~LogWriter() {
  Stop(std::chrono::milliseconds(0));
}

base::Result<std::unique_ptr<LogWriter>> LogWriter::Start(LogWriterOptions options) {
  auto state = std::make_shared<State>();
  state->options = std::move(options);
  state->stop_fd.Reset(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!state->stop_fd.valid()) {
    return base::SystemError("create eventfd of a log");
  }
  try {
    std::thread thread([state] { Run(state); });
    (void)::pthread_setname_np(thread.native_handle(), "weir-log");  // cosmetic
    thread.detach();  // Stop waits for is_done instead, with a bound
  } catch (const std::system_error& error) {
    return base::SystemError("start the thread of a log", error.code().value());
  }
  return std::unique_ptr<LogWriter>(new LogWriter(std::move(state)));
}

const std::string& LogWriter::path() const {
  return state_->options.path;
}

void LogWriter::Write(std::string lines, std::size_t count) noexcept {
  if (count == 0) {
    return;
  }
  const std::lock_guard lock(state_->mutex);
  if (state_->is_stopping) {
    state_->Drop(LogDrop::kStopped, count);
  } else if (state_->queued_bytes + lines.size() > state_->options.queue_limit_bytes) {
    state_->Drop(LogDrop::kQueueFull, count);
  } else {
    state_->queued_bytes += lines.size();
    state_->queue.push_back({.text = std::move(lines), .count = count});
    state_->changed.notify_all();
  }
}

void LogWriter::Reopen() noexcept {
  const std::lock_guard lock(state_->mutex);
  state_->reopen = true;
}

void LogWriter::Stop(std::chrono::milliseconds limit) noexcept {
  std::unique_lock lock(state_->mutex);
  if (!state_->is_stopping) {
    state_->is_stopping = true;
    const std::uint64_t one = 1;
    (void)!::write(state_->stop_fd.get(), &one, sizeof(one));  // the first one cannot fail
    state_->changed.notify_all();
  }
  if (!state_->changed.wait_for(lock, limit, [&] { return state_->is_done; })) {
    state_->DropQueued();
  }
}

LogWriterStatus LogWriter::status() const {
  const std::lock_guard lock(state_->mutex);
  LogWriterStatus status = state_->status;
  status.queued = state_->in_hand;
  for (const Lines& lines : state_->queue) {
    status.queued += lines.count;
  }
  return status;
}

// Opens or rotates the file where that is due. `mutex` is not held.
base::Result<void> LogWriter::State::Prepare(LogFile& file, std::size_t more_bytes,
                                             std::chrono::steady_clock::time_point& next_open) {
  if (!file.is_open()) {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_open) {
      return base::MakeError(base::ErrorCode::kUnavailable, "");  // its reason is known
    }
    next_open = now + options.retry_interval;
    if (auto opened = file.Open(); !opened) {
      return opened;
    }
  }
  if (!file.IsFull(more_bytes, options.rotate_bytes)) {
    return {};
  }
  auto rotated = file.Rotate(options.keep);
  const std::lock_guard lock(mutex);
  if (rotated) {
    ++status.rotations;
  } else {
    status.last_error = rotated.error().ToString();
  }
  // Better a file that is too long than lines that are lost.
  return file.is_open() ? base::Result<void>() : rotated;
}

void LogWriter::State::WriteOne(LogFile& file, const Lines& lines,
                                std::chrono::steady_clock::time_point& next_open) {
  if (auto ready = Prepare(file, lines.text.size(), next_open); !ready) {
    const std::lock_guard lock(mutex);
    in_hand = 0;
    Drop(LogDrop::kOpenFailed, lines.count);
    if (!ready.error().message().empty()) {
      status.last_error = ready.error().ToString();
    }
    return;
  }
  const LogFile::Outcome outcome = file.Write(lines.text);
  const auto written = static_cast<std::size_t>(
      std::count(lines.text.begin(),
                 lines.text.begin() + static_cast<std::ptrdiff_t>(outcome.written_bytes), '\n'));
  const std::lock_guard lock(mutex);
  in_hand = 0;
  status.written += written;
  if (outcome.result) {
    status.last_error.clear();
    return;
  }
  Drop(is_stopping ? LogDrop::kStopped : LogDrop::kWriteFailed, lines.count - written);
  status.last_error = outcome.result.error().ToString();
}

void LogWriter::Run(const std::shared_ptr<State>& state) noexcept {
  LogFile file(state->options.path, state->stop_fd.get());
  std::chrono::steady_clock::time_point next_open{};
  std::unique_lock lock(state->mutex);
  while (true) {
    state->changed.wait(lock, [&] { return state->is_stopping || !state->queue.empty(); });
    if (state->queue.empty()) {
      break;
    }
    const Lines lines = std::move(state->queue.front());
    state->queue.pop_front();
    state->in_hand = lines.count;
    const bool reopen = std::exchange(state->reopen, false);
    lock.unlock();
    if (reopen) {
      file.Close();
      next_open = {};
    }
    state->WriteOne(file, lines, next_open);
    lock.lock();
    state->queued_bytes -= std::min(state->queued_bytes, lines.text.size());
  }
  state->is_done = true;
  state->changed.notify_all();
}

}  // namespace weir::telemetry
