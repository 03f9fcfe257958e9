#pragma once

#include <string>
#include <vector>

namespace weir::cli {

// What help, completion and manual pages need to know of a command, read from the same
// declarations that parse the command line.
struct OptionInfo {
  std::vector<std::string> names;  // "-f", "--follow"
  std::string value;               // placeholder, empty for a switch
  std::vector<std::string> choices;
  std::string help;
  std::string group;  // empty: not in help, but still known
  bool many = false;  // may be repeated
};

struct PositionalInfo {
  std::string name;
  std::vector<std::string> choices;
  std::string help;
  bool required = false;
};

struct Example {
  std::string command;
  std::string meaning;
};

struct CommandInfo {
  std::string path;  // "weir config check"
  std::string name;
  std::string help;
  std::string notes;  // paragraphs after the options
  std::vector<Example> examples;
  std::vector<OptionInfo> options;
  std::vector<PositionalInfo> positionals;
  std::vector<CommandInfo> commands;
  bool hidden = false;
};

}  // namespace weir::cli
