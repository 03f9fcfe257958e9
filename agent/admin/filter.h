#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/observe/record.h"

namespace weir::admin {

// Why an expression is refused, and where.
struct FilterError {
  std::size_t column = 1;  // in characters, from 1; one past the end when something is missing
  std::string message{};
  std::vector<std::string> candidates{};  // what could stand there, most likely one first
};

// Filter is a compiled filter expression over flows:
//
//   dst=shop/price and (status>=500 or duration>200ms) and not path^=/health
//
//   = !=           the whole value; * and ? in a name are wildcards, 5xx a status class,
//                  a prefix such as 10.0.0.0/8 an address range
//   ^= $= *= ~     begins with, ends with, contains, matches a regular expression (RE2)
//   > >= < <=      numbers, durations (200ms), sizes (5MB)
//   in (a, b)      any of them; also: not in (a, b)
//   and or not ()  `not` binds tightest, then `and`
//
// Values with spaces, parentheses or quotes stand in single or double quotes. A field
// that a flow does not have equals nothing. A field of either side (workload, ip, ...)
// matches when one of the two does. Cheap to copy; evaluation is pure, linear in the
// size of the flow's texts, any thread.
class Filter {
 public:
  static constexpr std::size_t kMaxBytes = 4096;
  static constexpr std::size_t kMaxDepth = 32;
  static constexpr std::size_t kMaxValues = 256;  // of all comparisons together
  static constexpr std::size_t kMaxRegexes = 4;

  Filter() = default;  // matches everything

  static std::expected<Filter, FilterError> Compile(std::string_view text);

  [[nodiscard]] bool Matches(const observe::Flow& flow) const;

  // Terms are the parts that a top-level `and` joins; a filter without one has a single
  // term, the empty filter none.
  [[nodiscard]] std::size_t term_count() const;
  [[nodiscard]] std::string_view term(std::size_t index) const;
  // The only term that `flow` fails; empty when it fails none or more than one.
  [[nodiscard]] std::optional<std::size_t> OnlyFailingTerm(const observe::Flow& flow) const;

  struct Program;

 private:
  explicit Filter(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const Program> program_;  // null: matches everything
};

// Name and one-line meaning of every field, for help and completion.
struct FilterField {
  std::string_view name;
  std::string_view help;
};
std::vector<FilterField> FilterFields();

}  // namespace weir::admin
