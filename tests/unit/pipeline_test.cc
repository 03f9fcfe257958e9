#include "agent/export/pipeline.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/support/records.h"

namespace weir::telemetry {
namespace {

using observe::Record;
using test::MakeRequest;

class Counting final : public observe::RecordConsumer {
 public:
  void Consume(const std::vector<Record>& records) noexcept override {
    for (const Record& record : records) {
      ids.push_back(record.flow.connection_id);
    }
    while (is_blocked.load()) {
      is_blocked.wait(true);
    }
  }
  std::vector<std::uint64_t> ids;
  std::atomic<bool> is_blocked{false};
};

Record WithId(std::uint64_t id, bool has_span) {
  Record record = MakeRequest(/*is_client=*/true);
  record.flow.connection_id = id;
  if (!has_span) {
    record.span.reset();
  }
  return record;
}

void ExpectExact(const PipelineTally& tally) {
  EXPECT_EQ(tally.generated, tally.delivered + tally.dropped + tally.queued);
}

TEST(PipelineTest, DeliversInOrderToEveryConsumer) {
  Counting first;
  Counting second;
  auto pipeline = *Pipeline::Create({});
  pipeline->AddConsumer(first);
  pipeline->AddConsumer(second);
  ASSERT_TRUE(pipeline->Start().has_value());
  pipeline->Offer({WithId(1, true), WithId(2, false)});
  pipeline->Offer({});
  pipeline->Offer({WithId(3, true)});
  pipeline->Stop();
  EXPECT_EQ(first.ids, (std::vector<std::uint64_t>{1, 2, 3}));
  EXPECT_EQ(second.ids, first.ids);
  const PipelineCounters counters = pipeline->counters();
  EXPECT_EQ(counters.records.delivered, 3U);
  EXPECT_EQ(counters.records.queued, 0U);
  EXPECT_EQ(counters.spans.delivered, 2U);
  EXPECT_EQ(counters.queued_bytes, 0U);
}

TEST(PipelineTest, WakesUpWithoutBeingStopped) {
  Counting consumer;
  consumer.is_blocked = true;
  auto pipeline = *Pipeline::Create({});
  pipeline->AddConsumer(consumer);
  ASSERT_TRUE(pipeline->Start().has_value());
  for (std::uint64_t i = 1; i <= 3; ++i) {
    pipeline->Offer({WithId(i, true)});
    consumer.is_blocked = false;
    consumer.is_blocked.notify_one();
    while (pipeline->counters().records.delivered < i) {
      std::this_thread::yield();  // bounded by the test's timeout
    }
  }
}

TEST(PipelineTest, DropsWhatDoesNotFitAndCountsIt) {
  Counting consumer;
  const std::size_t one = RecordBytes(WithId(1, true));
  // Not started, so nothing leaves the queue.
  auto pipeline = *Pipeline::Create({.queue_limit_bytes = 3 * one});
  pipeline->AddConsumer(consumer);
  pipeline->Offer({WithId(1, true), WithId(2, true)});
  pipeline->Offer({WithId(3, true), WithId(4, true)});  // does not fit as a whole
  pipeline->Offer({WithId(5, true)});                   // fits exactly
  PipelineCounters counters = pipeline->counters();
  EXPECT_EQ(counters.records.generated, 5U);
  EXPECT_EQ(counters.records.dropped, 2U);
  EXPECT_EQ(counters.spans.dropped, 2U);
  EXPECT_EQ(counters.records.queued, 3U);
  EXPECT_EQ(counters.queued_bytes, 3 * one);
  ASSERT_TRUE(pipeline->Start().has_value());
  pipeline->Stop();
  EXPECT_EQ(consumer.ids, (std::vector<std::uint64_t>{1, 2, 5}));
  counters = pipeline->counters();
  EXPECT_EQ(counters.records.delivered, 3U);
  ExpectExact(counters.records);
}

TEST(PipelineTest, CountsWhatComesAfterStop) {
  auto pipeline = *Pipeline::Create({});
  ASSERT_TRUE(pipeline->Start().has_value());
  pipeline->Stop();
  pipeline->Offer({WithId(1, true)});
  EXPECT_EQ(pipeline->counters().records.dropped, 1U);
  EXPECT_EQ(pipeline->counters().records.queued, 0U);
}

TEST(PipelineTest, BlocksNoWorkerWhileAConsumerHangs) {
  Counting consumer;
  consumer.is_blocked = true;
  auto pipeline = *Pipeline::Create({.queue_limit_bytes = 256 << 10});
  pipeline->AddConsumer(consumer);
  ASSERT_TRUE(pipeline->Start().has_value());
  constexpr std::uint64_t kCount = 2000;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    pipeline->Offer({WithId(i, true)});
  }
  EXPECT_GT(pipeline->counters().records.dropped, 0U);
  EXPECT_LE(pipeline->counters().queued_bytes, 256U << 10U);
  consumer.is_blocked = false;
  consumer.is_blocked.notify_one();
  pipeline->Stop();
  const PipelineCounters counters = pipeline->counters();
  EXPECT_EQ(counters.records.generated, kCount);
  EXPECT_EQ(counters.records.delivered, consumer.ids.size());
  EXPECT_EQ(counters.records.delivered + counters.records.dropped, kCount);
}

TEST(PipelineTest, CountsExactlyWithManyWorkersAndAReader) {
  Counting consumer;
  auto pipeline = *Pipeline::Create(
      {.queue_limit_bytes = 128 << 10, .wake_interval = std::chrono::milliseconds(0)});
  pipeline->AddConsumer(consumer);
  ASSERT_TRUE(pipeline->Start().has_value());
  std::atomic<bool> is_done = false;
  std::thread reader([&] {
    while (!is_done) {
      const PipelineCounters counters = pipeline->counters();
      ExpectExact(counters.records);
      EXPECT_LE(counters.records.queued, 4000U);  // a wrapped difference would be huge
    }
  });
  std::vector<std::thread> workers;
  for (std::uint64_t worker = 0; worker < 4; ++worker) {
    workers.emplace_back([&, worker] {
      for (std::uint64_t i = 0; i < 500; ++i) {
        pipeline->Offer({WithId(worker, true), WithId(worker, false)});
      }
    });
  }
  for (std::thread& worker : workers) {
    worker.join();
  }
  is_done = true;
  reader.join();
  pipeline->Stop();
  const PipelineCounters counters = pipeline->counters();
  EXPECT_EQ(counters.records.generated, 4000U);
  EXPECT_EQ(counters.spans.generated, 2000U);
  EXPECT_EQ(counters.records.queued, 0U);
  EXPECT_EQ(counters.records.delivered, consumer.ids.size());
  ExpectExact(counters.spans);
}

}  // namespace
}  // namespace weir::telemetry
