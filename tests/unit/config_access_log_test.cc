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
  EXPECT_EQ(logs.inbound[0].backends.at(0).path, "/var/log/weir/in.log");
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
  EXPECT_TRUE(std::ranges::any_of(result_.diagnostics.Warnings(), [](const Diagnostic& one) {
    return one.text.find("Tcp backend is not acted on") != std::string::npos;
  }));
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
  EXPECT_TRUE(IsRefused("type: MeshAccessLog\nname: log\nspec: {}\n", "needs \"rules\""));
  EXPECT_TRUE(IsRefused(
      "type: MeshAccessLog\nname: log\nspec:\n  to: [{targetRef: {kind: Mesh}}]\n", "default"));
}

}  // namespace
}  // namespace weir::config
