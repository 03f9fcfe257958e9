#include "agent/export/exporter_set.h"

#include <gtest/gtest.h>

#include "tests/support/scripted_http2_server.h"
#include "tests/support/scripted_http_server.h"
#include "tests/unit/export_support.h"

namespace weir::telemetry {
namespace {

using observe::Record;
using std::chrono::milliseconds;
using test::GrpcOk;
using test::Respond;
using test::ScriptedHttp2Server;
using test::ScriptedHttpServer;
using test::ServedCall;
using test::ServedReply;
using test::ServedRequest;

// A request of the workload `id`.
Record RequestOf(std::uint32_t id) {
  Record record = test::MakeRequest(/*is_client=*/true);
  auto local = std::make_shared<model::LocalWorkload>(*record.local);
  local->id = static_cast<model::LocalId>(id);
  record.local = std::move(local);
  return record;
}

class ExporterSetTest : public testing::Test {
 protected:
  const ExporterStatus& Named(const std::string& name) {
    status_ = set_.status();
    const auto found = std::ranges::find(status_.exporters, name, &ExporterStatus::name);
    EXPECT_NE(found, status_.exporters.end()) << name;
    return *found;
  }
  void WaitUntilDrained() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (set_.status().queued() != 0 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_EQ(set_.status().queued(), 0U);
  }

  ExporterSet set_{kQuick};
  ExportStatus status_;
};

TEST_F(ExporterSetTest, SendsEachWorkloadsSpansToItsBackend) {
  const ScriptedHttpServer http([](const ServedRequest&) { return Respond(200); });
  const ScriptedHttp2Server grpc([](const ServedCall&) { return GrpcOk(); });
  const ScriptedHttpServer zipkin([](const ServedRequest&) { return Respond(202); });
  ASSERT_TRUE(
      set_.SetRoutes({.exporters = {{"http", CollectorAt(http.url())},
                                    {"grpc", CollectorAt(grpc.url(), CollectorKind::kOtlpGrpc)},
                                    {"zipkin", CollectorAt(zipkin.url("/api/v2/spans"),
                                                           CollectorKind::kZipkin)}},
                      .by_workload = {{model::LocalId{1}, 0},
                                      {model::LocalId{2}, 1},
                                      {model::LocalId{3}, 2}},
                      .fallback = std::nullopt})
          .has_value());
  set_.Consume({RequestOf(1), RequestOf(2), RequestOf(2), RequestOf(3), RequestOf(3), RequestOf(3),
                RequestOf(4)});
  WaitUntilDrained();
  EXPECT_EQ(Named("http").exported, 1U);
  EXPECT_EQ(Named("grpc").exported, 2U);
  EXPECT_EQ(Named("zipkin").exported, 3U);
  EXPECT_EQ(set_.status().kept, 1U);
  EXPECT_EQ(CountSpans(http.requests().at(0).body), 1U);
  EXPECT_EQ(CountSpans(grpc.calls().at(0).Message()), 2U);
  EXPECT_EQ(zipkin.requests().at(0).Field("content-type"), "application/json");
}

TEST_F(ExporterSetTest, FollowsChangedRoutes) {
  const ScriptedHttpServer first([](const ServedRequest&) { return Respond(200); });
  const ScriptedHttpServer second([](const ServedRequest&) { return Respond(200); });
  const NamedExporter a{"a", CollectorAt(first.url())};
  const NamedExporter b{"b", CollectorAt(second.url())};
  ASSERT_TRUE(set_.SetRoutes({.exporters = {a}, .by_workload = {}, .fallback = 0}).has_value());
  set_.Consume({RequestOf(1)});
  WaitUntilDrained();
  ASSERT_TRUE(
      set_.SetRoutes({.exporters = {b, a}, .by_workload = {{model::LocalId{1}, 0}}, .fallback = 1})
          .has_value());
  set_.Consume({RequestOf(1), RequestOf(2)});
  WaitUntilDrained();
  EXPECT_EQ(Named("a").exported, 2U);
  EXPECT_EQ(Named("b").exported, 1U);
  EXPECT_EQ(first.connections(), 1);  // it went on as it was
}

TEST_F(ExporterSetTest, ADeadBackendTakesOnlyItsShareOfTheQueue) {
  const ScriptedHttpServer dead([](const ServedRequest&) {
    return ServedReply{.pieces = {}, .then = ServedReply::Then::kHold};
  });
  const ScriptedHttpServer alive([](const ServedRequest&) { return Respond(200); });
  ExporterOptions options = kQuick;
  options.queue_limit_bytes = 100'000;
  ExporterSet set(options);
  ASSERT_TRUE(set.SetRoutes({.exporters = {{"dead", CollectorAt(dead.url())},
                                           {"alive", CollectorAt(alive.url())}},
                             .by_workload = {{model::LocalId{1}, 0}},
                             .fallback = 1})
                  .has_value());
  for (int i = 0; i < 200; ++i) {
    set.Consume(std::vector<Record>(5, RequestOf(1)));
    EXPECT_LE(set.status().exporters.at(0).queue_bytes, 50'000U);
  }
  set.Consume({RequestOf(2)});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (set.status().exporters.at(1).exported == 0 &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_EQ(set.status().exporters.at(1).exported, 1U);
  EXPECT_GT(Dropped(set.status().exporters.at(0), ExportDrop::kQueueFull), 0U);
  set.Stop(milliseconds(0));
  const ExportStatus status = set.status();
  EXPECT_EQ(status.retired.offered, 1001U);
  EXPECT_EQ(status.retired.offered, status.exported() + status.dropped());
}

}  // namespace
}  // namespace weir::telemetry
