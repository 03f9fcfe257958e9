#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/cli/failure.h"
#include "agent/cli/terminal.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {

// An edge of the graph that is not as it was; one of the two is empty when it is new or gone.
struct EdgeDifference {
  enum class Kind : std::uint8_t { kNew, kGone, kChanged };
  Kind kind = Kind::kChanged;
  v1::Edge before{};
  v1::Edge now{};
  double seconds_before = 0;  // what the counts cover
  double seconds_now = 0;
};

// The map that `weir map -o json` wrote to `path` ("-": standard input).
Outcome<v1::ServiceMap> ReadMap(const std::string& path);

// The edges that came, went or changed: their rate or their p99 by more than half, their share
// of errors or of what is protected by at least a hundredth. By their names. Pure.
std::vector<EdgeDifference> DiffOf(const v1::ServiceMap& before, const v1::ServiceMap& now);

std::string DiffText(const std::vector<EdgeDifference>& differences, const Style& style);

}  // namespace weir::cli
