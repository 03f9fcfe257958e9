#include "agent/daemon/top_view.h"

#include <gtest/gtest.h>

#include "tests/support/flow_records.h"
#include "weir/v1/admin.pb.h"

namespace weir::daemon {
namespace {

using std::chrono::seconds;

observe::Record EndedBefore(base::Nanoseconds age) {
  auto record = test::MakeRequest();
  record.flow.timing.start = base::SystemClock().WallNow() - age - record.flow.timing.total;
  return record;
}

v1::TopList Top(const admin::FlowStore& store, base::Nanoseconds window, base::Nanoseconds uptime) {
  return MakeTop(store, {.by = "pair", .window = window}, base::SystemClock().WallNow() - uptime,
                 "node-a");
}

TEST(TopViewTest, CountsWhatEndedWithinTheWindow) {
  admin::FlowStore store;
  store.Consume({EndedBefore(seconds(3000)), EndedBefore(seconds(100)), EndedBefore(seconds(99)),
                 EndedBefore(seconds(1))});
  const v1::TopList top = Top(store, seconds(200), std::chrono::hours(9));
  EXPECT_EQ(top.seen(), 3U);
  EXPECT_EQ(top.lost(), 0U);
  EXPECT_NEAR(top.window_seconds(), 200, 0.5);
  ASSERT_EQ(top.rows_size(), 1);
  EXPECT_EQ(top.rows(0).requests(), 3U);
  EXPECT_EQ(top.rows(0).source(), "shop/cart");
  EXPECT_EQ(top.rows(0).direction(), "out");
  EXPECT_EQ(top.rows(0).node(), "node-a");
}

TEST(TopViewTest, SaysHowMuchOfTheWindowItCovers) {
  admin::FlowStore store({.max_records = 2});
  EXPECT_NEAR(Top(store, seconds(200), seconds(50)).window_seconds(), 50, 0.5);
  store.Consume({EndedBefore(seconds(90)), EndedBefore(seconds(80)), EndedBefore(seconds(70))});
  const v1::TopList top = Top(store, seconds(200), seconds(5000));
  EXPECT_EQ(top.seen(), 2U);
  EXPECT_NEAR(top.window_seconds(), 80, 0.5);
}

TEST(TopViewTest, CountsWhatNeverReachedTheStore) {
  admin::FlowStore store;
  store.Consume({EndedBefore(seconds(3))});
  store.NoteLost(7);
  store.Consume({EndedBefore(seconds(2))});
  const v1::TopList top = Top(store, seconds(10), seconds(5000));
  EXPECT_EQ(top.seen(), 2U);
  EXPECT_EQ(top.lost(), 7U);
}

TEST(TopViewTest, KeepsPathsOfAnyBytesReadable) {
  admin::FlowStore store;
  auto record = EndedBefore(seconds(1));
  record.flow.http->path = "/\xff\xfe";
  store.Consume({record});
  const v1::TopList top = MakeTop(store, {.by = "path", .window = seconds(10)},
                                  base::SystemClock().WallNow() - seconds(60), "node-a");
  ASSERT_EQ(top.rows_size(), 1);
  EXPECT_TRUE(top.rows(0).name().starts_with("GET /"));
  EXPECT_FALSE(top.SerializeAsString().empty());
}

}  // namespace
}  // namespace weir::daemon
