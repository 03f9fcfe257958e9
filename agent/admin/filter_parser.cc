#include <algorithm>
#include <array>
#include <cctype>
#include <expected>
#include <utility>

#include "agent/admin/filter.h"
#include "agent/admin/filter_program.h"
#include "agent/admin/filter_values.h"
#include "agent/base/nearest_name.h"

namespace weir::admin {
namespace {

template <typename T>
using Parsed = std::expected<T, FilterError>;

struct OperatorName {
  std::string_view text;
  Operator op;
};
// Longer ones first: `>=` must not be read as `>`.
constexpr std::array<OperatorName, 10> kOperators = {{{"!=", Operator::kNotEqual},
                                                      {"^=", Operator::kPrefix},
                                                      {"$=", Operator::kSuffix},
                                                      {"*=", Operator::kContains},
                                                      {">=", Operator::kGreaterEqual},
                                                      {"<=", Operator::kLessEqual},
                                                      {"=", Operator::kEqual},
                                                      {"~", Operator::kRegex},
                                                      {">", Operator::kGreater},
                                                      {"<", Operator::kLess}}};

bool IsNameCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-';
}

// Parser by recursive descent; depth and number of values are bounded, so a hostile
// expression costs no more than its length.
//   or := and ("or" and)*; and := unary ("and" unary)*
//   unary := "not" unary | "(" or ")" | comparison
//   comparison := FIELD OPERATOR VALUE | FIELD ["not"] "in" "(" VALUE ("," VALUE)* ")"
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Parsed<Node> ParseAll() {
    auto node = ParseOr(0);
    if (!node) {
      return node;
    }
    SkipSpace();
    if (at_ != text_.size()) {
      return Refuse(at_, text_[at_] == ')' ? "')' without '('" : "expected 'and' or 'or' here",
                    {"and", "or"});
    }
    return node;
  }

 private:
  struct Value {
    std::string text{};
    bool quoted = false;
    std::size_t begin = 0;
  };

  std::unexpected<FilterError> Refuse(std::size_t at, std::string message,
                                      std::vector<std::string> candidates = {}) const {
    const auto is_first_byte = [](char c) {
      return (static_cast<unsigned char>(c) & 0xc0U) != 0x80;
    };
    const auto before = std::ranges::count_if(text_.substr(0, at), is_first_byte);
    return std::unexpected(FilterError{.column = static_cast<std::size_t>(before) + 1,
                                       .message = std::move(message),
                                       .candidates = std::move(candidates)});
  }

  void SkipSpace() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) {
      ++at_;
    }
  }

  // The word that begins here, without taking it.
  std::string_view PeekWord() {
    SkipSpace();
    std::size_t end = at_;
    while (end < text_.size() && IsNameCharacter(text_[end])) {
      ++end;
    }
    return text_.substr(at_, end - at_);
  }

  bool TakeWord(std::string_view word) {
    if (PeekWord() != word) {
      return false;
    }
    at_ += word.size();
    return true;
  }

  bool TakeCharacter(char c) {
    SkipSpace();
    if (at_ >= text_.size() || text_[at_] != c) {
      return false;
    }
    ++at_;
    return true;
  }

  using Step = Parsed<Node> (Parser::*)(std::size_t);

  // One or more of `step`, joined by `word`; a single one stays as it is.
  Parsed<Node> ParseJoined(NodeKind kind, std::string_view word, Step step, std::size_t depth) {
    SkipSpace();
    const std::size_t begin = at_;
    auto first = (this->*step)(depth);
    if (!first || PeekWord() != word) {
      return first;
    }
    Node joined{.kind = kind, .begin = begin};
    joined.children.push_back(std::move(*first));
    while (TakeWord(word)) {
      auto next = (this->*step)(depth);
      if (!next) {
        return next;
      }
      joined.children.push_back(std::move(*next));
    }
    joined.end = joined.children.back().end;
    return joined;
  }

  Parsed<Node> ParseOr(std::size_t depth) {
    return ParseJoined(NodeKind::kOr, "or", &Parser::ParseAnd, depth);
  }
  Parsed<Node> ParseAnd(std::size_t depth) {
    return ParseJoined(NodeKind::kAnd, "and", &Parser::ParseUnary, depth);
  }

  Parsed<Node> ParseUnary(std::size_t depth) {
    SkipSpace();
    const std::size_t begin = at_;
    if (depth >= Filter::kMaxDepth) {
      return Refuse(begin, "nested deeper than " + std::to_string(Filter::kMaxDepth) + " levels");
    }
    if (TakeWord("not")) {
      auto inner = ParseUnary(depth + 1);
      if (!inner) {
        return inner;
      }
      Node negated{.kind = NodeKind::kNot, .begin = begin, .end = inner->end};
      negated.children.push_back(std::move(*inner));
      return negated;
    }
    if (TakeCharacter('(')) {
      auto inner = ParseOr(depth + 1);
      if (!inner) {
        return inner;
      }
      if (!TakeCharacter(')')) {
        return Refuse(at_, "'(' in column " + std::to_string(begin + 1) + " is not closed", {")"});
      }
      inner->begin = begin;
      inner->end = at_;
      return inner;
    }
    return ParseComparison();
  }

  Parsed<Node> ParseComparison() {
    const std::string_view name = PeekWord();
    const std::size_t begin = at_;
    if (name.empty()) {
      return Refuse(at_, at_ == text_.size() ? "expected a comparison, such as status>=500"
                                             : "expected the name of a field");
    }
    const Field* field = FindField(name);
    if (field == nullptr) {
      return RefuseField(name);
    }
    at_ += name.size();
    Node node{.kind = NodeKind::kCompare, .begin = begin};
    node.comparison.field = field;
    const bool negated = TakeWord("not");
    const bool in = TakeWord("in");
    auto done = in ? ParseSet(node.comparison, negated)
                   : (negated ? Refuse(at_, "expected 'in (...)' after 'not'", {"in"})
                              : ParseOperator(node.comparison));
    if (!done) {
      return std::unexpected(done.error());
    }
    node.end = at_;
    return node;
  }

  std::unexpected<FilterError> RefuseField(std::string_view name) const {
    std::vector<std::string_view> names;
    for (const Field& field : Fields()) {
      names.push_back(field.name);
    }
    const std::string near(base::NearestName(name, names));
    std::ranges::sort(names);
    return Refuse(at_,
                  "unknown field '" + std::string(name) + "'" +
                      (near.empty() ? "" : ", did you mean '" + near + "'"),
                  {names.begin(), names.end()});
  }

  Parsed<void> ParseOperator(Comparison& comparison) {
    SkipSpace();
    const std::size_t begin = at_;
    const auto found = std::ranges::find_if(kOperators, [&](const OperatorName& name) {
      return text_.substr(at_).starts_with(name.text);
    });
    if (found == kOperators.end()) {
      return Refuse(at_, "expected an operator after '" + std::string(comparison.field->name) + "'",
                    {"=", "!=", "^=", "$=", "*=", "~", ">", ">=", "<", "<=", "in"});
    }
    comparison.op = found->op;
    at_ += found->text.size();
    if (!OperatorFits(comparison.op, comparison.field->type)) {
      return Refuse(begin, "'" + std::string(found->text) + "' does not fit '" +
                               std::string(comparison.field->name) + "'");
    }
    return ParseValue(comparison, /*in_set=*/false);
  }

  Parsed<void> ParseSet(Comparison& comparison, bool negated) {
    comparison.op = negated ? Operator::kNotEqual : Operator::kEqual;
    if (!TakeCharacter('(')) {
      return Refuse(at_, "expected '(' after 'in'", {"("});
    }
    do {
      if (auto value = ParseValue(comparison, /*in_set=*/true); !value) {
        return value;
      }
    } while (TakeCharacter(','));
    if (!TakeCharacter(')')) {
      return Refuse(at_, "the list after 'in' is not closed", {")", ","});
    }
    return {};
  }

  Parsed<void> ParseValue(Comparison& comparison, bool in_set) {
    auto value = LexValue(in_set);
    if (!value) {
      return std::unexpected(value.error());
    }
    if (++value_count_ > Filter::kMaxValues) {
      return Refuse(value->begin, "more than " + std::to_string(Filter::kMaxValues) + " values");
    }
    if (comparison.op == Operator::kRegex && ++regex_count_ > Filter::kMaxRegexes) {
      return Refuse(value->begin, "more than " + std::to_string(Filter::kMaxRegexes) +
                                      " regular expressions; join them by '|'");
    }
    auto operand = ParseOperand(*comparison.field, comparison.op, value->text, value->quoted);
    if (!operand) {
      return Refuse(value->begin, operand.error().message, operand.error().candidates);
    }
    comparison.operands.push_back(std::move(*operand));
    return {};
  }

  Parsed<Value> LexValue(bool in_set) {
    SkipSpace();
    const std::size_t begin = at_;
    if (at_ < text_.size() && (text_[at_] == '\'' || text_[at_] == '"')) {
      return LexQuoted(text_[at_]);
    }
    while (at_ < text_.size() && text_[at_] != '(' && text_[at_] != ')' &&
           !(in_set && text_[at_] == ',') &&
           std::isspace(static_cast<unsigned char>(text_[at_])) == 0) {
      ++at_;
    }
    if (at_ == begin) {
      return Refuse(begin, "expected a value");
    }
    return Value{.text = std::string(text_.substr(begin, at_ - begin)), .begin = begin};
  }

  // A backslash takes the next character as it is.
  Parsed<Value> LexQuoted(char quote) {
    Value value{.quoted = true, .begin = at_};
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == quote) {
        ++at_;
        return value;
      }
      const char next = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
      if (text_[at_] == '\\' && (next == quote || next == '\\')) {
        ++at_;
      }
      value.text += text_[at_];
    }
    return Refuse(value.begin, "the quote is not closed");
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t value_count_ = 0;
  std::size_t regex_count_ = 0;
};

}  // namespace

std::expected<Filter, FilterError> Filter::Compile(std::string_view text) {
  if (std::ranges::all_of(text, [](unsigned char c) { return std::isspace(c) != 0; })) {
    return Filter();
  }
  if (text.size() > kMaxBytes) {
    return std::unexpected(FilterError{
        .column = kMaxBytes + 1, .message = "longer than " + std::to_string(kMaxBytes) + " bytes"});
  }
  auto program = std::make_shared<Program>();
  program->text = text;
  auto root = Parser(program->text).ParseAll();
  if (!root) {
    return std::unexpected(root.error());
  }
  if (root->kind == NodeKind::kAnd) {
    program->terms = std::move(root->children);
  } else {
    program->terms.push_back(std::move(*root));
  }
  return Filter(std::move(program));
}

}  // namespace weir::admin
