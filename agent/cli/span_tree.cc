#include "agent/cli/span_tree.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace weir::cli {
namespace {

// Deeper than any real trace; what a hostile one has below is drawn at this depth.
constexpr std::size_t kMaxLeads = 64;

struct Step {
  SpanPlace place;
  std::string margin;  // what stands before the branches of its children
};

}  // namespace

std::vector<SpanPlace> ArrangeTree(const std::vector<SpanKey>& keys) {
  std::vector<std::size_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return keys[i].start; });
  std::map<std::string, std::size_t> by_id;
  for (const std::size_t i : order) {
    if (!keys[i].id.empty()) {
      by_id.emplace(keys[i].id, i);
    }
  }
  std::vector<std::vector<std::size_t>> children(keys.size());
  std::vector<std::size_t> roots;
  for (const std::size_t i : order) {
    const auto parent = by_id.find(keys[i].parent);
    const bool is_root = parent == by_id.end() || parent->second == i;
    (is_root ? roots : children[parent->second]).push_back(i);
  }
  roots.insert(roots.end(), order.begin(), order.end());  // loops of parents
  std::vector<SpanPlace> places;
  std::vector<bool> placed(keys.size());
  std::vector<Step> stack;
  for (const std::size_t root : roots) {
    stack.push_back({.place = {.index = root}, .margin = {}});
    while (!stack.empty()) {
      const Step step = std::move(stack.back());
      stack.pop_back();
      if (placed[step.place.index]) {
        continue;
      }
      placed[step.place.index] = true;
      const auto& below = children[step.place.index];
      const bool deep = step.place.depth >= kMaxLeads;
      for (std::size_t i = below.size(); i-- > 0;) {
        const bool last = i + 1 == below.size();
        stack.push_back({.place = {.index = below[i],
                                   .depth = step.place.depth + 1,
                                   .lead = step.margin + (last ? "`- " : "|- ")},
                         .margin = deep ? step.margin : step.margin + (last ? "   " : "|  ")});
      }
      places.push_back(step.place);
    }
  }
  return places;
}

}  // namespace weir::cli
