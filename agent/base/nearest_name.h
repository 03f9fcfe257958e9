#pragma once

#include <span>
#include <string_view>

namespace weir::base {

// NearestName returns the candidate that `word` was most likely meant to be, or an empty
// view when none is near (more than a third of its letters differ). For error messages:
// 'unknown field "fron", did you mean "from"'. Words beyond 64 bytes have no neighbour.
std::string_view NearestName(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace weir::base
