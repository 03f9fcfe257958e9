#pragma once

#include <cstdint>
#include <string_view>

#include "agent/base/error.h"

// The program's log: one line per event, key=value, subject first. Only daemon and
// the end step of a session log above debug; libraries return errors instead.
// spdlog's macros are not used: call spdlog::info(...) and friends through here.
#include <spdlog/spdlog.h>

namespace weir::base {

// Sends the log to standard error, with `level` one of debug, info, warn, error.
// Under systemd (JOURNAL_STREAM set) lines carry a <N> priority instead of a time.
// Never waits for a reader: a line that a pipe, socket or terminal has no room for, or a file
// does not take, is dropped and counted; where it is no file, lines are cut at PIPE_BUF bytes.
Result<void> StartLog(std::string_view level);

// Changes the level at run time; any thread.
Result<void> SetLogLevel(std::string_view level);

// Lines that were dropped since the start; any thread.
std::uint64_t DroppedLogLines();

}  // namespace weir::base
