#include "agent/base/log.h"

#include <poll.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace weir::base {
namespace {

std::atomic<std::uint64_t> dropped_lines{0};

// Standard error, without ever waiting for whoever reads it: the control thread must go on
// when a log collector has stopped.
class StandardErrorSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  StandardErrorSink() {
    struct stat facts{};
    is_regular_ = ::fstat(STDERR_FILENO, &facts) == 0 && S_ISREG(facts.st_mode);
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    std::size_t size = line.size();
    if (!is_regular_) {
      // What poll() calls writable takes so much without waiting.
      pollfd room{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
      if (::poll(&room, 1, /*timeout=*/0) != 1 || room.revents != POLLOUT) {
        ++dropped_lines;
        return;
      }
      if (size > PIPE_BUF) {
        size = PIPE_BUF;
        line[size - 1] = '\n';
      }
    }
    ssize_t written = 0;
    do {
      written = ::write(STDERR_FILENO, line.data(), size);
    } while (written < 0 && errno == EINTR);
    if (written != static_cast<ssize_t>(size)) {
      ++dropped_lines;
    }
  }
  void flush_() override {}

  bool is_regular_ = false;
};

std::optional<spdlog::level::level_enum> LevelOf(std::string_view level) {
  if (level == "debug") {
    return spdlog::level::debug;
  }
  if (level == "info") {
    return spdlog::level::info;
  }
  if (level == "warn") {
    return spdlog::level::warn;
  }
  if (level == "error") {
    return spdlog::level::err;
  }
  return std::nullopt;
}

}  // namespace

Result<void> StartLog(std::string_view level) {
  try {
    auto logger = std::make_shared<spdlog::logger>("weir", std::make_shared<StandardErrorSink>());
    // Called once at start, before any thread exists.
    const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;  // NOLINT(concurrency-mt-unsafe)
    logger->set_pattern(journal ? "level=%l %v" : "%Y-%m-%dT%H:%M:%S.%eZ level=%l %v",
                        spdlog::pattern_time_type::utc);
    spdlog::set_default_logger(std::move(logger));
  } catch (const spdlog::spdlog_ex& error) {
    return MakeError(ErrorCode::kSystem, std::string("start the log: ") + error.what());
  }
  return SetLogLevel(level);
}

Result<void> SetLogLevel(std::string_view level) {
  const auto parsed = LevelOf(level);
  if (!parsed) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "log level '" + std::string(level) + "' is not debug, info, warn or error");
  }
  spdlog::set_level(*parsed);
  return {};
}

std::uint64_t DroppedLogLines() {
  return dropped_lines;
}

}  // namespace weir::base
