#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/cli/command_info.h"

namespace weir::cli {

// Values that only the running agent knows: names of workloads for NS/NAME, and so on, by
// the placeholder of the flag. Empty when there is no agent, or it takes too long.
using LiveValues = std::function<std::vector<std::string>(std::string_view placeholder)>;

// Candidates for the last of `words`, which is what has been typed of it so far (maybe
// nothing); the others are the words after `weir`.
std::vector<std::string> Complete(const CommandInfo& root, const std::vector<std::string>& words,
                                  const LiveValues& live);

// The script that makes `shell` (bash, zsh or fish) ask `weir __complete`; empty for others.
std::string CompletionScript(std::string_view shell);

}  // namespace weir::cli
