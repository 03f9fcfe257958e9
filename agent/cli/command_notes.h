#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/cli/command_info.h"

namespace weir::cli {

// What a command's help says beyond its flags.
struct CommandNotes {
  std::vector<Example> examples;
  std::string text;  // paragraphs, one line each
};
CommandNotes NotesOf(std::string_view path);

// Topics of `weir help`, as text; empty for an unknown one.
std::string TopicText(std::string_view topic);

}  // namespace weir::cli
