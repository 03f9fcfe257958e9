#include "agent/export/top_table.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/flow_records.h"

namespace weir::telemetry {
namespace {

observe::Flow Arriving(const observe::Flow& flow) {
  observe::Flow arriving = flow;
  arriving.direction = observe::Direction::kInbound;
  arriving.pid = 0;
  arriving.policy = "trust-domain-member";
  return arriving;
}

TEST(TopTableTest, AddsUpAPairOnceWhereItLeaves) {
  TopTable table(TopBy::kPair);
  const auto request = test::MakeRequest().flow;
  table.Add(request);
  table.Add(test::MakeFailedRequest().flow);
  table.Add(Arriving(request));
  table.Add(test::MakeDeniedConnection().flow);
  const auto rows = table.Rows();
  ASSERT_EQ(rows.size(), 2U);
  const auto& pair = rows[0].source == "shop/cart" ? rows[0] : rows[1];
  const auto& denied = rows[0].source == "shop/cart" ? rows[1] : rows[0];
  EXPECT_EQ(pair.destination, "shop/price");
  EXPECT_EQ(pair.direction, observe::Direction::kOutbound);
  EXPECT_EQ(pair.requests, 2U);
  EXPECT_EQ(pair.errors, 1U);
  EXPECT_EQ(pair.encrypted, 2U);
  EXPECT_EQ(pair.sent_bytes, 240U);
  EXPECT_EQ(pair.received_bytes, 10'600U);
  EXPECT_GT(pair.p99, pair.p50);
  EXPECT_EQ(denied.source, "outside");
  EXPECT_EQ(denied.destination, "shop/db");
  EXPECT_EQ(denied.connections, 1U);
  EXPECT_EQ(denied.denied, 1U);
  EXPECT_EQ(denied.encrypted, 0U);
}

TEST(TopTableTest, NamesRowsByWhatIsAskedFor) {
  const auto request = test::MakeRequest().flow;
  const auto rows_of = [&](TopBy by) {
    TopTable table(by);
    table.Add(request);
    table.Add(Arriving(request));
    table.Add(test::MakeDeniedConnection().flow);
    return table.Rows();
  };
  const auto paths = rows_of(TopBy::kPath);
  ASSERT_EQ(paths.size(), 1U);  // a connection has none
  EXPECT_EQ(paths[0].name, "GET /p/42");
  EXPECT_EQ(paths[0].destination, "shop/price");
  EXPECT_EQ(paths[0].direction, observe::Direction::kInbound);
  EXPECT_EQ(paths[0].requests, 1U);

  const auto processes = rows_of(TopBy::kPid);
  ASSERT_EQ(processes.size(), 1U);
  EXPECT_EQ(processes[0].pid, 4242U);
  EXPECT_EQ(processes[0].name, "cart-server");
  EXPECT_EQ(processes[0].source, "shop/cart");

  const auto rules = rows_of(TopBy::kPolicy);
  ASSERT_EQ(rules.size(), 3U);
  const auto strict = std::ranges::find(rules, "strict-needs-mtls", &TopRow::name);
  ASSERT_NE(strict, rules.end());
  EXPECT_EQ(strict->verdict, "deny");

  const auto workloads = rows_of(TopBy::kWorkload);
  ASSERT_EQ(workloads.size(), 3U);
  for (const TopRow& row : workloads) {
    EXPECT_EQ(row.direction == observe::Direction::kOutbound, row.name == "shop/cart");
  }
}

TEST(TopTableTest, FoldsWhatExceedsItsRows) {
  TopTable table(TopBy::kPath);
  for (const auto& record : test::MakeRequests(TopTable::kMaxRows + 50)) {
    table.Add(record.flow);
  }
  table.Add(test::MakeRequests(1)[0].flow);  // its row is there
  const auto rows = table.Rows();
  EXPECT_EQ(rows.size(), TopTable::kMaxRows + 1);
  EXPECT_EQ(table.folded(), 50U);
  const auto other = std::ranges::find(rows, "other", &TopRow::name);
  ASSERT_NE(other, rows.end());
  EXPECT_EQ(other->requests, 50U);
}

}  // namespace
}  // namespace weir::telemetry
