#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/cli/command_info.h"
#include "agent/cli/failure.h"
#include "agent/cli/options.h"

namespace weir::cli {

// What a parsed command line asks for.
struct Invocation {
  // The path of the command, for example "config check"; empty for `weir` alone.
  std::string command;
  // The help to print instead of running it.
  bool wants_help = false;
};

// CommandLine declares every command and flag, once, for parsing, help, completion and
// manual pages.
class CommandLine {
 public:
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;
  ~CommandLine();

  // Parses the words after the program's name into options(). A usage failure names the
  // nearest command or flag.
  Outcome<Invocation> Parse(const std::vector<std::string>& words);
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] CommandInfo Describe() const;

 private:
  class Parser;
  Options options_;
  std::unique_ptr<Parser> parser_;
};

// The command of `root` at `path` ("config check"); null if there is none.
const CommandInfo* FindCommand(const CommandInfo& root, const std::string& path);

}  // namespace weir::cli
