#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace weir::database {

// Whose rules a statement's text follows.
enum class SqlDialect : std::uint8_t { kPostgresql, kMysql };

enum class SqlTokenKind : std::uint8_t {
  kEnd,     // of the text, or of what can be read for certain
  kWord,    // a keyword or a plain identifier
  kQuoted,  // a quoted identifier, with its quotes
  kSymbol,  // one character
  kValue    // a literal, a parameter or a variable: its text is never given out
};

struct SqlToken {
  SqlTokenKind kind = SqlTokenKind::kEnd;
  std::string_view text;  // of a word, quoted identifier or symbol; dies with the statement
};

// SqlTokens splits a statement into what a summary needs. Literals are told from everything
// else in whatever mode the server is: where its settings (standard_conforming_strings,
// NO_BACKSLASH_ESCAPES, the character set) decide what a byte means, the text ends, as far as
// this is concerned. Never reads outside of the text. Pure.
class SqlTokens {
 public:
  // `is_whole`: the statement does not go on behind the text. A name that touches the end of
  // a part is not given out.
  SqlTokens(std::string_view text, SqlDialect dialect, bool is_whole);

  SqlToken Next();

 private:
  [[nodiscard]] char At(std::size_t at) const { return at < text_.size() ? text_[at] : '\0'; }
  bool SkipBlanks();
  bool SkipLine();
  bool SkipComment();
  SqlToken Word();
  SqlToken Quoted(char quote);
  SqlToken Value(std::size_t end);
  SqlToken String(char quote, bool has_escapes);
  SqlToken Dollar();
  SqlToken Variable();
  SqlToken Symbol();
  SqlToken Stop();

  std::string_view text_;
  std::size_t at_ = 0;
  SqlDialect dialect_;
  bool is_whole_;
  bool conditional_ = false;  // inside of a comment that MySQL may execute
};

}  // namespace weir::database
