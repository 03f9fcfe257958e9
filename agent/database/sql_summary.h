#pragma once

#include <string>
#include <string_view>

#include "agent/database/sql_tokens.h"

namespace weir::database {

// What may be told of a statement: never a literal, a parameter or a column.
struct SqlSummary {
  std::string operation;   // its first one, in upper case, of a fixed set; empty: unknown
  std::string collection;  // the one table that it names, without quotes; else empty
  // Operations and tables in their order ("INSERT orders SELECT items"), whole words only, at
  // most kMaxSummaryBytes (semantic conventions, db.query.summary); empty: unknown.
  std::string text;
};

inline constexpr std::size_t kMaxSummaryBytes = 255;
// Longer names of tables are left out.
inline constexpr std::size_t kMaxTableBytes = 128;
// How much of a statement is looked at.
inline constexpr std::size_t kMaxSqlBytes = 4096;

// Summarises the statements of `text`, which is UTF-8 (what is not ends it). `is_whole`: they
// do not go on behind it. Whatever is not understood adds nothing. Pure; any thread.
SqlSummary SummariseSql(std::string_view text, SqlDialect dialect, bool is_whole);

}  // namespace weir::database
