#pragma once

#include <string>

#include "agent/datapath/datapath.h"

// What `weir-agent` does besides running: nothing here needs or disturbs a running agent.
namespace weir::daemon {

// Prints the checks WK101 to WK110 and WK205 as text or JSON; exit status 0, or 1 when one
// failed.
int RunPreflight(const datapath::Options& options, unsigned workload_count, bool json);

// Removes what FindLeftovers finds and prints it; exit status of the process.
int RunCleanLeftovers(const datapath::Options& options);

// Removes everything that agents with this bpffs directory left; exit status of the process.
int RunUninstall(const datapath::Options& options);

}  // namespace weir::daemon
