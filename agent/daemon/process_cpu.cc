#include "agent/daemon/process_cpu.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>

#include "agent/base/file.h"

namespace weir::daemon {

std::optional<ProcessCpu> ReadProcessStat(std::string_view stat, std::string_view name,
                                          double ticks, double up_seconds) {
  const std::size_t open = stat.find('(');
  const std::size_t close = stat.rfind(')');  // the name may have parentheses itself
  if (open == std::string_view::npos || close == std::string_view::npos || close < open ||
      stat.substr(open + 1, close - open - 1) != name) {
    return std::nullopt;
  }
  stat.remove_prefix(close + 1);
  // The third field, the state, comes next; those of interest are 14, 15 and 22.
  std::array<double, 23> fields{};
  for (std::size_t field = 3; field < fields.size(); ++field) {
    stat.remove_prefix(std::min(stat.size(), stat.find_first_not_of(' ')));
    const std::string_view word = stat.substr(0, stat.find(' '));
    if (word.empty()) {
      return std::nullopt;
    }
    (void)std::from_chars(word.begin(), word.end(), fields[field]);  // the state is no number
    stat.remove_prefix(word.size());
  }
  return ProcessCpu{.cpu_seconds = (fields[14] + fields[15]) / ticks,
                    .age_seconds = std::max(up_seconds - fields[22] / ticks, 0.0)};
}

std::optional<ProcessCpu> CpuOf(std::uint32_t pid, std::string_view name) {
  constexpr std::size_t kMaxStatBytes = 4096;
  const auto stat = base::ReadFile("/proc/" + std::to_string(pid) + "/stat", kMaxStatBytes);
  timespec up{};
  if (!stat || ::clock_gettime(CLOCK_BOOTTIME, &up) != 0) {
    return std::nullopt;
  }
  return ReadProcessStat(*stat, name, static_cast<double>(::sysconf(_SC_CLK_TCK)),
                         static_cast<double>(up.tv_sec) + static_cast<double>(up.tv_nsec) * 1e-9);
}

}  // namespace weir::daemon
