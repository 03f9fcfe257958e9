#include <re2/re2.h>

#include <algorithm>
#include <string_view>

#include "agent/admin/filter.h"
#include "agent/admin/filter_program.h"

namespace weir::admin {
namespace {

// `*` stands for any run of characters, `?` for one. Goes back to the last star only, so
// the cost is at most the product of both lengths.
bool GlobMatches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;
  std::size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

bool TextMatches(Operator op, const Operand& operand, const std::string& text) {
  switch (op) {
    case Operator::kPrefix:
      return text.starts_with(operand.text);
    case Operator::kSuffix:
      return text.ends_with(operand.text);
    case Operator::kContains:
      return text.find(operand.text) != std::string::npos;
    case Operator::kRegex:
      return re2::RE2::PartialMatch(text, *operand.regex);
    case Operator::kEqual:
    case Operator::kNotEqual:
      return operand.is_glob ? GlobMatches(operand.text, text) : text == operand.text;
    case Operator::kGreater:
    case Operator::kGreaterEqual:
    case Operator::kLess:
    case Operator::kLessEqual:
      break;  // the parser refuses them for texts
  }
  return false;
}

bool NumberMatches(Operator op, const Operand& operand, std::int64_t number) {
  switch (op) {
    case Operator::kEqual:
    case Operator::kNotEqual:
      return number >= operand.low && number <= operand.high;
    case Operator::kGreater:
      return number > operand.high;
    case Operator::kGreaterEqual:
      return number >= operand.low;
    case Operator::kLess:
      return number < operand.low;
    case Operator::kLessEqual:
      return number <= operand.high;
    case Operator::kPrefix:
    case Operator::kSuffix:
    case Operator::kContains:
    case Operator::kRegex:
      break;  // the parser refuses them for numbers
  }
  return false;
}

template <typename T, typename Test>
bool AnyPair(const FieldValues<T>& values, const std::vector<Operand>& operands, Test&& test) {
  return std::ranges::any_of(values.get(), [&](const T& value) {
    return std::ranges::any_of(operands,
                               [&](const Operand& operand) { return test(operand, value); });
  });
}

bool Holds(const Comparison& comparison, const observe::Flow& flow) {
  const Field& field = *comparison.field;
  if (field.texts != nullptr) {
    FieldValues<std::string> texts;
    field.texts(flow, texts);
    return AnyPair(texts, comparison.operands, [&](const Operand& operand, const auto& text) {
      return TextMatches(comparison.op, operand, text);
    });
  }
  if (field.numbers != nullptr) {
    FieldValues<std::int64_t> numbers;
    field.numbers(flow, numbers);
    return AnyPair(numbers, comparison.operands, [&](const Operand& operand, auto number) {
      return NumberMatches(comparison.op, operand, number);
    });
  }
  FieldValues<base::IpAddress> addresses;
  field.addresses(flow, addresses);
  return AnyPair(addresses, comparison.operands, [](const Operand& operand, const auto& address) {
    return operand.range.Contains(address);
  });
}

}  // namespace

bool Evaluate(const Node& node, const observe::Flow& flow) {
  const auto holds = [&](const Node& child) { return Evaluate(child, flow); };
  switch (node.kind) {
    case NodeKind::kCompare:
      return Holds(node.comparison, flow) != (node.comparison.op == Operator::kNotEqual);
    case NodeKind::kAnd:
      return std::ranges::all_of(node.children, holds);
    case NodeKind::kOr:
      return std::ranges::any_of(node.children, holds);
    case NodeKind::kNot:
      return !holds(node.children.front());
  }
  return false;
}

bool Filter::Matches(const observe::Flow& flow) const {
  return program_ == nullptr || std::ranges::all_of(program_->terms, [&](const Node& term) {
           return Evaluate(term, flow);
         });
}

std::size_t Filter::term_count() const {
  return program_ == nullptr ? 0 : program_->terms.size();
}

std::string_view Filter::term(std::size_t index) const {
  const Node& node = program_->terms.at(index);
  return std::string_view(program_->text).substr(node.begin, node.end - node.begin);
}

std::optional<std::size_t> Filter::OnlyFailingTerm(const observe::Flow& flow) const {
  std::optional<std::size_t> failing;
  for (std::size_t i = 0; i < term_count(); ++i) {
    if (Evaluate(program_->terms[i], flow)) {
      continue;
    }
    if (failing) {
      return std::nullopt;
    }
    failing = i;
  }
  return failing;
}

}  // namespace weir::admin
