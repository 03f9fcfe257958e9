#include "agent/database/sql_summary.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace weir::database {
namespace {

constexpr auto kPg = SqlDialect::kPostgresql;
constexpr auto kMy = SqlDialect::kMysql;

std::string Text(std::string_view sql, SqlDialect dialect = kPg) {
  return SummariseSql(sql, dialect, /*is_whole=*/true).text;
}

// The examples of the semantic conventions, and what clients send.
TEST(SqlSummaryTest, NamesOperationsAndTables) {
  EXPECT_EQ(Text("SELECT * FROM wuser_table WHERE username = 'x'"), "SELECT wuser_table");
  EXPECT_EQ(Text("INSERT INTO shipping_details (order_id) SELECT id FROM orders WHERE id = 7"),
            "INSERT shipping_details SELECT orders");
  EXPECT_EQ(Text("SELECT * FROM songs, artists WHERE songs.a = artists.b"), "SELECT songs artists");
  EXPECT_EQ(Text("SELECT d FROM (SELECT * FROM orders o JOIN customers c ON o.a = c.b)"),
            "SELECT SELECT orders customers");
  EXPECT_EQ(Text(R"(SELECT * FROM "song list")"), R"(SELECT "song list")");
  EXPECT_EQ(Text("select a from t1 left join public.t2 using (id) where b in (select c from t3)"),
            "SELECT t1 public.t2 SELECT t3");
  EXPECT_EQ(Text("UPDATE ONLY accounts SET balance = 1 FROM owners WHERE a = b"),
            "UPDATE accounts owners");
  EXPECT_EQ(Text("DELETE FROM a USING b WHERE a.x = b.x"), "DELETE a b");
  EXPECT_EQ(Text("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET x = 1"),
            "MERGE t s");
  EXPECT_EQ(Text("INSERT INTO t(a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2"), "INSERT t");
  EXPECT_EQ(Text("WITH x AS (SELECT * FROM a) UPDATE b SET c = 1"), "SELECT a UPDATE b");
  EXPECT_EQ(Text("EXPLAIN (ANALYZE, BUFFERS) SELECT 1 FROM t"), "EXPLAIN SELECT t");
  EXPECT_EQ(Text("explain analyze delete from t"), "EXPLAIN DELETE t");
  EXPECT_EQ(Text("SELECT a FROM x UNION ALL (SELECT b FROM y) ORDER BY a, b"), "SELECT x SELECT y");
  EXPECT_EQ(Text("(SELECT 1)"), "SELECT");
  EXPECT_EQ(Text("TRUNCATE TABLE a, b CASCADE"), "TRUNCATE a b");
  EXPECT_EQ(Text("COPY t (a, b) FROM STDIN"), "COPY t");
  EXPECT_EQ(Text("COPY (SELECT * FROM t) TO STDOUT"), "COPY SELECT t");
  EXPECT_EQ(Text("VACUUM FULL ANALYZE t"), "VACUUM t");
  EXPECT_EQ(Text("SELECT a FROM ((x JOIN y ON x.i = y.i))"), "SELECT x y");
}

TEST(SqlSummaryTest, NamesTheKindsOfObjects) {
  EXPECT_EQ(Text("CREATE TABLE IF NOT EXISTS t (a int, b text)"), "CREATE TABLE t");
  EXPECT_EQ(Text("CREATE TEMP TABLE t AS SELECT * FROM u"), "CREATE TABLE t SELECT u");
  EXPECT_EQ(Text("CREATE OR REPLACE VIEW v AS SELECT * FROM u"), "CREATE VIEW v SELECT u");
  EXPECT_EQ(Text("DROP TABLE IF EXISTS a, b"), "DROP TABLE a b");
  EXPECT_EQ(Text("ALTER TABLE t ADD COLUMN x int"), "ALTER TABLE t");
  EXPECT_EQ(Text("CREATE UNIQUE INDEX i ON t (a)"), "CREATE INDEX");
  EXPECT_EQ(Text("CREATE USER bob PASSWORD 'secret'"), "CREATE USER");
  EXPECT_EQ(Text("CREATE GALAXY far_away"), "CREATE");
}

TEST(SqlSummaryTest, TellsOnlyTheOperationOfWhatHasNoTable) {
  for (const std::string_view sql :
       {"BEGIN", "COMMIT", "ROLLBACK", "SET password_hint = secret", "SHOW search_path",
        "EXECUTE stmt(secret)", "NOTIFY channel, secret", "CALL secret(1)", "DO secret",
        "GRANT SELECT ON secret TO bob", "PREPARE x AS SELECT * FROM secret", "KILL secret"}) {
    EXPECT_EQ(Text(sql), sql.substr(0, sql.find(' '))) << sql;
  }
  EXPECT_EQ(Text("CREATE FUNCTION f() RETURNS int AS $$ SELECT 1 FROM secret $$ LANGUAGE sql"),
            "CREATE FUNCTION");
}

TEST(SqlSummaryTest, LooksAtEveryStatement) {
  EXPECT_EQ(Text("BEGIN; INSERT INTO a VALUES (1); UPDATE b SET c = 2; COMMIT"),
            "BEGIN INSERT a UPDATE b COMMIT");
  EXPECT_EQ(Text("nonsense FROM secret; SELECT 1 FROM t"), "SELECT t");
  const SqlSummary summary = SummariseSql("SELECT 1 FROM a; SELECT 2 FROM a", kPg, true);
  EXPECT_EQ(summary.operation, "SELECT");
  EXPECT_EQ(summary.collection, "a");
  EXPECT_EQ(SummariseSql("SELECT 1 FROM a, b", kPg, true).collection, "");
  EXPECT_EQ(SummariseSql(R"(SELECT 1 FROM "A b")", kPg, true).collection, "A b");
}

TEST(SqlSummaryTest, TakesNoColumnOrFunctionForATable) {
  EXPECT_EQ(Text("SELECT extract(year FROM ts), trim(both 'x' FROM y) FROM t"), "SELECT t");
  EXPECT_EQ(Text("SELECT a IS DISTINCT FROM b FROM t"), "SELECT t");
  EXPECT_EQ(Text("SELECT * FROM generate_series(1, 10) g, t"), "SELECT t");
  EXPECT_EQ(Text("SELECT * FROM t, LATERAL (SELECT 1 FROM u) x"), "SELECT t SELECT u");
  EXPECT_EQ(Text("SELECT 1 FROM t GROUP BY a, b HAVING c ORDER BY d, e LIMIT 1, 2", kMy),
            "SELECT t");
  EXPECT_EQ(Text("SELECT REPLACE(a, 'x', 'y'), INSERT(b, 1, 2, 'z') FROM t FOR UPDATE", kMy),
            "SELECT t");
  EXPECT_EQ(Text("INSERT IGNORE t SET a = 1 ON DUPLICATE KEY UPDATE b = 2", kMy), "INSERT t");
}

TEST(SqlSummaryTest, UnderstandsMysql) {
  EXPECT_EQ(Text("SELECT * FROM `my db`.`t` # FROM secret\n WHERE a = \"secret\"", kMy),
            "SELECT `my db`.`t`");
  EXPECT_EQ(Text("REPLACE INTO t VALUES (1)", kMy), "REPLACE t");
  EXPECT_EQ(Text("SELECT 5--3 FROM t -- FROM secret", kMy), "SELECT t");
  EXPECT_EQ(Text("LOAD DATA LOCAL INFILE 'secret' INTO TABLE t", kMy), "LOAD");
  EXPECT_EQ(Text("/*!40101 SELECT */ a FROM t", kMy), "SELECT t");
  EXPECT_EQ(Text("UPDATE a JOIN b ON a.x = b.x SET a.y = 1", kMy), "UPDATE a b");
  EXPECT_EQ(Text("SELECT @a, @@global.b, @'FROM secret' FROM t", kMy), "SELECT t");
  EXPECT_EQ(SummariseSql("USE `shop`", kMy, true).collection, "shop");
  EXPECT_EQ(SummariseSql("USE `shop`", kMy, true).text, "USE");
}

TEST(SqlSummaryTest, SkipsLiteralsAndComments) {
  EXPECT_EQ(Text("SELECT 'FROM secret', E'it\\'s FROM secret', $$ FROM secret $$ FROM t"),
            "SELECT t");
  EXPECT_EQ(Text("SELECT $x$ a $$ FROM secret $x$, $1 FROM t"), "SELECT t");
  EXPECT_EQ(Text("SELECT /* FROM /* nested */ secret */ a -- FROM secret\n FROM t"), "SELECT t");
  EXPECT_EQ(Text("SELECT 'a''b FROM secret' FROM t"), "SELECT t");
  EXPECT_EQ(Text("SELECT 1e5, .5, 0x1f, 'x' FROM t"), "SELECT t");
  EXPECT_EQ(Text("SELECT U&'secret', B'01', X'ff' FROM t"), "SELECT t");
}

// Where the server's settings decide on the end of a literal, nothing behind it is read.
TEST(SqlSummaryTest, StopsWhereALiteralsEndIsUncertain) {
  EXPECT_EQ(Text("SELECT 'it\\' FROM secret, 'x' FROM t"), "SELECT");
  EXPECT_EQ(Text("SELECT 'it\\' FROM secret, 'x' FROM t", kMy), "SELECT");
  EXPECT_EQ(Text("SELECT \"it\\\" FROM secret, \"x\" FROM t", kMy), "SELECT");
  EXPECT_EQ(Text("INSERT INTO t VALUES ('O\\'Brien') ; SELECT 1 FROM u", kMy), "INSERT t");
  EXPECT_EQ(Text("SELECT 'a\\\\' FROM t", kMy), "SELECT t");
  EXPECT_EQ(Text("SELECT 'a\\\\' FROM t"), "SELECT t");
  EXPECT_EQ(Text("SELECT 'never closed FROM secret"), "SELECT");
  EXPECT_EQ(Text("SELECT $a$ never closed FROM secret"), "SELECT");
  EXPECT_EQ(Text("SELECT /* never closed FROM secret"), "SELECT");
  EXPECT_EQ(Text("SELECT \x95\x5c' FROM secret, ' FROM t", kMy), "SELECT");  // Shift JIS
  EXPECT_EQ(Text("SELECT 1 FROM größe"), "SELECT größe");
  EXPECT_EQ(Text("/*!99999 it's */ SELECT 'x FROM secret' FROM t", kMy), "");
}

TEST(SqlSummaryTest, LeavesOutNamesThatMayBeCut) {
  EXPECT_EQ(SummariseSql("SELECT * FROM secre", kPg, /*is_whole=*/false).text, "SELECT");
  EXPECT_EQ(SummariseSql("SELECT * FROM t ", kPg, /*is_whole=*/false).text, "SELECT t");
  EXPECT_EQ(SummariseSql("SELECT * FROM \"secre", kPg, /*is_whole=*/false).text, "SELECT");
}

TEST(SqlSummaryTest, KeepsItsLimitsExactly) {
  // "SELECT" and names of 7 letters: 6 + 8 n <= 255 for n = 31 (254 bytes).
  std::string sql = "SELECT 1 FROM table00";
  for (int i = 1; i < 40; ++i) {
    sql += ", table" + std::to_string(i + 10);
  }
  EXPECT_EQ(Text(sql).size(), 6U + 8U * 31U);
  const std::string longest(kMaxTableBytes, 't');
  EXPECT_EQ(Text("SELECT 1 FROM " + longest), "SELECT " + longest);
  EXPECT_EQ(Text("SELECT 1 FROM " + longest + "t"), "SELECT");
  const std::string blanks(kMaxSqlBytes - std::string_view("SELECT 1 FROM t ").size(), ' ');
  EXPECT_EQ(Text("SELECT 1 " + blanks + "FROM t "), "SELECT t");
  EXPECT_EQ(Text("SELECT 1 " + blanks + "  FROM t"), "SELECT");
  EXPECT_EQ(Text("SELECT 1 FROM " + std::string(1000, '(') + "t"), "SELECT");
}

TEST(SqlSummaryTest, TellsNothingOfNonsense) {
  for (const std::string_view sql :
       {"", " ", ";;;", "secret", "'secret'", "\"secret\" SELECT 1 FROM secret", "-- secret",
        "5 SELECT 1 FROM secret", "selectfrom secret", "\x01\x02", "WITH"}) {
    EXPECT_EQ(Text(sql), "") << sql;
    EXPECT_EQ(Text(sql, kMy), "") << sql;
  }
}

}  // namespace
}  // namespace weir::database
