#include "agent/export/log_writer.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "agent/base/unique_fd.h"
#include "agent/export/log_file.h"
#include "agent/export/log_stream.h"

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
  std::atomic<bool> stopped{false};  // the same, for who does not hold the mutex
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
  void WriteOne(LogOutput& file, const Lines& lines,
                std::chrono::steady_clock::time_point& next_open);
  base::Result<void> Prepare(LogOutput& file, std::size_t more_bytes,
                             std::chrono::steady_clock::time_point& next_open);
  void SendAll(LogOutput& stream, const Lines& lines);
  void NoteWritten(const LogOutput::Outcome& outcome, std::string_view text);
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
    state_->stopped.store(true);
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
  status.queued_bytes = state_->queued_bytes;
  for (const Lines& lines : state_->queue) {
    status.queued += lines.count;
  }
  return status;
}

// Opens or rotates the file where that is due. `mutex` is not held.
base::Result<void> LogWriter::State::Prepare(LogOutput& file, std::size_t more_bytes,
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

void LogWriter::State::WriteOne(LogOutput& file, const Lines& lines,
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
  const LogOutput::Outcome outcome = file.Write(lines.text);
  const std::lock_guard lock(mutex);
  NoteWritten(outcome, lines.text);
  Drop(is_stopping ? LogDrop::kStopped : LogDrop::kWriteFailed, std::exchange(in_hand, 0));
}

// Counts what of `text` was written. With the mutex held.
void LogWriter::State::NoteWritten(const LogOutput::Outcome& outcome, std::string_view text) {
  const std::string_view written = text.substr(0, outcome.written_bytes);
  const auto lines = static_cast<std::size_t>(std::ranges::count(written, '\n'));
  in_hand -= lines;
  status.written += lines;
  status.last_error = outcome.result ? std::string() : outcome.result.error().ToString();
}

// Sends `lines`, over as many connections as it takes; when the writer stops, what has not been
// sent is dropped. The mutex is not held.
void LogWriter::State::SendAll(LogOutput& stream, const Lines& lines) {
  std::minstd_rand random(std::random_device{}());
  std::string_view rest = lines.text;
  std::chrono::milliseconds delay{0};
  std::unique_lock lock(mutex);
  while (!rest.empty()) {
    if (delay.count() > 0) {
      std::uniform_int_distribution<std::chrono::milliseconds::rep> spread(delay.count() / 2,
                                                                           delay.count());
      changed.wait_for(lock, std::chrono::milliseconds(spread(random)),
                       [this] { return is_stopping; });
    }
    if (is_stopping && !stream.is_open()) {
      Drop(LogDrop::kStopped, std::exchange(in_hand, 0));
      return;
    }
    lock.unlock();
    const bool connects = !stream.is_open();
    LogOutput::Outcome outcome{.written_bytes = 0,
                               .result = connects ? stream.Open() : base::Result<void>()};
    const bool is_connected = outcome.result.has_value();
    if (is_connected) {
      outcome = stream.Write(rest);
    }
    if (!outcome.result) {
      stream.Close();
    }
    lock.lock();
    status.connections += connects && is_connected ? 1 : 0;
    NoteWritten(outcome, rest);
    rest.remove_prefix(outcome.written_bytes);
    // A connection that took something is worth another one at once.
    delay = outcome.written_bytes != 0 || !connects
                ? std::chrono::milliseconds(0)
                : std::min(std::max(options.backoff_first, delay * 2), options.backoff_limit);
  }
}

void LogWriter::Run(const std::shared_ptr<State>& state) noexcept {
  const std::string& path = state->options.path;
  const bool is_stream = path.starts_with(kTcpScheme);
  std::unique_ptr<LogOutput> output;
  if (is_stream) {
    output = std::make_unique<LogStream>(path, state->stop_fd.get(), state->stopped);
  } else {
    output = std::make_unique<LogFile>(path, state->stop_fd.get());
  }
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
    if (is_stream) {
      state->SendAll(*output, lines);
    } else {
      if (reopen) {
        output->Close();
        next_open = {};
      }
      state->WriteOne(*output, lines, next_open);
    }
    lock.lock();
    state->queued_bytes -= std::min(state->queued_bytes, lines.text.size());
  }
  state->is_done = true;
  state->changed.notify_all();
}

}  // namespace weir::telemetry
