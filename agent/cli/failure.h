#pragma once

#include <expected>
#include <string>

#include "agent/base/error.h"

namespace weir::cli {

// How the process ends; `weir help exit-codes` prints the table.
enum ExitCode : int {
  kExitDone = 0,
  kExitNegative = 1,  // a check failed, nothing there, the wait ran out
  kExitUsage = 2,
  kExitUnreachable = 3,
  kExitPermission = 4,
  kExitVersion = 5,
  kExitPartial = 6,  // some agents did not answer; the results of the others are printed
  kExitBug = 70,
  kExitInterrupted = 130,
};

// Why a command cannot go on, in the three lines that are printed: what failed, why, what
// to do. `why` and `remedy` may be empty.
struct Failure {
  int exit_code = kExitBug;
  std::string what{};
  std::string why{};
  std::string remedy{};
};

template <typename T>
using Outcome = std::expected<T, Failure>;

// Prints `failure` to standard error and returns its exit code.
int Report(const Failure& failure);

// A failure of this machine or of a file, for commands that do without an agent.
Failure FromError(const base::Error& error);

}  // namespace weir::cli
