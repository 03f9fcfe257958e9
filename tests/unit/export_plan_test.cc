#include "agent/daemon/export_plan.h"

#include <gtest/gtest.h>

#include <map>

namespace weir::daemon {
namespace {

using config::BackendKind;
using model::LocalId;

ExportPlan Plan(const config::BuildResult& result,
                const std::map<std::string, std::string>& variables = {}) {
  return PlanExport(result, [&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

config::BuildResult TwoBackends() {
  config::BuildResult result;
  result.trace_backends = {{.name = "MeshOpenTelemetryBackend/a",
                            .kind = BackendKind::kOtlpGrpc,
                            .url = "http://a:4317",
                            .env = {.is_first = true}},
                           {.name = "http://z/api",
                            .kind = BackendKind::kZipkin,
                            .url = "http://z/api",
                            .short_trace_ids = true}};
  result.trace_routes = {{LocalId{1}, 0}, {LocalId{2}, 1}};
  return result;
}

TEST(ExportPlanTest, FollowsTheDocumentsWithoutVariables) {
  const ExportPlan plan = Plan(TwoBackends());
  EXPECT_TRUE(plan.problems.empty());
  ASSERT_EQ(plan.routes.exporters.size(), 2U);
  EXPECT_EQ(plan.routes.exporters[0].collector.display(), "http://a:4317");
  EXPECT_EQ(plan.routes.exporters[1].collector.kind, telemetry::CollectorKind::kZipkin);
  EXPECT_TRUE(plan.routes.exporters[1].collector.short_trace_ids);
  EXPECT_EQ(plan.routes.by_workload.at(LocalId{2}), 1U);
  EXPECT_FALSE(plan.routes.fallback.has_value());
}

TEST(ExportPlanTest, LetsTheEnvironmentChangeABackendAndTakeTheOthers) {
  const ExportPlan plan = Plan(TwoBackends(), {{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:4318"},
                                               {"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"}});
  ASSERT_EQ(plan.routes.exporters.size(), 3U);
  EXPECT_EQ(plan.routes.exporters[0].name, "MeshOpenTelemetryBackend/a");
  EXPECT_EQ(plan.routes.exporters[0].collector.display(), "http://env:4318/v1/traces");
  EXPECT_EQ(plan.routes.exporters[1].collector.display(), "http://z/api");
  EXPECT_EQ(plan.routes.exporters[2].name, "environment");
  EXPECT_EQ(plan.routes.fallback, 2U);
}

TEST(ExportPlanTest, KeepsTheSpansOfABackendThatCannotBeFollowed) {
  config::BuildResult result = TwoBackends();
  result.trace_backends[0].env.mode = config::EnvironmentUse::Mode::kRequired;
  const ExportPlan plan = Plan(result);
  ASSERT_EQ(plan.problems.size(), 1U);
  EXPECT_NE(plan.problems[0].find("MeshOpenTelemetryBackend/a"), std::string::npos);
  EXPECT_EQ(plan.routes.by_workload.at(LocalId{1}), telemetry::ExportRoutes::kNowhere);
  EXPECT_EQ(plan.routes.by_workload.at(LocalId{2}), 0U);
}

TEST(ExportPlanTest, PutsAgentYamlBeforeTheEnvironment) {
  config::BuildResult result;
  result.trace_backends = {{.name = "agent.yaml", .url = "http://node:4318"}};
  result.trace_fallback = 0;
  const ExportPlan plan = Plan(result, {{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:4318"},
                                        {"OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"}});
  ASSERT_EQ(plan.routes.exporters.size(), 1U);
  EXPECT_EQ(plan.routes.exporters[0].collector.display(), "http://node:4318/v1/traces");
  EXPECT_TRUE(plan.routes.exporters[0].collector.gzip);
  EXPECT_EQ(plan.routes.fallback, 0U);
}

TEST(ExportPlanTest, FindsTheCollectorsOfLogsAndMetrics) {
  config::BuildResult result;
  result.log_backends = {{.name = "http://c:4318", .url = "http://c:4318"},
                         {.name = "MeshOpenTelemetryBackend/b",
                          .kind = BackendKind::kOtlpGrpc,
                          .url = "http://b:4317",
                          .env = {.mode = config::EnvironmentUse::Mode::kRequired}}};
  result.metrics_pushes = {{.backend = {.name = "http://c:4318", .url = "http://c:4318"},
                            .interval = std::chrono::seconds(5),
                            .filter = {}}};
  const ExportPlan plan = Plan(result, {{"OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip"}});
  ASSERT_EQ(plan.logs.size(), 1U);
  EXPECT_EQ(plan.logs[0].collector.display(), "http://c:4318/v1/logs");
  EXPECT_TRUE(plan.logs[0].collector.gzip);
  ASSERT_EQ(plan.metrics.size(), 1U);
  EXPECT_EQ(plan.metrics[0].exporter.collector.display(), "http://c:4318/v1/metrics");
  EXPECT_FALSE(plan.metrics[0].exporter.collector.gzip);
  EXPECT_EQ(plan.metrics[0].interval, std::chrono::seconds(5));
  ASSERT_EQ(plan.problems.size(), 1U);
  EXPECT_NE(plan.problems[0].find("its log records are dropped"), std::string::npos);
}

}  // namespace
}  // namespace weir::daemon
