#include "agent/export/service_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "tests/support/records.h"

namespace weir::telemetry {
namespace {

using observe::Record;
using std::chrono::milliseconds;
using std::chrono::seconds;
using test::MakeRequest;

TEST(LatencyHistogramTest, GivesQuantilesWithinAQuarter) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5).count(), 0);
  for (int i = 1; i <= 1000; ++i) {
    histogram.Add(std::chrono::microseconds(i * 100));
  }
  EXPECT_EQ(histogram.count(), 1000U);
  EXPECT_NEAR(static_cast<double>(histogram.Quantile(0.5).count()), 50e6, 12.5e6);
  EXPECT_NEAR(static_cast<double>(histogram.Quantile(0.99).count()), 99e6, 25e6);
}

TEST(LatencyHistogramTest, TakesAnyDuration) {
  LatencyHistogram histogram;
  histogram.Add(base::Nanoseconds(-5));
  histogram.Add(std::chrono::hours(1000));
  EXPECT_EQ(histogram.count(), 2U);
  EXPECT_LE(histogram.Quantile(0.5), std::chrono::microseconds(1));
  EXPECT_GT(histogram.Quantile(1.0), std::chrono::hours(2));
}

class ServiceGraphTest : public testing::Test {
 protected:
  base::ManualClock clock_;
  ServiceGraph graph_{clock_};
};

TEST_F(ServiceGraphTest, CountsRequestsOfAnEdge) {
  Record turn = MakeRequest(/*is_client=*/true);
  turn.flow.parent_source = observe::ParentSource::kTurn;
  Record failed = MakeRequest(/*is_client=*/true);
  failed.flow.http->status = 500;
  failed.flow.mtls = observe::MtlsState::kLocal;
  graph_.Consume({turn, failed});
  const auto view = graph_.View(seconds(60));
  ASSERT_EQ(view.edges.size(), 1U);
  const GraphEdge& edge = view.edges[0];
  EXPECT_EQ(edge.source, "crm/front");
  EXPECT_EQ(edge.destination, "crm/back");
  EXPECT_TRUE(edge.is_seen_at_source);
  EXPECT_EQ(edge.requests, 2U);
  EXPECT_EQ(edge.errors, 1U);
  EXPECT_EQ(edge.tunnel, 1U);
  EXPECT_EQ(edge.local, 1U);
  EXPECT_EQ(edge.plain, 0U);
  EXPECT_EQ(edge.by_parent_source[static_cast<std::size_t>(observe::ParentSource::kTurn)], 1U);
  EXPECT_NEAR(static_cast<double>(edge.p50.count()), 3e6, 0.75e6);
}

TEST_F(ServiceGraphTest, CountsWhatBothEndsSawOnce) {
  graph_.Consume({MakeRequest(/*is_client=*/true), MakeRequest(/*is_client=*/false)});
  const auto view = graph_.View(seconds(60));
  ASSERT_EQ(view.edges.size(), 1U);
  EXPECT_EQ(view.edges[0].requests, 1U);
  EXPECT_TRUE(view.edges[0].is_seen_at_source);
}

TEST_F(ServiceGraphTest, KnowsParentsWhereTheRequestsLeaveOnly) {
  Record in = MakeRequest(/*is_client=*/false);
  in.flow.parent_source = observe::ParentSource::kHeader;
  graph_.Consume({in});
  Record from_outside = in;
  from_outside.flow.source.workload.reset();
  graph_.Consume({from_outside});
  const auto view = graph_.View(seconds(60));
  ASSERT_EQ(view.edges.size(), 2U);
  EXPECT_EQ(std::ranges::count(view.edges[0].by_parent_source, 0U), 5);
  EXPECT_EQ(view.edges[1].source, "outside");
  EXPECT_EQ(std::ranges::count(view.edges[1].by_parent_source, 1U), 1);
}

TEST_F(ServiceGraphTest, NamesThoseOutsideTheMesh) {
  Record in = MakeRequest(/*is_client=*/false);
  in.flow.source.workload.reset();
  Record out = MakeRequest(/*is_client=*/true);
  out.flow.destination.workload.reset();
  graph_.Consume({in, out});
  const auto view = graph_.View(seconds(60));
  ASSERT_EQ(view.edges.size(), 2U);
  EXPECT_EQ(view.edges[0].destination, "198.18.0.2:8080");
  EXPECT_EQ(view.edges[1].source, "outside");
  EXPECT_FALSE(view.edges[1].is_seen_at_source);
}

TEST_F(ServiceGraphTest, CountsOpaqueConnectionsAndTheirRefusals) {
  Record record = MakeRequest(/*is_client=*/true);
  record.flow.is_request = false;
  record.flow.protocol = observe::Protocol::kOpaque;
  record.flow.http.reset();
  record.span.reset();
  Record denied = record;
  denied.flow.verdict = observe::Verdict::kDeny;
  denied.flow.reason = observe::Reason::kPolicyDenied;
  graph_.Consume({record, denied});
  const GraphEdge edge = graph_.View(seconds(60)).edges.at(0);
  EXPECT_EQ(edge.requests, 0U);
  EXPECT_EQ(edge.connections, 2U);
  EXPECT_EQ(edge.errors, 1U);
  EXPECT_EQ(edge.tunnel, 2U);
  EXPECT_GT(edge.p50.count(), 0);
}

TEST_F(ServiceGraphTest, ForgetsWhatIsOlderThanTheWindow) {
  graph_.Consume({MakeRequest(/*is_client=*/true)});
  clock_.Advance(seconds(30));
  graph_.Consume({MakeRequest(/*is_client=*/true)});
  EXPECT_EQ(graph_.View(seconds(60)).edges.at(0).requests, 2U);
  EXPECT_EQ(graph_.View(seconds(60)).window, seconds(30));
  EXPECT_EQ(graph_.View(seconds(10)).edges.at(0).requests, 1U);
  EXPECT_EQ(graph_.View(seconds(10)).window, seconds(10));
  clock_.Advance(std::chrono::hours(2));
  EXPECT_TRUE(graph_.View(std::chrono::hours(1)).edges.empty());
}

TEST_F(ServiceGraphTest, FoldsEdgesBeyondTheLimitOfASlot) {
  for (std::size_t i = 0; i < ServiceGraph::kMaxEdgesPerSlot + 5; ++i) {
    Record record = MakeRequest(/*is_client=*/true);
    record.flow.destination.workload.reset();
    record.flow.destination.endpoint.port = static_cast<std::uint16_t>(i + 1);
    graph_.Consume({record});
  }
  const auto view = graph_.View(seconds(60));
  EXPECT_EQ(view.folded, 5U);
  ASSERT_EQ(view.edges.size(), ServiceGraph::kMaxEdgesPerSlot + 1);
  EXPECT_EQ(view.edges.back().destination, "other");
  EXPECT_EQ(view.edges.back().requests, 5U);
}

TEST_F(ServiceGraphTest, LetsTheOldestSlotsGoAtTheLimitOfCells) {
  const std::size_t slots = ServiceGraph::kMaxCells / ServiceGraph::kMaxEdgesPerSlot + 4;
  for (std::size_t slot = 0; slot < slots; ++slot) {
    std::vector<Record> records(ServiceGraph::kMaxEdgesPerSlot, MakeRequest(/*is_client=*/true));
    for (std::size_t i = 0; i < records.size(); ++i) {
      records[i].flow.destination.workload.reset();
      records[i].flow.destination.endpoint.port = static_cast<std::uint16_t>(i + 1);
    }
    graph_.Consume(records);
    clock_.Advance(ServiceGraph::kSlot);
  }
  const auto view = graph_.View(std::chrono::hours(1));
  EXPECT_EQ(view.window, (slots - 4) * ServiceGraph::kSlot);
  EXPECT_EQ(view.edges.at(0).requests, slots - 4);
}

}  // namespace
}  // namespace weir::telemetry
