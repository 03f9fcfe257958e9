#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace weir::telemetry {

// Why a line of a log was not written.
enum class LogDrop : std::uint8_t {
  kQueueFull,    // the sink is slower than the lines come, or takes none
  kOpenFailed,   // the file cannot be opened
  kWriteFailed,  // the disk is full, or the file cannot be written
  kStopped       // it was still queued when the writer stopped
};
inline constexpr std::size_t kLogDropCount = static_cast<std::size_t>(LogDrop::kStopped) + 1;
std::string_view ToString(LogDrop value);

struct LogWriterOptions {
  // An absolute path of a file, a FIFO or a device; /dev/stdout and /dev/stderr may be sockets.
  // Or "tcp://HOST:PORT".
  std::string path;
  std::size_t queue_limit_bytes = 8U << 20U;
  // A regular file that would grow beyond it becomes PATH.1, PATH.1 becomes PATH.2 and so on
  // to PATH.KEEP; the oldest goes. 0: never.
  std::uint64_t rotate_bytes = 0;
  unsigned keep = 4;                               // 1 to 99
  std::chrono::milliseconds retry_interval{1000};  // between attempts to open the file
  // Between attempts to connect: doubled after each, with jitter. What is queued waits.
  std::chrono::milliseconds backoff_first{500};
  std::chrono::milliseconds backoff_limit{30'000};
};

// Lines: offered = written + dropped + queued in every copy.
struct LogWriterStatus {
  std::uint64_t written = 0;
  std::array<std::uint64_t, kLogDropCount> dropped{};
  std::uint64_t queued = 0;
  std::size_t queued_bytes = 0;
  std::uint64_t rotations = 0;
  std::uint64_t connections = 0;  // made, to a TCP sink
  std::string last_error;  // of the last line that was not written; empty while all goes well

  [[nodiscard]] std::uint64_t dropped_total() const;
};

// LogWriter appends lines to one file or sends them over one TCP connection, in a thread of its
// own, so that a full or blocked disk and a slow or dead peer hold up nobody: what does not fit
// into its queue is dropped and counted, and so is what the file does not take. A line is
// written whole or, in a regular file, not at all; one that a broken connection cut off is sent
// again on the next.
class LogWriter {
 public:
  static base::Result<std::unique_ptr<LogWriter>> Start(LogWriterOptions options);
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;
  ~LogWriter();  // Stop, without waiting, if that was not done

  // Any thread. `lines` are `count` whole lines, taken or dropped together. Never waits for the
  // file.
  void Write(std::string lines, std::size_t count) noexcept;
  // Closes the file and opens it anew before the next line (after a rotation by others). A
  // connection stays.
  void Reopen() noexcept;
  // Writes what is queued, for at most `limit`; a write that hangs in the kernel for longer is
  // left to the thread, which then outlives the object. What is offered later is dropped.
  void Stop(std::chrono::milliseconds limit) noexcept;
  [[nodiscard]] LogWriterStatus status() const;
  [[nodiscard]] const std::string& path() const;

 private:
  struct State;
  explicit LogWriter(std::shared_ptr<State> state);
  static void Run(const std::shared_ptr<State>& state) noexcept;

  std::shared_ptr<State> state_;
};

}  // namespace weir::telemetry
