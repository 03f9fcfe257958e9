#include "agent/database/statement_table.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace weir::database {
namespace {

StatementPtr Statement(const std::string& text) {
  return std::make_shared<const SqlSummary>(
      SqlSummary{.operation = "SELECT", .collection = {}, .text = text});
}

TEST(StatementTableTest, RemembersTheLastOfAName) {
  StatementTable table(10000);
  table.Set("a", Statement("SELECT x"));
  table.Set("a", Statement("SELECT y"));
  ASSERT_NE(table.Find("a"), nullptr);
  EXPECT_EQ(table.Find("a")->text, "SELECT y");
  EXPECT_EQ(table.size(), 1U);
  table.Set("a", nullptr);
  EXPECT_EQ(table.Find("a"), nullptr);
  EXPECT_EQ(table.bytes(), 0U);
}

TEST(StatementTableTest, DropsTheOldestAtItsLimit) {
  const std::size_t one = StatementTable::kEntryBytes + 1 + 6 + 8;  // name, operation, text
  StatementTable table(3 * one);
  for (const char* name : {"a", "b", "c"}) {
    table.Set(name, Statement("SELECT x"));
  }
  EXPECT_EQ(table.bytes(), 3 * one);
  table.Set("d", Statement("SELECT x"));
  EXPECT_EQ(table.Find("a"), nullptr);
  EXPECT_NE(table.Find("b"), nullptr);
  EXPECT_NE(table.Find("d"), nullptr);
  EXPECT_EQ(table.bytes(), 3 * one);
}

TEST(StatementTableTest, TakesNoNameAboveItsLimit) {
  StatementTable table(10000);
  table.Set(std::string(StatementTable::kMaxNameBytes, 'n'), Statement("SELECT x"));
  table.Set(std::string(StatementTable::kMaxNameBytes + 1, 'n'), Statement("SELECT x"));
  EXPECT_EQ(table.size(), 1U);
  table.Set("huge", Statement(std::string(20000, 'x')));
  EXPECT_EQ(table.size(), 1U);
  table.Clear();
  EXPECT_EQ(table.size(), 0U);
  EXPECT_EQ(table.bytes(), 0U);
}

}  // namespace
}  // namespace weir::database
