#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "agent/base/clock.h"

namespace weir::cli {

// What places one span, or the flow of one, in a tree.
struct SpanKey {
  std::string id;      // empty: it is nobody's parent
  std::string parent;  // empty: a root
  base::WallTime start{};
};

// A place in the order of output.
struct SpanPlace {
  std::size_t index = 0;  // into the keys
  std::size_t depth = 0;
  std::string lead{};  // branches to draw before it: "|  `- "; empty for a root
};

// Each parent before its children, siblings and roots by start. A span whose parent is not
// among the keys is a root; a loop of parents is broken at its earliest span. Pure.
std::vector<SpanPlace> ArrangeTree(const std::vector<SpanKey>& keys);

}  // namespace weir::cli
