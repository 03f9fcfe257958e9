#include "agent/export/trace_store.h"

#include <gtest/gtest.h>

#include <chrono>

#include "tests/support/records.h"

namespace weir::telemetry {
namespace {

using observe::Record;
using std::chrono::milliseconds;
using test::MakeRequest;

Record Child(std::uint8_t trace, std::uint8_t span, std::uint8_t parent, bool is_client) {
  Record record = MakeRequest(is_client, trace, span);
  if (parent != 0) {
    record.span->parent_span_id[7] = parent;
  }
  record.flow.timing.start += milliseconds(span);
  return record;
}

observe::TraceId Id(std::uint8_t trace) {
  observe::TraceId id{};
  id[15] = trace;
  return id;
}

StoredSpan Stored(std::uint8_t span, std::uint8_t parent, int start_ms) {
  StoredSpan stored;
  stored.span_id[7] = span;
  stored.parent_span_id[7] = parent;
  stored.timing.start += milliseconds(start_ms);
  return stored;
}

// "1 2> 4>> 3>": ids in order, with one ">" for each level.
std::string Shape(const std::vector<TraceNode>& nodes) {
  std::string shape;
  for (const TraceNode& node : nodes) {
    shape += shape.empty() ? "" : " ";
    shape += std::to_string(node.span.span_id[7]) + std::string(node.depth, '>');
  }
  return shape;
}

TEST(AssembleTraceTest, PutsParentsFirstAndSiblingsByStart) {
  const auto nodes =
      AssembleTrace({Stored(3, 1, 30), Stored(4, 2, 25), Stored(1, 0, 10), Stored(2, 1, 20)});
  EXPECT_EQ(Shape(nodes), "1 2> 4>> 3>");
  EXPECT_FALSE(nodes[0].parent.has_value());
  EXPECT_EQ(nodes[2].parent, 1U);
  EXPECT_EQ(nodes[3].parent, 0U);
}

TEST(AssembleTraceTest, MakesRootsOfOrphansAndDropsDuplicates) {
  EXPECT_EQ(Shape(AssembleTrace({Stored(2, 9, 20), Stored(1, 8, 10), Stored(2, 9, 20)})), "1 2");
}

TEST(AssembleTraceTest, BreaksLoopsAtTheEarliestSpan) {
  EXPECT_EQ(Shape(AssembleTrace({Stored(1, 3, 10), Stored(2, 1, 20), Stored(3, 2, 30)})),
            "1 2> 3>>");
  EXPECT_EQ(Shape(AssembleTrace({Stored(5, 5, 1)})), "5");
  EXPECT_TRUE(AssembleTrace({}).empty());
}

TEST(TraceStoreTest, AssemblesATraceFromSpansThatComeInAnyOrder) {
  TraceStore store;
  Record failed = Child(1, 3, 2, /*is_client=*/true);
  failed.flow.http->status = 503;
  store.Consume({failed, Child(2, 9, 0, /*is_client=*/true)});
  store.Consume({Child(1, 2, 1, /*is_client=*/false), Child(1, 1, 0, /*is_client=*/true)});
  const auto nodes = store.Get(Id(1));
  EXPECT_EQ(Shape(nodes), "1 2> 3>>");
  EXPECT_EQ(nodes[0].span.service, "front");
  EXPECT_EQ(nodes[1].span.service, "back");
  EXPECT_EQ(nodes[2].span.error_type, "503");
  EXPECT_TRUE(store.Get(Id(3)).empty());
}

TEST(TraceStoreTest, ListsNewestFirstWithSummaries) {
  TraceStore store;
  store.Consume({Child(1, 1, 0, /*is_client=*/true), Child(1, 2, 1, /*is_client=*/false)});
  store.Consume({Child(2, 9, 0, /*is_client=*/true)});
  const TraceList list = store.List({});
  EXPECT_EQ(list.seen, 2U);
  EXPECT_EQ(list.matched, 2U);
  ASSERT_EQ(list.traces.size(), 2U);
  EXPECT_EQ(list.traces[0].trace_id, Id(2));
  const TraceSummary& summary = list.traces[1];
  EXPECT_EQ(summary.spans, 2U);
  EXPECT_EQ(summary.services, 2U);
  EXPECT_EQ(summary.errors, 0U);
  EXPECT_EQ(summary.duration, milliseconds(4));  // from 1 ms to 2 + 3 ms
  EXPECT_EQ(summary.root_service, "front");
  EXPECT_EQ(summary.root_name, "GET /items/1");
  EXPECT_EQ(summary.root_status, 200);
}

TEST(TraceStoreTest, ListsTheSlowestFirstWhenAsked) {
  TraceStore store;
  for (std::uint8_t trace = 1; trace <= 40; ++trace) {
    Record record = Child(trace, 1, 0, true);
    record.flow.timing.total = milliseconds(trace * 7 % 41);  // each duration once
    store.Consume({record});
  }
  const TraceList list = store.List({.slowest_first = true, .limit = 3});
  ASSERT_EQ(list.traces.size(), 3U);
  EXPECT_EQ(list.matched, 40U);
  EXPECT_EQ(list.traces[0].duration, milliseconds(40));
  EXPECT_EQ(list.traces[1].duration, milliseconds(39));
  EXPECT_EQ(list.traces[2].duration, milliseconds(38));
}

TEST(TraceStoreTest, FiltersAndLimitsTheList) {
  TraceStore store;
  Record slow = Child(1, 1, 0, /*is_client=*/true);
  slow.flow.timing.total = milliseconds(500);
  Record failed = Child(2, 1, 0, /*is_client=*/true);
  failed.flow.reason = observe::Reason::kUpstreamRefused;
  Record late = Child(3, 1, 0, /*is_client=*/false);
  late.flow.timing.start += std::chrono::hours(1);
  store.Consume({slow, failed, late});
  const auto only = [&](const TraceQuery& query) {
    const TraceList list = store.List(query);
    EXPECT_EQ(list.matched, 1U);
    return list.traces.empty() ? 0 : list.traces[0].trace_id[15];
  };
  EXPECT_EQ(only({.min_duration = milliseconds(500)}), 1);
  EXPECT_EQ(only({.errors_only = true}), 2);
  EXPECT_EQ(only({.since = late.flow.timing.start}), 3);
  EXPECT_EQ(only({.service = "back"}), 3);
  const TraceList list = store.List({.limit = 1});
  EXPECT_EQ(list.matched, 3U);
  EXPECT_EQ(list.traces.size(), 1U);
}

TEST(TraceStoreTest, LetsTheOldestTracesGoAtTheLimit) {
  TraceStore store({.bytes = 8192});
  for (std::uint8_t trace = 1; trace <= 200; ++trace) {
    store.Consume({Child(trace, 1, 0, /*is_client=*/true)});
  }
  const TraceStoreCounters counters = store.counters();
  EXPECT_LE(counters.bytes, counters.limit_bytes);
  EXPECT_GT(counters.spans, 5U);
  EXPECT_EQ(counters.stored, 200U);
  EXPECT_EQ(counters.stored, counters.evicted + counters.spans);
  EXPECT_EQ(counters.traces, counters.spans);
  EXPECT_TRUE(store.Get(Id(1)).empty());
  EXPECT_EQ(store.Get(Id(200)).size(), 1U);
}

TEST(TraceStoreTest, KeepsAsManySpansAsItIsTold) {
  TraceStore store({.spans = 10});
  for (std::uint8_t trace = 1; trace <= 11; ++trace) {
    store.Consume({Child(trace, 1, 0, /*is_client=*/true)});
  }
  EXPECT_EQ(store.counters().spans, 10U);
  EXPECT_TRUE(store.Get(Id(1)).empty());
  EXPECT_EQ(store.Get(Id(2)).size(), 1U);
}

TEST(TraceStoreTest, BoundsTheSpansOfOneTrace) {
  TraceStore store;
  Record record = MakeRequest(/*is_client=*/true);
  for (std::size_t i = 0; i < TraceStore::kMaxSpansPerTrace + 3; ++i) {
    record.span->span_id[0] = static_cast<std::uint8_t>(i >> 8U);
    record.span->span_id[1] = static_cast<std::uint8_t>(i);
    store.Consume({record});
  }
  EXPECT_EQ(store.counters().truncated, 3U);
  EXPECT_EQ(store.Get(Id(1)).size(), TraceStore::kMaxSpansPerTrace);
}

TEST(TraceStoreTest, IgnoresRecordsWithoutSpan) {
  TraceStore store;
  Record record = MakeRequest(/*is_client=*/true);
  record.span.reset();
  store.Consume({record});
  EXPECT_EQ(store.counters().stored, 0U);
}

TEST(TraceStoreTest, KeepsLinksAndWhyASpanIsThere) {
  TraceStore store;
  observe::Record record = test::MakeRequest(/*is_client=*/false);
  record.span->sampled_by = observe::SampledBy::kError;
  record.span->links = {{.trace_id = {1}, .span_id = {2}}, {.trace_id = {3}, .span_id = {4}}};
  store.Consume({record});
  const auto nodes = store.Get(record.span->trace_id);
  ASSERT_EQ(nodes.size(), 1U);
  EXPECT_EQ(nodes[0].span.sampled_by, observe::SampledBy::kError);
  EXPECT_EQ(nodes[0].span.links, "01" + std::string(30, '0') + "-02" + std::string(14, '0') +
                                     " 03" + std::string(30, '0') + "-04" + std::string(14, '0'));
}

}  // namespace
}  // namespace weir::telemetry
