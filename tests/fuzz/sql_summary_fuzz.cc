// Statements, in both dialects, whole and cut. Properties: the summary keeps its limits and is
// text, it begins with the operation, and a literal in the middle of a statement never shows.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/utf8.h"
#include "agent/database/sql_summary.h"
#include "tests/fuzz/property.h"

namespace {

namespace database = weir::database;
using database::SqlDialect;

void Check(std::string_view sql, SqlDialect dialect, bool is_whole) {
  const auto summary = database::SummariseSql(sql, dialect, is_whole);
  WEIR_PROPERTY(summary.text.size() <= database::kMaxSummaryBytes);
  WEIR_PROPERTY(summary.collection.size() <= database::kMaxTableBytes);
  WEIR_PROPERTY(weir::base::IsUtf8(summary.text));
  WEIR_PROPERTY(summary.operation.empty() == summary.text.empty());
  WEIR_PROPERTY(summary.text.starts_with(summary.operation));
  for (const char c : summary.text) {
    WEIR_PROPERTY(static_cast<unsigned char>(c) >= ' ');
  }
}

// A quoted canary never comes out, wherever it stands.
void CheckLiteral(std::string_view before, std::string_view behind, SqlDialect dialect) {
  constexpr std::string_view kCanary = "kanarienvogel";
  if (std::string(before).contains(kCanary) || std::string(behind).contains(kCanary)) {
    return;
  }
  // Only where the front has no open quote or comment: it says so by being plain.
  if (before.find_first_of("'\"`$/#-\\") != std::string_view::npos) {
    return;
  }
  const std::string sql =
      std::string(before) + " 'x FROM kanarienvogel, kanarienvogel' " + std::string(behind);
  const auto summary = database::SummariseSql(sql, dialect, /*is_whole=*/true);
  WEIR_PROPERTY(!summary.text.contains(kCanary));
  WEIR_PROPERTY(!summary.collection.contains(kCanary));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view sql(reinterpret_cast<const char*>(data), size);
  for (const SqlDialect dialect : {SqlDialect::kPostgresql, SqlDialect::kMysql}) {
    Check(sql, dialect, /*is_whole=*/true);
    Check(sql, dialect, /*is_whole=*/false);
    CheckLiteral(sql.substr(0, size / 2), sql.substr(size / 2), dialect);
  }
  return 0;
}
