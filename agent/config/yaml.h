#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/config/diagnostic.h"

namespace weir::config {

struct Node;
using NodePtr = std::shared_ptr<const Node>;

enum class NodeKind : std::uint8_t { kNull, kScalar, kSequence, kMap };

struct MapEntry {
  std::string key;
  int line = 0;
  NodePtr value;
};

// Node is one value of a YAML document. Immutable once parsed; an alias shares the node
// of its anchor.
struct Node {
  NodeKind kind = NodeKind::kNull;
  int line = 0;
  bool quoted = false;            // scalar in quotes or a block: text, never a number
  std::string scalar;             // kScalar
  std::vector<NodePtr> items;     // kSequence
  std::vector<MapEntry> entries;  // kMap, in the order of the file, keys unique
  std::size_t weight = 1;         // nodes in it, each alias counted as what it stands for

  // The value of `key` in a map, null if absent.
  [[nodiscard]] const Node* Find(std::string_view key) const;
};

inline constexpr std::size_t kMaxYamlDepth = 32;
inline constexpr std::size_t kMaxYamlKeys = 1000;     // of one map
inline constexpr std::size_t kMaxYamlNodes = 200000;  // of one file, aliases expanded

// Parses all documents of one file; empty ones are left out. Text that is not UTF-8,
// broken syntax, a key given twice, tags, nesting beyond kMaxYamlDepth, more than
// kMaxYamlKeys and more than kMaxYamlNodes are errors; the documents before the first error
// are returned. Any thread.
std::vector<NodePtr> ParseYaml(std::string_view text, const std::string& file,
                               Diagnostics& diagnostics);

// `patch` over `base` as a JSON merge patch (RFC 7396): maps merge by key, everything else
// replaces, null deletes; but lists whose key begins with "append" are put together, as Kuma
// does.
NodePtr Merge(const NodePtr& base, const NodePtr& patch);

}  // namespace weir::config
