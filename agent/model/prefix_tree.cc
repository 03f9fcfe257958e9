#include "agent/model/prefix_tree.h"

#include <algorithm>
#include <utility>

namespace weir::model {

std::uint32_t PrefixTree::ChildOf(const Node& node, std::string_view text) {
  if (text.empty()) {
    return kNone;
  }
  const auto found = std::ranges::lower_bound(node.children, text.front(), {}, &Child::first);
  return found == node.children.end() || found->first != text.front() ? kNone : found->node;
}

std::uint32_t PrefixTree::AddNode(std::uint32_t parent, std::string_view label) {
  const auto added = static_cast<std::uint32_t>(nodes_.size());
  nodes_.push_back({.label = std::string(label), .value = kNone, .children = {}});
  auto& children = nodes_[parent].children;
  const auto place = std::ranges::lower_bound(children, label.front(), {}, &Child::first);
  children.insert(place, {.first = label.front(), .node = added});
  return added;
}

// Leaves `at` the first `length` bytes of its label; the rest becomes its only child's.
void PrefixTree::Split(std::uint32_t at, std::size_t length) {
  const auto rest = static_cast<std::uint32_t>(nodes_.size());
  Node lower{.label = nodes_[at].label.substr(length),
             .value = std::exchange(nodes_[at].value, kNone),
             .children = std::exchange(nodes_[at].children, {})};
  nodes_[at].label.resize(length);
  nodes_[at].children.push_back({.first = lower.label.front(), .node = rest});
  nodes_.push_back(std::move(lower));
}

std::uint32_t PrefixTree::Add(std::string_view prefix, std::uint32_t value) {
  std::uint32_t at = 0;
  while (!prefix.empty()) {
    const std::uint32_t child = ChildOf(nodes_[at], prefix);
    if (child == kNone) {
      at = AddNode(at, prefix);
      break;
    }
    at = child;
    const std::string& label = nodes_[at].label;
    const auto shared =
        static_cast<std::size_t>(std::ranges::mismatch(label, prefix).in1 - label.begin());
    if (shared < label.size()) {
      Split(at, shared);
    }
    prefix.remove_prefix(shared);
  }
  if (nodes_[at].value == kNone) {
    nodes_[at].value = value;
  }
  return nodes_[at].value;
}

}  // namespace weir::model
