#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weir::model {

// PrefixTree is a set of texts and tells which of them another text begins with: a radix
// tree, so that a look-up takes at most one step for each byte of the text, however many
// prefixes there are. Any thread once filled.
class PrefixTree {
 public:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  // Adds `prefix` with the number `value`, which is not kNone. Gives the number that it has
  // from then on: the one of the first Add.
  std::uint32_t Add(std::string_view prefix, std::uint32_t value);

  // Calls `visit(value)` for each prefix of `text`, the shortest first, and gives how many
  // nodes were looked at.
  template <typename Visit>
  std::size_t ForEachPrefixOf(std::string_view text, Visit visit) const {
    std::uint32_t at = 0;
    std::size_t steps = 0;
    while (at != kNone) {
      const Node& node = nodes_[at];
      ++steps;
      if (!text.starts_with(node.label)) {
        break;
      }
      text.remove_prefix(node.label.size());
      if (node.value != kNone) {
        visit(node.value);
      }
      at = ChildOf(node, text);
    }
    return steps;
  }

 private:
  struct Child {
    char first = 0;  // of the child's label
    std::uint32_t node = 0;
  };
  struct Node {
    std::string label;  // what it adds to its parent's text
    std::uint32_t value = kNone;
    std::vector<Child> children;  // in the order of their first bytes: at most 256
  };

  static std::uint32_t ChildOf(const Node& node, std::string_view text);
  std::uint32_t AddNode(std::uint32_t parent, std::string_view label);
  void Split(std::uint32_t at, std::size_t length);

  std::vector<Node> nodes_{1};  // the first is the root
};

}  // namespace weir::model
