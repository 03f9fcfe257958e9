#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace weir::daemon {

// What a process has used of one CPU since it began, and how long ago that was, in seconds.
struct ProcessCpu {
  double cpu_seconds = 0;
  double age_seconds = 0;
};

// Of process `pid`, as /proc sees it, if it is still the one of that name (comm, at most 15
// characters). Reads one small file; any thread but a worker.
std::optional<ProcessCpu> CpuOf(std::uint32_t pid, std::string_view name);

// The same from the text of /proc/PID/stat (proc(5)), `ticks` of them in a second, `up_seconds`
// after the machine began. Pure.
std::optional<ProcessCpu> ReadProcessStat(std::string_view stat, std::string_view name,
                                          double ticks, double up_seconds);

}  // namespace weir::daemon
