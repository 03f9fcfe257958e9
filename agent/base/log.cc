#include "agent/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

namespace weir::base {
namespace {

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
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    auto logger = std::make_shared<spdlog::logger>("weir", std::move(sink));
    // Called once at start, before any thread exists.
    const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;  // NOLINT(concurrency-mt-unsafe)
    logger->set_pattern(journal ? "level=%l %v" : "%Y-%m-%dT%H:%M:%S.%eZ level=%l %v",
                        spdlog::pattern_time_type::utc);
    logger->flush_on(spdlog::level::debug);
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

}  // namespace weir::base
