#include "agent/base/nearest_name.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace weir::base {
namespace {

constexpr std::size_t kMaxWordBytes = 64;

// Number of letters to insert, delete, replace or swap with the next one.
std::size_t EditDistance(std::string_view left, std::string_view right) {
  std::array<std::array<std::size_t, kMaxWordBytes + 1>, 3> rows{};
  for (std::size_t j = 0; j <= right.size(); ++j) {
    rows[0][j] = j;
  }
  for (std::size_t i = 1; i <= left.size(); ++i) {
    auto& row = rows[i % 3];
    const auto& above = rows[(i + 2) % 3];
    const auto& two_above = rows[(i + 1) % 3];
    row[0] = i;
    for (std::size_t j = 1; j <= right.size(); ++j) {
      const std::size_t change = above[j - 1] + (left[i - 1] == right[j - 1] ? 0 : 1);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, change});
      if (i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1]) {
        row[j] = std::min(row[j], two_above[j - 2] + 1);
      }
    }
  }
  return rows[left.size() % 3][right.size()];
}

}  // namespace

std::string_view NearestName(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.empty() || word.size() > kMaxWordBytes) {
    return {};
  }
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    if (candidate.size() > kMaxWordBytes) {
      continue;
    }
    const std::size_t distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace weir::base
