#include "agent/database/sql_summary.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace weir::database {
namespace {

using Kind = SqlTokenKind;

// What follows an operation's keyword.
enum class Form : std::uint8_t {
  kSelect,  // tables behind FROM
  kDelete,  // the same, and no operation of its own further inside
  kTable,   // a table, perhaps behind words that say nothing
  kCall,    // a name that is no table
  kTables,  // a list of tables
  kObject,  // CREATE, ALTER, DROP: the kind of the object, then perhaps a table
  kPrefix,  // another operation
  kNamed,   // USE: a database
  kOpaque   // nothing that is told
};

struct Operation {
  std::string_view name;
  Form form;
};

// Statements of PostgreSQL and MySQL; sorted.
constexpr std::array kOperations = std::to_array<Operation>({
    {"ABORT", Form::kOpaque},      {"ALTER", Form::kObject},      {"ANALYZE", Form::kTables},
    {"BEGIN", Form::kOpaque},      {"CALL", Form::kCall},         {"CHECK", Form::kTables},
    {"CHECKPOINT", Form::kOpaque}, {"CLOSE", Form::kOpaque},      {"CLUSTER", Form::kTables},
    {"COMMENT", Form::kOpaque},    {"COMMIT", Form::kOpaque},     {"COPY", Form::kTable},
    {"CREATE", Form::kObject},     {"DEALLOCATE", Form::kOpaque}, {"DECLARE", Form::kOpaque},
    {"DELETE", Form::kDelete},     {"DESC", Form::kTable},        {"DESCRIBE", Form::kTable},
    {"DISCARD", Form::kOpaque},    {"DO", Form::kOpaque},         {"DROP", Form::kObject},
    {"END", Form::kOpaque},        {"EXECUTE", Form::kOpaque},    {"EXPLAIN", Form::kPrefix},
    {"FETCH", Form::kOpaque},      {"FLUSH", Form::kOpaque},      {"GRANT", Form::kOpaque},
    {"HANDLER", Form::kOpaque},    {"INSERT", Form::kTable},      {"KILL", Form::kOpaque},
    {"LISTEN", Form::kOpaque},     {"LOAD", Form::kOpaque},       {"LOCK", Form::kTables},
    {"MERGE", Form::kTable},       {"MOVE", Form::kOpaque},       {"NOTIFY", Form::kOpaque},
    {"OPTIMIZE", Form::kTables},   {"PREPARE", Form::kOpaque},    {"PURGE", Form::kOpaque},
    {"REFRESH", Form::kOpaque},    {"REINDEX", Form::kOpaque},    {"RELEASE", Form::kOpaque},
    {"RENAME", Form::kOpaque},     {"REPAIR", Form::kTables},     {"REPLACE", Form::kTable},
    {"RESET", Form::kOpaque},      {"REVOKE", Form::kOpaque},     {"ROLLBACK", Form::kOpaque},
    {"SAVEPOINT", Form::kOpaque},  {"SELECT", Form::kSelect},     {"SET", Form::kOpaque},
    {"SHOW", Form::kOpaque},       {"SIGNAL", Form::kOpaque},     {"START", Form::kOpaque},
    {"TABLE", Form::kTable},       {"TRUNCATE", Form::kTables},   {"UNLISTEN", Form::kOpaque},
    {"UNLOCK", Form::kOpaque},     {"UPDATE", Form::kTables},     {"USE", Form::kNamed},
    {"VACUUM", Form::kTables},     {"VALUES", Form::kOpaque},     {"XA", Form::kOpaque},
});
static_assert(std::ranges::is_sorted(kOperations, {}, &Operation::name));

// Words between an operation and the table that it names.
constexpr std::array<std::string_view, 19> kFillers = {
    "ANALYZE", "CONCURRENTLY", "DELAYED",       "EXISTS", "EXTENDED",
    "FREEZE",  "FULL",         "HIGH_PRIORITY", "IF",     "IGNORE",
    "INTO",    "LOCAL",        "LOW_PRIORITY",  "NOT",    "NO_WRITE_TO_BINLOG",
    "ONLY",    "TABLE",        "TABLES",        "VERBOSE"};
// Kinds of objects that may be told beside CREATE, ALTER and DROP; the first two have tables.
constexpr std::array<std::string_view, 24> kObjects = {
    "TABLE",    "VIEW",     "AGGREGATE", "CAST",        "COLLATION", "CONVERSION",
    "DATABASE", "DOMAIN",   "EVENT",     "EXTENSION",   "FUNCTION",  "INDEX",
    "OPERATOR", "POLICY",   "PROCEDURE", "PUBLICATION", "ROLE",      "RULE",
    "SCHEMA",   "SEQUENCE", "SERVER",    "TRIGGER",     "TYPE",      "USER"};
constexpr std::array<std::string_view, 14> kObjectFillers = {
    "ALGORITHM", "CONSTRAINT", "FOREIGN", "FULLTEXT", "GLOBAL",    "LOCAL",  "MATERIALIZED",
    "OR",        "RECURSIVE",  "REPLACE", "TEMP",     "TEMPORARY", "UNIQUE", "UNLOGGED"};
// What ends a list of tables.
constexpr std::array<std::string_view, 16> kEndOfTables = {
    "CASCADE", "EXCEPT", "FETCH",     "FOR",       "GROUP", "HAVING", "INTERSECT", "LIMIT",
    "OFFSET",  "ORDER",  "PROCEDURE", "RETURNING", "SET",   "UNION",  "WHERE",     "WINDOW"};
// Behind these an operation may begin.
constexpr std::array<std::string_view, 5> kBeforeOperation = {"ANALYZE", "AS", "EXPLAIN",
                                                              "MATERIALIZED", "VERBOSE"};
// What else may stand inside of another operation, as in WITH and EXPLAIN.
constexpr std::array<std::string_view, 5> kInside = {"DELETE", "INSERT", "MERGE", "REPLACE",
                                                     "UPDATE"};
constexpr std::size_t kMaxDepth = 64;

bool Contains(const auto& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

const Operation* FindOperation(std::string_view upper) {
  const auto* const found = std::ranges::lower_bound(kOperations, upper, {}, &Operation::name);
  return found != kOperations.end() && found->name == upper ? found : nullptr;
}

// No keyword is longer than `most`: such a word becomes empty.
std::string Upper(std::string_view word) {
  constexpr std::size_t kMost = 24;
  std::string upper;
  if (word.size() <= kMost) {
    for (const char c : word) {
      upper += c >= 'a' && c <= 'z' ? static_cast<char>(c - ('a' - 'A')) : c;
    }
  }
  return upper;
}

// Reads the tokens of a text one after the other, looking one ahead.
class Summariser {
 public:
  Summariser(std::string_view text, SqlDialect dialect, bool is_whole)
      : tokens_(text, dialect, is_whole), next_(tokens_.Next()) {}

  SqlSummary Run() {
    while (next_.kind != Kind::kEnd && !full_) {
      Take();
    }
    if (tables_ != 1 || full_) {
      result_.collection.clear();
    }
    return std::move(result_);
  }

 private:
  // What is known of one level of parentheses.
  struct Level {
    bool from_counts = false;  // an operation waits for its FROM
    bool in_tables = false;    // a comma or a JOIN brings another table
  };
  enum class Expect : std::uint8_t { kNothing, kTable, kObject, kName };

  SqlToken Advance() {
    const SqlToken token = next_;
    next_ = tokens_.Next();
    return token;
  }
  [[nodiscard]] bool NextIs(char symbol) const {
    return next_.kind == Kind::kSymbol && next_.text[0] == symbol;
  }

  void Take() {
    const SqlToken token = Advance();
    switch (token.kind) {
      case Kind::kWord:
        TakeWord(token);
        return;
      case Kind::kQuoted:
        skips_ = skips_ || begins_;  // no statement begins like that
        TakeName(token);
        return;
      case Kind::kSymbol:
        TakeSymbol(token.text[0]);
        return;
      case Kind::kValue:
      case Kind::kEnd:
        skips_ = skips_ || begins_;
        Forget();
        return;
    }
  }

  void Forget() {
    expect_ = Expect::kNothing;
    may_begin_ = false;
    is_distinct_ = false;
  }

  void TakeSymbol(char symbol) {
    const bool expected_table = expect_ == Expect::kTable;
    Forget();
    switch (symbol) {
      case ';':
        level_ = {};
        outer_.clear();
        skips_ = false;
        begins_ = may_begin_ = true;
        return;
      case '(':
        if (outer_.size() >= kMaxDepth) {
          full_ = true;
          return;
        }
        outer_.push_back(level_);
        // FROM ((a JOIN b)): a table may stand in parentheses of its own.
        level_ = {.from_counts = false, .in_tables = expected_table};
        expect_ = expected_table ? Expect::kTable : Expect::kNothing;
        may_begin_ = true;
        return;
      case ')':
        if (!outer_.empty()) {
          level_ = outer_.back();
          outer_.pop_back();
        }
        may_begin_ = true;
        return;
      case ',':
        expect_ = level_.in_tables ? Expect::kTable : Expect::kNothing;
        return;
      default:
        return;
    }
  }

  void TakeWord(const SqlToken& token) {
    if (skips_) {
      return;
    }
    const std::string word = Upper(token.text);
    const Expect expected = expect_;
    if (begins_) {
      Begin(word);
      return;
    }
    const Operation* operation = FindOperation(word);
    if (operation != nullptr && MayStandInside(*operation)) {
      StartOperation(*operation);
      return;
    }
    if (TakeFrom(word)) {
      return;
    }
    if (Contains(kEndOfTables, word)) {
      level_.in_tables = false;
      Forget();
      return;
    }
    if (expected == Expect::kObject) {
      TakeObject(word);
    } else if (expected == Expect::kNothing) {
      may_begin_ = Contains(kBeforeOperation, word);
      is_distinct_ = word == "DISTINCT";
    } else if (!Contains(kFillers, word) && word != "LATERAL") {
      TakeName(token);
    }
  }

  // The first word of a statement. WITH comes before the operation that counts.
  void Begin(std::string_view word) {
    begins_ = false;
    if (word == "WITH") {
      return;
    }
    const Operation* operation = FindOperation(word);
    if (operation == nullptr) {
      skips_ = true;  // nothing that is known here: nothing of it is told
      return;
    }
    StartOperation(*operation);
  }

  // SELECT is reserved everywhere; the others that may stand inside of a statement are
  // operations only where one may begin, and functions before a parenthesis.
  [[nodiscard]] bool MayStandInside(const Operation& operation) const {
    return operation.form == Form::kSelect ||
           (may_begin_ && !NextIs('(') && Contains(kInside, operation.name));
  }

  void StartOperation(const Operation& operation) {
    Forget();
    if (operation.form != Form::kObject) {
      Note(operation.name);
    }
    StartForm(operation);
  }

  void StartForm(const Operation& operation) {
    switch (operation.form) {
      case Form::kSelect:
      case Form::kDelete:
        level_ = {.from_counts = true, .in_tables = false};
        return;
      case Form::kTable:
      case Form::kTables:
        level_ = {.from_counts = operation.name == "UPDATE",
                  .in_tables = operation.form == Form::kTables};
        expect_ = Expect::kTable;
        return;
      case Form::kNamed:
        expect_ = Expect::kName;
        return;
      case Form::kObject:
        object_of_ = operation.name;
        expect_ = Expect::kObject;
        return;
      case Form::kPrefix:
        may_begin_ = true;
        return;
      case Form::kCall:
      case Form::kOpaque:
        skips_ = true;
        return;
    }
  }

  bool TakeFrom(std::string_view word) {
    if (word == "FROM") {
      const bool counts = level_.from_counts && !is_distinct_;
      Forget();
      if (counts) {
        level_ = {.from_counts = false, .in_tables = true};
        expect_ = Expect::kTable;
      }
      return true;
    }
    const bool brings = level_.in_tables && (word == "JOIN" || word == "STRAIGHT_JOIN");
    const bool merges = word == "USING" && !NextIs('(') && expect_ == Expect::kNothing &&
                        (level_.in_tables || result_.operation == "MERGE");
    if (brings || merges) {
      Forget();
      level_.in_tables = true;
      expect_ = Expect::kTable;
      return true;
    }
    return false;
  }

  void TakeObject(std::string_view word) {
    if (Contains(kObjectFillers, word)) {
      expect_ = Expect::kObject;
      return;
    }
    Forget();
    if (!Contains(kObjects, word)) {
      Note(object_of_);
      skips_ = true;
      return;
    }
    Note(std::string(object_of_) + " " + std::string(word));
    const bool has_table = word == kObjects[0] || word == kObjects[1];
    skips_ = !has_table;
    level_.in_tables = has_table && object_of_ == "DROP";
    expect_ = has_table ? Expect::kTable : Expect::kNothing;
  }

  // A table, with what is before its dots; not if it is a function.
  void TakeName(const SqlToken& first) {
    const Expect expected = expect_;
    Forget();
    if (skips_ || (expected != Expect::kTable && expected != Expect::kName)) {
      return;
    }
    std::string name(first.text);
    std::string plain = Plain(first);
    while (NextIs('.')) {
      (void)Advance();
      if (next_.kind != Kind::kWord && next_.kind != Kind::kQuoted) {
        return;
      }
      const SqlToken part = Advance();
      name += "." + std::string(part.text);
      plain += "." + Plain(part);
    }
    // INSERT INTO t (a, b) is no call of a function.
    const bool is_function = NextIs('(') && level_.in_tables && !AllowsColumns();
    const bool is_text = std::ranges::none_of(
        name, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; });
    if (is_function || !is_text || name.size() > kMaxTableBytes) {
      return;
    }
    if (expected == Expect::kName) {
      result_.collection = plain;
      tables_ = 1;
      return;
    }
    NoteTable(name, plain);
  }

  [[nodiscard]] bool AllowsColumns() const {
    return result_.operation == "VACUUM" || result_.operation == "ANALYZE";
  }

  static std::string Plain(const SqlToken& token) {
    if (token.kind == Kind::kWord) {
      return std::string(token.text);
    }
    return std::string(token.text.substr(1, token.text.size() - 2));
  }

  void NoteTable(const std::string& name, const std::string& plain) {
    Append(name);
    if (tables_ == 0 || plain != result_.collection) {
      ++tables_;
    }
    if (tables_ == 1) {
      result_.collection = plain;
    }
  }

  void Note(std::string_view operation) {
    if (result_.operation.empty()) {
      result_.operation = operation;
    }
    Append(operation);
  }

  void Append(std::string_view word) {
    const std::size_t needed = word.size() + (result_.text.empty() ? 0 : 1);
    if (result_.text.size() + needed > kMaxSummaryBytes) {
      full_ = true;
      return;
    }
    result_.text += result_.text.empty() ? "" : " ";
    result_.text += word;
  }

  SqlTokens tokens_;
  SqlToken next_;
  SqlSummary result_;
  Level level_;
  std::vector<Level> outer_;
  std::string_view object_of_;
  Expect expect_ = Expect::kNothing;
  bool begins_ = true;        // a statement begins here
  bool may_begin_ = false;    // an operation may stand here
  bool is_distinct_ = false;  // the last word was DISTINCT
  bool skips_ = false;        // until the next statement
  bool full_ = false;
  std::size_t tables_ = 0;  // different ones
};

}  // namespace

SqlSummary SummariseSql(std::string_view text, SqlDialect dialect, bool is_whole) {
  if (text.size() > kMaxSqlBytes) {
    text = text.substr(0, kMaxSqlBytes);
    is_whole = false;
  }
  return Summariser(text, dialect, is_whole).Run();
}

}  // namespace weir::database
