#include "agent/admin/filter_values.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>
#include <vector>

#include "agent/base/nearest_name.h"

namespace weir::admin {
namespace {

// What one expression may hold of compiled automata; RE2 falls back to a slower, still
// linear way of matching when it does not fit.
constexpr std::int64_t kRegexMemoryBytes = 64LL << 10;

using Parsed = std::expected<Operand, FilterError>;

std::unexpected<FilterError> Refuse(std::string message, std::vector<std::string> candidates = {}) {
  return std::unexpected(
      FilterError{.message = std::move(message), .candidates = std::move(candidates)});
}

struct Unit {
  std::string_view name;
  double factor;
};
constexpr std::array<Unit, 6> kDurationUnits = {
    {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
constexpr std::array<Unit, 8> kSizeUnits = {{{"", 1},
                                             {"B", 1},
                                             {"KB", 1e3},
                                             {"MB", 1e6},
                                             {"GB", 1e9},
                                             {"KiB", 1024},
                                             {"MiB", 1024.0 * 1024},
                                             {"GiB", 1024.0 * 1024 * 1024}}};

Parsed ParseQuantity(std::string_view text, std::span<const Unit> units, std::string_view what) {
  double number = 0;
  const auto [rest, error] = std::from_chars(text.begin(), text.end(), number);
  const std::string_view name(rest, text.end());
  const auto unit = std::ranges::find(units, name, &Unit::name);
  const double scaled = unit == units.end() ? -1 : number * unit->factor;
  if (error != std::errc{} || !(scaled >= 0 && scaled < 9e18)) {
    return Refuse("'" + std::string(text) + "' is not " + std::string(what));
  }
  const auto value = static_cast<std::int64_t>(std::llround(scaled));
  Operand operand;
  operand.low = operand.high = value;
  return operand;
}

Parsed ParseNumber(std::string_view text) {
  Operand operand;
  const auto [rest, error] = std::from_chars(text.begin(), text.end(), operand.low);
  if (error != std::errc{} || rest != text.end() || operand.low < 0) {
    return Refuse("'" + std::string(text) + "' is not a number");
  }
  operand.high = operand.low;
  return operand;
}

Parsed ParseStatus(std::string_view text) {
  if (text.size() == 3 && text[0] >= '1' && text[0] <= '5' && text.substr(1) == "xx") {
    Operand operand;
    operand.low = (text[0] - '0') * 100;
    operand.high = operand.low + 99;
    return operand;
  }
  auto number = ParseNumber(text);
  if (!number || number->low < 100 || number->low > 599) {
    return Refuse("'" + std::string(text) + "' is neither a status (100 to 599) nor a class (5xx)");
  }
  return number;
}

Parsed ParseAddress(const std::string& text) {
  auto range = base::Cidr::Parse(text);
  if (!range) {
    return Refuse("'" + text + "' is neither an address nor a range such as 198.18.0.0/15");
  }
  Operand operand;
  operand.range = *range;
  return operand;
}

Parsed ParseRegex(const std::string& text) {
  re2::RE2::Options options(re2::RE2::Quiet);
  options.set_max_mem(kRegexMemoryBytes);
  options.set_never_capture(true);
  auto regex = std::make_shared<const re2::RE2>(text, options);
  if (!regex->ok()) {
    return Refuse("'" + text + "' is not a regular expression: " + regex->error());
  }
  Operand operand;
  operand.text = text;
  operand.regex = std::move(regex);
  return operand;
}

Parsed CheckWord(const Field& field, const Operand& operand) {
  if (operand.is_glob || std::ranges::find(field.words, operand.text) != field.words.end()) {
    return operand;
  }
  std::vector<std::string> candidates(field.words.begin(), field.words.end());
  const std::string near(base::NearestName(operand.text, field.words));
  if (!near.empty()) {
    std::iter_swap(candidates.begin(), std::ranges::find(candidates, near));
  }
  return Refuse("unknown " + std::string(field.name) + " '" + operand.text + "'" +
                    (near.empty() ? "" : ", did you mean '" + near + "'"),
                std::move(candidates));
}

Parsed ParseText(const Field& field, Operator op, const std::string& text, bool quoted) {
  if (op == Operator::kRegex) {
    return ParseRegex(text);
  }
  const bool whole = op == Operator::kEqual || op == Operator::kNotEqual;
  Operand operand;
  operand.text = text;
  operand.is_glob = whole && !quoted && text.find_first_of("*?") != std::string::npos;
  return whole && field.type == FieldType::kWord ? CheckWord(field, operand) : operand;
}

}  // namespace

Parsed ParseOperand(const Field& field, Operator op, const std::string& text, bool quoted) {
  switch (field.type) {
    case FieldType::kText:
    case FieldType::kWord:
      return ParseText(field, op, text, quoted);
    case FieldType::kNumber:
      return ParseNumber(text);
    case FieldType::kStatus:
      return ParseStatus(text);
    case FieldType::kDuration:
      return ParseQuantity(text, kDurationUnits, "a duration with its unit, such as 200ms");
    case FieldType::kBytes:
      return ParseQuantity(text, kSizeUnits, "a size, such as 5MB");
    case FieldType::kAddress:
      return ParseAddress(text);
  }
  return Refuse("unknown type of field");
}

bool OperatorFits(Operator op, FieldType type) {
  const bool is_text = type == FieldType::kText || type == FieldType::kWord;
  switch (op) {
    case Operator::kEqual:
    case Operator::kNotEqual:
      return true;
    case Operator::kPrefix:
    case Operator::kSuffix:
    case Operator::kContains:
    case Operator::kRegex:
      return is_text;
    case Operator::kGreater:
    case Operator::kGreaterEqual:
    case Operator::kLess:
    case Operator::kLessEqual:
      return !is_text && type != FieldType::kAddress;
  }
  return false;
}

}  // namespace weir::admin
