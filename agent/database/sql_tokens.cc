#include "agent/database/sql_tokens.h"

#include <algorithm>

#include "agent/base/utf8.h"

namespace weir::database {
namespace {

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}
bool IsWordStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}
bool IsWordPart(char c) {
  return IsWordStart(c) || IsDigit(c) || c == '$';
}
// What begins something whose end would not be seen in the same place by everybody.
constexpr std::string_view kUncertain = "'\"`#-/";

bool IsBlank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

}  // namespace

// A byte above 0x7f that is no part of a UTF-8 character may be half of one in a character set
// whose other half is a quote or a backslash: what is behind it is not looked at.
SqlTokens::SqlTokens(std::string_view text, SqlDialect dialect, bool is_whole)
    : text_(text.substr(0, base::Utf8PrefixBytes(text))),
      dialect_(dialect),
      is_whole_(is_whole && text_.size() == text.size()) {}

SqlToken SqlTokens::Stop() {
  at_ = text_.size();
  return {};
}

SqlToken SqlTokens::Value(std::size_t end) {
  at_ = std::min(end, text_.size());
  return {.kind = SqlTokenKind::kValue, .text = {}};
}

bool SqlTokens::SkipLine() {
  const std::size_t end = text_.find('\n', at_);
  at_ = end == std::string_view::npos ? text_.size() : end + 1;
  return true;
}

// PostgreSQL's comments nest. What MySQL executes of its own kind of comment is read as if it
// stood there plainly, up to what would be another thing if the server's version left it out.
bool SqlTokens::SkipComment() {
  const bool is_mysql = dialect_ == SqlDialect::kMysql;
  std::size_t mark = at_ + 2;
  if (is_mysql && At(mark) == 'M') {
    ++mark;
  }
  if (is_mysql && At(mark) == '!') {
    at_ = mark + 1;
    conditional_ = true;
    while (IsDigit(At(at_))) {
      ++at_;
    }
    return true;
  }
  std::size_t depth = 1;
  at_ += 2;
  while (depth > 0) {
    const std::size_t next = text_.find_first_of("*/", at_);
    if (next == std::string_view::npos || next + 1 >= text_.size()) {
      at_ = text_.size();
      return true;
    }
    at_ = next + 1;
    if (text_[next] == '*' && text_[next + 1] == '/') {
      --depth;
      ++at_;
    } else if (!is_mysql && text_[next] == '/' && text_[next + 1] == '*') {
      ++depth;
      ++at_;
    }
  }
  return true;
}

// True if something was skipped.
bool SqlTokens::SkipBlanks() {
  const char c = At(at_);
  if (at_ < text_.size() && IsBlank(c)) {
    ++at_;
    return true;
  }
  if (conditional_ && c == '*' && At(at_ + 1) == '/') {
    conditional_ = false;
    at_ += 2;
    return true;
  }
  if (conditional_ && kUncertain.find(c) != std::string_view::npos) {
    at_ = text_.size();
    return false;
  }
  if (c == '/' && At(at_ + 1) == '*') {
    return SkipComment();
  }
  const bool is_mysql = dialect_ == SqlDialect::kMysql;
  if (c == '#' && is_mysql) {
    return SkipLine();
  }
  if (c == '-' && At(at_ + 1) == '-' &&
      (!is_mysql || at_ + 2 >= text_.size() || static_cast<unsigned char>(At(at_ + 2)) <= ' ')) {
    return SkipLine();
  }
  return false;
}

SqlToken SqlTokens::Next() {
  while (SkipBlanks()) {
  }
  if (at_ >= text_.size()) {
    return {};
  }
  const char c = text_[at_];
  const bool is_mysql = dialect_ == SqlDialect::kMysql;
  if (IsWordStart(c)) {
    return Word();
  }
  if (IsDigit(c) || (c == '.' && IsDigit(At(at_ + 1)))) {
    std::size_t end = at_;
    while (end < text_.size() && (IsWordPart(text_[end]) || text_[end] == '.')) {
      ++end;
    }
    return Value(end);
  }
  switch (c) {
    case '\'':
      return String(c, /*has_escapes=*/is_mysql);
    case '"':
      return is_mysql ? String(c, /*has_escapes=*/true) : Quoted(c);
    case '`':
      return is_mysql ? Quoted(c) : Symbol();
    case '$':
      return is_mysql ? Symbol() : Dollar();
    case '@':
      return is_mysql ? Variable() : Symbol();
    default:
      return Symbol();
  }
}

SqlToken SqlTokens::Symbol() {
  return {.kind = SqlTokenKind::kSymbol, .text = text_.substr(at_++, 1)};
}

SqlToken SqlTokens::Word() {
  std::size_t end = at_;
  while (end < text_.size() && IsWordPart(text_[end])) {
    ++end;
  }
  const std::string_view word = text_.substr(at_, end - at_);
  if (end == text_.size() && !is_whole_) {
    return Stop();
  }
  if (dialect_ == SqlDialect::kPostgresql && (word == "E" || word == "e") && At(end) == '\'') {
    at_ = end;
    return String('\'', /*has_escapes=*/true);
  }
  at_ = end;
  return {.kind = SqlTokenKind::kWord, .text = word};
}

SqlToken SqlTokens::Quoted(char quote) {
  std::size_t end = at_ + 1;
  while (true) {
    end = text_.find(quote, end);
    if (end == std::string_view::npos) {
      return Stop();
    }
    if (At(end + 1) != quote) {
      break;
    }
    end += 2;
  }
  const std::string_view name = text_.substr(at_, end + 1 - at_);
  at_ = end + 1;
  return {.kind = SqlTokenKind::kQuoted, .text = name};
}

// A quote behind an odd number of backslashes is a part of the string or its end, as the server
// is set: nothing behind it is certain, but in a PostgreSQL string that is marked with an E.
SqlToken SqlTokens::String(char quote, bool has_escapes) {
  const bool is_certain = has_escapes && dialect_ == SqlDialect::kPostgresql;
  std::size_t at = at_ + 1;
  while (at < text_.size()) {
    if (text_[at] == '\\') {
      if (At(at + 1) == quote && !is_certain) {
        return Stop();
      }
      at += 2;
    } else if (text_[at] != quote) {
      ++at;
    } else if (At(at + 1) == quote) {
      at += 2;
    } else {
      return Value(at + 1);
    }
  }
  return Stop();
}

// $1, or $tag$ to the next $tag$.
SqlToken SqlTokens::Dollar() {
  if (IsDigit(At(at_ + 1))) {
    std::size_t end = at_ + 1;
    while (IsDigit(At(end))) {
      ++end;
    }
    return Value(end);
  }
  std::size_t mark = at_ + 1;
  while (mark < text_.size() && IsWordPart(text_[mark]) && text_[mark] != '$') {
    ++mark;
  }
  if (At(mark) != '$') {
    return mark >= text_.size() ? Stop() : Symbol();
  }
  const std::string_view tag = text_.substr(at_, mark + 1 - at_);
  const std::size_t end = text_.find(tag, mark + 1);
  return end == std::string_view::npos ? Stop() : Value(end + tag.size());
}

// @name, @@global.name, @'name'.
SqlToken SqlTokens::Variable() {
  std::size_t end = at_ + 1;
  while (At(end) == '@') {
    ++end;
  }
  if (const char quote = At(end); quote == '\'' || quote == '"' || quote == '`') {
    at_ = end;
    return String(quote, /*has_escapes=*/true);
  }
  while (end < text_.size() && (IsWordPart(text_[end]) || text_[end] == '.')) {
    ++end;
  }
  return Value(end);
}

}  // namespace weir::database
