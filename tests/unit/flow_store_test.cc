#include "agent/admin/flow_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/support/flow_records.h"

namespace weir::admin {
namespace {

TEST(FlowStoreTest, KeepsTheNewestWithinItsNumber) {
  FlowStore store({.max_records = 10, .max_bytes = 1U << 20U});
  store.Consume(test::MakeRequests(25));
  const auto all = store.ReadFrom(0);
  ASSERT_EQ(all.size(), 10U);
  EXPECT_EQ(all.front().flow->http->path, "/15");
  EXPECT_EQ(all.back().flow->http->path, "/24");
  EXPECT_EQ(all.front().sequence, 16U);
  EXPECT_EQ(store.first_sequence(), 16U);
  EXPECT_EQ(store.next_sequence(), 26U);
  EXPECT_EQ(store.usage().overwritten, 15U);
}

TEST(FlowStoreTest, KeepsTheNewestWithinItsSize) {
  auto records = test::MakeRequests(1);
  const std::size_t one = FlowBytes(records.front().flow);
  FlowStore store({.max_records = 1000, .max_bytes = one * 3});
  for (int i = 0; i < 8; ++i) {
    store.Consume(records);
    EXPECT_LE(store.usage().bytes, one * 3);
  }
  EXPECT_EQ(store.usage().records, 3U);
}

TEST(FlowStoreTest, HoldsNothingWhenOneRecordExceedsItsSize) {
  FlowStore store({.max_records = 10, .max_bytes = 100});
  store.Consume(test::MakeRequests(2));
  EXPECT_EQ(store.usage().records, 0U);
  EXPECT_EQ(store.usage().bytes, 0U);
  EXPECT_EQ(store.usage().overwritten, 2U);
  EXPECT_EQ(store.first_sequence(), store.next_sequence());
}

TEST(FlowStoreTest, LeavesAGapForWhatWasLostBeforeIt) {
  FlowStore store;
  store.Consume(test::MakeRequests(1));
  store.NoteLost(100);
  store.Consume(test::MakeRequests(1));
  const auto all = store.ReadFrom(1);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[1].sequence - all[0].sequence, 101U);
  EXPECT_EQ(store.usage().lost, 100U);
}

TEST(FlowStoreTest, ReadsInBoundedBatchesBothWays) {
  FlowStore store;
  store.Consume(test::MakeRequests(FlowStore::kMaxReadRecords + 5));
  const auto forward = store.ReadFrom(1);
  EXPECT_EQ(forward.size(), FlowStore::kMaxReadRecords);
  EXPECT_EQ(store.ReadFrom(forward.back().sequence + 1).size(), 5U);
  const auto backward = store.ReadBefore(store.next_sequence());
  EXPECT_EQ(backward.size(), FlowStore::kMaxReadRecords);
  EXPECT_GT(backward.front().sequence, backward.back().sequence);
  EXPECT_EQ(store.ReadBefore(backward.back().sequence).size(), 5U);
  EXPECT_TRUE(store.ReadBefore(1).empty());
}

// F44: whoever reads or does not read, the writer goes on, and readers see every number
// that is left, in order.
TEST(FlowStoreTest, LetsReadersAndTheWriterRunAtOnce) {
  FlowStore store({.max_records = 1000, .max_bytes = 8U << 20U});
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  std::atomic<std::uint64_t> out_of_order{0};
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      std::uint64_t next = 1;
      while (!done) {
        for (const StoredFlow& stored : store.ReadFrom(next)) {
          out_of_order += stored.sequence < next ? 1 : 0;
          next = stored.sequence + 1;
        }
      }
    });
  }
  const auto batch = test::MakeRequests(50);
  for (int i = 0; i < 400; ++i) {
    store.Consume(batch);
  }
  done = true;
  for (auto& reader : readers) {
    reader.join();
  }
  EXPECT_EQ(out_of_order, 0U);
  EXPECT_EQ(store.next_sequence(), 20'001U);
  EXPECT_EQ(store.usage().records, 1000U);
}

}  // namespace
}  // namespace weir::admin
