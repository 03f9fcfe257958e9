#pragma once

#include <string>
#include <vector>

#include "agent/cli/failure.h"

namespace weir::cli {

// What a program printed to standard output, and how it ended.
struct ProgramOutput {
  std::string text;
  int exit_code = 0;
};

// Runs `arguments` (the first is the program's path) and waits for it; its standard error
// is this process's. Output beyond 16 MiB is a failure.
Outcome<ProgramOutput> RunProgram(const std::vector<std::string>& arguments);

}  // namespace weir::cli
