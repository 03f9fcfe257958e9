#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/admin/filter.h"
#include "agent/admin/filter_fields.h"
#include "agent/base/ip.h"

namespace re2 {
class RE2;
}

// The compiled form of a filter. Internal to the admin module.
namespace weir::admin {

enum class Operator : std::uint8_t {
  kEqual,  // also `in`
  kNotEqual,
  kPrefix,
  kSuffix,
  kContains,
  kRegex,
  kGreater,
  kGreaterEqual,
  kLess,
  kLessEqual,
};

// What a comparison compares with; the member of the field's type is set.
struct Operand {
  std::string text;
  bool is_glob = false;
  std::int64_t low = 0;  // 5xx is 500..599; a single number has low == high
  std::int64_t high = 0;
  base::Cidr range;
  std::shared_ptr<const re2::RE2> regex;
};

struct Comparison {
  const Field* field = nullptr;
  Operator op = Operator::kEqual;
  std::vector<Operand> operands;
};

enum class NodeKind : std::uint8_t { kCompare, kAnd, kOr, kNot };

// Node of the expression's tree; no deeper than Filter::kMaxDepth * 2.
struct Node {
  NodeKind kind = NodeKind::kCompare;
  Comparison comparison{};       // kCompare
  std::vector<Node> children{};  // kNot has one
  std::size_t begin = 0;         // where it stands in the text
  std::size_t end = 0;
};

struct Filter::Program {
  std::string text;
  std::vector<Node> terms;  // joined by `and`
};

bool Evaluate(const Node& node, const observe::Flow& flow);

}  // namespace weir::admin
