#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "agent/config/builder.h"
#include "agent/config/documents.h"
#include "tests/unit/config_support.h"

namespace weir::config {
namespace {

// One local workload `a`, and MeshAccessLog documents.
class ConfigAccessLogTest : public testing::Test {
 protected:
  ConfigAccessLogTest() {
    agent_.node_name = "node-a";
    agent_.trust_domain = "mesh.local";
    agent_.workloads = {LocalAt("a", "a")};
  }

  const BuildResult& Build(std::string_view policies) {
    Diagnostics diagnostics;
    const auto documents = ParseText(
        DataplaneText("a", "198.18.0.1", "app: a") + "---\n" + std::string(policies), diagnostics);
    result_ = SnapshotBuilder().Build(agent_, documents, {"a"});
    diagnostics.Append(result_.diagnostics);
    result_.diagnostics = diagnostics;
    return result_;
  }
  // What the only workload has; the build must be good.
  model::WorkloadLogs Logs(std::string_view policies) {
    Build(policies);
    EXPECT_TRUE(result_.diagnostics.ok()) << ToText(result_.diagnostics.all());
    return result_.access_logs->empty() ? model::WorkloadLogs()
                                        : result_.access_logs->begin()->second;
  }
  // Whether one of the errors has `text` in it and stands at `line`, if that is not 0.
  bool IsRefused(std::string_view policies, std::string_view text) {
    const auto errors = Build(policies).diagnostics.Errors();
    return std::ranges::any_of(errors, [&](const Diagnostic& one) {
      return one.text.find(text) != std::string::npos && one.place.line > 0;
    });
  }
  static std::string ToFile(std::string_view file) {
    return "type: MeshAccessLog\nname: log\nspec:\n  to:\n  - targetRef: {kind: Mesh}\n"
           "    default: {backends: [{type: File, file: " +
           std::string(file) + "}]}\n";
  }

  AgentConfig agent_;
  BuildResult result_;
};

TEST_F(ConfigAccessLogTest, ReadsTheFormOf2x) {
  const auto logs = Logs(R"(
type: MeshAccessLog
name: log
mesh: default
spec:
  targetRef: {kind: Mesh}
  from:
  - targetRef: {kind: Mesh}
    default: {backends: [{type: File, file: {path: /var/log/weir/in.log}}]}
  to:
  - targetRef: {kind: Mesh}
    default:
      backends:
      - type: File
        file:
          path: /dev/stdout
          format: {type: Json, omitEmptyValues: true, json: [{key: code, value: "%RESPONSE_CODE%"}]}
)");
  ASSERT_EQ(logs.inbound.size(), 1U);
  EXPECT_EQ(logs.inbound[0].backends.at(0).target, "/var/log/weir/in.log");
  EXPECT_EQ(logs.inbound[0].backends[0].request.plain.pieces.at(2).text, "] default \"");
  ASSERT_EQ(logs.outbound.size(), 1U);
  const model::LogFormat& format = logs.outbound[0].backends.at(0).request;
  EXPECT_TRUE(format.is_json && format.omit_empty);
  EXPECT_EQ(format.fields.at(0).first, "code");
}

TEST_F(ConfigAccessLogTest, ReadsTheFormOf3WhereEveryRuleCounts) {
  const auto logs = Logs(R"(
type: MeshAccessLog
name: one
spec:
  targetRef: {kind: Dataplane, labels: {app: a}}
  rules:
  - matches: [{spiffeID: {type: Prefix, value: "spiffe://mesh.local/ns/"}}, {sni: {type: Exact, value: x}}]
    default: {backends: [{type: File, file: {path: /var/log/weir/a}}]}
  - matches: [{sni: {type: Exact, value: x}}]
    default: {backends: [{type: File, file: {path: /var/log/weir/never}}]}
---
type: MeshAccessLog
name: two
spec:
  rules:
  - default: {backends: [{type: Tcp, tcp: {address: "198.18.0.9:5000"}}]}
)");
  ASSERT_EQ(logs.inbound.size(), 2U);
  const auto has_match = [](const model::LogRule& rule) { return !rule.matches.empty(); };
  EXPECT_EQ(std::ranges::count_if(logs.inbound, has_match), 1);
  EXPECT_TRUE(logs.outbound.empty());
  const auto is_tcp = [](const model::LogRule& rule) {
    return rule.backends.at(0).sink == model::LogSink::kTcp;
  };
  const auto tcp = std::ranges::find_if(logs.inbound, is_tcp);
  ASSERT_NE(tcp, logs.inbound.end());
  EXPECT_EQ(tcp->backends[0].target, "tcp://198.18.0.9:5000");
  EXPECT_FALSE(tcp->backends[0].request.plain.pieces.empty());
}

TEST_F(ConfigAccessLogTest, ReadsOpenTelemetryInBothGenerations) {
  const auto logs = Logs(R"(
type: MeshOpenTelemetryBackend
name: main
labels: {collector: x}
spec: {endpoint: {address: 198.18.0.9, port: 4318}, protocol: http}
---
type: MeshAccessLog
name: log
spec:
  rules:
  - default:
      backends:
      - type: OpenTelemetry
        openTelemetry:
          backendRef: {kind: MeshOpenTelemetryBackend, labels: {collector: x}}
          attributes: [{key: start_time, value: "%START_TIME%"}]
          body:
            kvlistValue:
              values:
              - {key: mesh, value: {stringValue: "%KUMA_MESH%"}}
              - {key: list, value: {arrayValue: {values: [{intValue: "7"}, {boolValue: true}, {doubleValue: 0.5}]}}}
  to:
  - targetRef: {kind: Mesh}
    default: {backends: [{type: OpenTelemetry, openTelemetry: {endpoint: "otel:4317"}},
                         {type: OpenTelemetry, openTelemetry: {endpoint: "otel:4317", body: "%PROTOCOL%"}}]}
)");
  ASSERT_EQ(result_.log_backends.size(), 2U);
  EXPECT_EQ(result_.log_backends[0].name, "MeshOpenTelemetryBackend/main");
  EXPECT_EQ(result_.log_backends[1].url, "http://otel:4317");
  const model::LogBackend& in = logs.inbound.at(0).backends.at(0);
  EXPECT_EQ(in.sink, model::LogSink::kOtlp);
  EXPECT_EQ(in.target, "MeshOpenTelemetryBackend/main");
  EXPECT_EQ(in.attributes.at(0).first, "start_time");
  ASSERT_EQ(in.request_body.keys, (std::vector<std::string>{"mesh", "list"}));
  EXPECT_EQ(in.request_body.values[0].text.pieces.at(0).text, "default");
  EXPECT_EQ(in.request_body.values[1].values.at(0).number, 7);
  EXPECT_TRUE(in.request_body.values[1].values.at(1).flag);
  EXPECT_EQ(in.request_body.values[1].values.at(2).real, 0.5);
  const auto& out = logs.outbound.at(0).backends;
  EXPECT_EQ(out.at(0).target, "http://otel:4317");
  EXPECT_NE(out.at(0).request_body.text.pieces.size(),
            out.at(0).connection_body.text.pieces.size());
  EXPECT_EQ(out.at(1).request_body.text.pieces.size(), 1U);
}

TEST_F(ConfigAccessLogTest, TakesTheStrongestDocumentsBackends) {
  const auto logs = Logs(ToFile("{path: /var/log/weir/weak}") + R"(---
type: MeshAccessLog
name: strong
spec:
  targetRef: {kind: Dataplane, labels: {app: a}}
  to: [{targetRef: {kind: Mesh}, default: {backends: []}}]
)");
  ASSERT_EQ(logs.outbound.size(), 1U);
  EXPECT_TRUE(logs.outbound[0].backends.empty());
}

TEST_F(ConfigAccessLogTest, RefusesWithItsPlace) {
  const auto format = [](std::string_view text) {
    return ToFile("{path: /dev/stdout, format: " + std::string(text) + "}");
  };
  EXPECT_TRUE(IsRefused(format("{type: Plain, plain: \"%DURATOIN%\"}"), "%DURATOIN%"));
  EXPECT_TRUE(IsRefused(format("{type: Json, json: [{key: a, value: \"%X%\"}]}"), "%X%"));
  EXPECT_TRUE(IsRefused(format("{type: Json, json: []}"), "1 to 64"));
  EXPECT_TRUE(IsRefused(format("{type: Xml}"), "Plain or Json"));
  EXPECT_TRUE(IsRefused(ToFile("{path: /etc/passwd}"), "must be below /var/log/weir"));
  EXPECT_TRUE(IsRefused(ToFile("{path: /var/log/weir/../x}"), "without \"..\""));
  EXPECT_TRUE(IsRefused(ToFile("{pat: /dev/stdout}"), "pat\""));
  const auto backend = [](const std::string& text) {
    return "type: MeshAccessLog\nname: log\nspec:\n  to:\n  - targetRef: {kind: Mesh}\n"
           "    default: {backends: [" +
           text + "]}\n";
  };
  const auto otlp = [&](const std::string& text) {
    return backend("{type: OpenTelemetry, openTelemetry: {endpoint: c, " + text + "}}");
  };
  EXPECT_TRUE(IsRefused(backend("{type: Tcp, tcp: {address: host}}"), "must be HOST:PORT"));
  EXPECT_TRUE(IsRefused(backend("{type: Tcp, tcp: {address: \"h:70000\"}}"), "must be HOST:PORT"));
  EXPECT_TRUE(IsRefused(backend("{type: Tcp, tcp: {}}"), "address"));
  EXPECT_TRUE(IsRefused(backend("{type: OpenTelemetry, openTelemetry: {}}"), "backendRef"));
  EXPECT_TRUE(IsRefused(otlp("body: \"%NOPE%\""), "%NOPE%"));
  EXPECT_TRUE(IsRefused(otlp("body: {stringValue: \"%NOPE%\"}"), "%NOPE%"));
  EXPECT_TRUE(IsRefused(otlp("body: {mesh: x}"), "mesh"));
  EXPECT_TRUE(IsRefused(otlp("body: {intValue: x}"), "must be a number"));
  EXPECT_TRUE(IsRefused(otlp("body: [a]"), "must be one of stringValue"));
  for (const std::string key : {"A", "1a", "a.", "a..b", "_a", "a-b"}) {
    EXPECT_TRUE(IsRefused(otlp("attributes: [{key: " + key + ", value: x}]"), "lower-case")) << key;
  }
  EXPECT_TRUE(IsRefused(otlp("attributes: [{key: a}]"), "value"));
  std::string deep = "{stringValue: x}";
  for (std::size_t i = 0; i < model::kMaxLogValueDepth; ++i) {
    deep.insert(0, "{arrayValue: {values: [").append("]}}");
  }
  EXPECT_TRUE(IsRefused(otlp("body: " + deep), "deep"));
  EXPECT_TRUE(IsRefused("type: MeshAccessLog\nname: log\nspec: {}\n", "needs \"rules\""));
  EXPECT_TRUE(IsRefused(
      "type: MeshAccessLog\nname: log\nspec:\n  to: [{targetRef: {kind: Mesh}}]\n", "default"));
}

}  // namespace
}  // namespace weir::config
