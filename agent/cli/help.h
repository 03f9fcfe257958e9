#pragma once

#include <string>

#include "agent/cli/command_info.h"
#include "agent/cli/failure.h"
#include "agent/cli/terminal.h"

namespace weir::cli {

// Help of one command: examples first, then usage, commands and flags by group.
std::string RenderHelp(const CommandInfo& command, const Style& style);

// What `weir` alone prints: the five most used commands with an example each.
std::string RenderOverview(const CommandInfo& root, const Style& style);

// A manual page, section 1, of a command and the commands below it.
std::string RenderManual(const CommandInfo& command, const std::string& version);

// Writes weir.1 and weir-COMMAND.1 into `directory`; names the file that failed.
Outcome<void> WriteManuals(const CommandInfo& root, const std::string& directory,
                           const std::string& version);

}  // namespace weir::cli
