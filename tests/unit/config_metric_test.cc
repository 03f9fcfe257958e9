#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "agent/config/builder.h"
#include "agent/config/documents.h"
#include "tests/unit/config_support.h"

namespace weir::config {
namespace {

// Two local workloads, `a` and `b`, and MeshMetric documents.
class ConfigMetricTest : public testing::Test {
 protected:
  ConfigMetricTest() {
    agent_.node_name = "node-a";
    agent_.trust_domain = "mesh.local";
    agent_.workloads = {LocalAt("a", "a"), LocalAt("b", "b")};
  }

  const BuildResult& Build(std::string_view policies) {
    Diagnostics diagnostics;
    const auto documents =
        ParseText(DataplaneText("a", "198.18.0.1", "app: a") +
                      DataplaneText("b", "198.18.0.2", "app: b") + std::string(policies),
                  diagnostics);
    result_ = SnapshotBuilder().Build(agent_, documents, {"a", "b"});
    diagnostics.Append(result_.diagnostics);
    result_.diagnostics = diagnostics;
    return result_;
  }
  // A MeshMetric of `target` with the fields of `body` below `default`.
  static std::string Metric(const std::string& name, const std::string& target,
                            const std::string& body) {
    return "---\ntype: MeshMetric\nname: " + name + "\nspec:\n  targetRef: " + target +
           "\n  default: {" + body + "}\n";
  }
  static bool Has(const std::vector<Diagnostic>& list, std::string_view text) {
    return std::ranges::any_of(
        list, [&](const Diagnostic& one) { return one.text.contains(text) && one.place.line > 0; });
  }
  bool IsRefused(const std::string& body, std::string_view text) {
    return Has(Build(Metric("m", "{kind: Mesh}", body)).diagnostics.Errors(), text);
  }

  AgentConfig agent_;
  BuildResult result_;
};

TEST_F(ConfigMetricTest, ReadsBothKindsOfBackends) {
  const auto& result = Build(
      "---\ntype: MeshOpenTelemetryBackend\nname: c\nlabels: {x: y}\nspec:\n"
      "  endpoint: {address: 198.18.0.9, port: 4318}\n  protocol: http\n" +
      Metric("m", "{kind: Mesh}",
             "sidecar: {profiles: {appendProfiles: [{name: Basic}], exclude: [{type: Regex, "
             "match: '^weir_(a|b)'}], include: [{type: Prefix, match: weir_t}]}}, backends: ["
             "{type: Prometheus, prometheus: {port: 5671, path: /m, tls: {mode: Disabled}}}, "
             "{type: OpenTelemetry, openTelemetry: {refreshInterval: 15s, backendRef: {kind: "
             "MeshOpenTelemetryBackend, labels: {x: y}}}}, "
             "{type: OpenTelemetry, openTelemetry: {endpoint: 'collector:4317'}}]") +
      std::string(kEverybodyMay));
  ASSERT_TRUE(result.diagnostics.ok()) << ToText(result.diagnostics.all());
  ASSERT_EQ(result.metrics_ports.size(), 1U);  // once for the node, not for each workload
  EXPECT_EQ(result.metrics_ports[0].port, 5671);
  EXPECT_EQ(result.metrics_ports[0].path, "/m");
  EXPECT_TRUE(result.metrics_ports[0].filter.Admits("weir_tunnels", false));
  EXPECT_FALSE(result.metrics_ports[0].filter.Admits("weir_bytes", true));
  ASSERT_EQ(result.metrics_pushes.size(), 2U);
  EXPECT_EQ(result.metrics_pushes[0].backend,
            (TelemetryBackend{.name = "MeshOpenTelemetryBackend/c",
                              .kind = BackendKind::kOtlpHttp,
                              .url = "http://198.18.0.9:4318",
                              .env = {.is_first = true}}));
  EXPECT_EQ(result.metrics_pushes[0].interval, std::chrono::seconds(15));
  EXPECT_EQ(result.metrics_pushes[1].interval, std::chrono::seconds(60));
  EXPECT_TRUE(result.diagnostics.Warnings().empty()) << ToText(result.diagnostics.all());
}

TEST_F(ConfigMetricTest, HasKumasDefaults) {
  const auto& result = Build(Metric("m", "{kind: Mesh}", "backends: [{type: Prometheus}]"));
  ASSERT_EQ(result.metrics_ports.size(), 1U);
  EXPECT_EQ(result.metrics_ports[0].port, 5670);
  EXPECT_EQ(result.metrics_ports[0].path, "/metrics");
  EXPECT_TRUE(result.metrics_ports[0].filter.Admits("weir_anything", false));
  EXPECT_TRUE(Build("").metrics_ports.empty());
}

TEST_F(ConfigMetricTest, AppendsProfilesOfWeakerDocuments) {
  Build(Metric("all", "{kind: Mesh}",
               "sidecar: {profiles: {appendProfiles: [{name: None}]}}, "
               "backends: [{type: Prometheus}]") +
        Metric("more", "{kind: Dataplane, labels: {app: a}}",
               "sidecar: {profiles: {appendProfiles: [{name: Basic}]}}"));
  ASSERT_EQ(result_.metrics_ports.size(), 1U);
  EXPECT_EQ(result_.metrics_ports[0].filter.selection().profiles,
            (std::vector{model::MetricProfile::kNone, model::MetricProfile::kBasic}));
}

TEST_F(ConfigMetricTest, WarnsOfWhatContradictsItself) {
  const auto& result = Build(Metric("one", "{kind: Dataplane, labels: {app: a}}",
                                    "backends: [{type: Prometheus, prometheus: {path: /a}}]") +
                             Metric("two", "{kind: Dataplane, labels: {app: b}}",
                                    "backends: [{type: Prometheus, prometheus: {path: /b}}]"));
  ASSERT_EQ(result.metrics_ports.size(), 1U);
  EXPECT_EQ(result.metrics_ports[0].path, "/a");
  EXPECT_TRUE(Has(result.diagnostics.Warnings(), "port 5670 of MeshMetric"));
}

TEST_F(ConfigMetricTest, WarnsOfWhatItDoesNotActOn) {
  const auto& result =
      Build(Metric("m", "{kind: Mesh}",
                   "sidecar: {includeUnused: true}, applications: [{name: x, port: 80}], "
                   "backends: [{type: Prometheus, prometheus: {clientId: x, tls: {mode: "
                   "ProvidedTLS}}}]"));
  ASSERT_TRUE(result.diagnostics.ok()) << ToText(result.diagnostics.all());
  EXPECT_TRUE(result.metrics_ports.empty());
  for (const std::string_view text : {"includeUnused", "applications", "clientId", "ProvidedTLS"}) {
    EXPECT_TRUE(Has(result.diagnostics.Warnings(), text)) << text;
  }
}

TEST_F(ConfigMetricTest, RefusesWithItsPlace) {
  const auto prometheus = [](const std::string& text) {
    return "backends: [{type: Prometheus, prometheus: {" + text + "}}]";
  };
  const auto selectors = [](const std::string& text) {
    return "sidecar: {profiles: {exclude: [" + text + "]}}";
  };
  EXPECT_TRUE(IsRefused(prometheus("port: 0"), "port"));
  EXPECT_TRUE(IsRefused(prometheus("path: metrics"), "must begin with '/'"));
  EXPECT_TRUE(IsRefused(prometheus("prot: 1"), "prot\""));
  EXPECT_TRUE(IsRefused(prometheus("tls: {mode: Maybe}"), "Disabled"));
  EXPECT_TRUE(IsRefused(selectors("{type: Regex, match: '('}"), "missing )"));
  EXPECT_TRUE(IsRefused(selectors("{type: Sufix, match: x}"), "Prefix"));
  EXPECT_TRUE(IsRefused(selectors("{type: Exact}"), "match"));
  EXPECT_TRUE(IsRefused("sidecar: {profiles: {appendProfiles: [{name: Some}]}}", "Basic"));
  EXPECT_TRUE(IsRefused("backends: [{type: Graphite}]", "Prometheus"));
  EXPECT_TRUE(
      IsRefused("backends: [{type: OpenTelemetry, openTelemetry: {endpoint: c, "
                "refreshInterval: 10ms}}]",
                "refreshInterval"));
  EXPECT_TRUE(
      IsRefused("backends: [{type: OpenTelemetry, openTelemetry: {backendRef: {kind: "
                "MeshOpenTelemetryBackend, name: none}}}]",
                "no MeshOpenTelemetryBackend"));
  EXPECT_TRUE(
      Has(Build("---\ntype: MeshMetric\nname: m\nspec: {}\n").diagnostics.Errors(), "default"));
}

}  // namespace
}  // namespace weir::config
