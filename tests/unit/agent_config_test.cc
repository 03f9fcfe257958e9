#include "agent/config/agent_config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "agent/base/file.h"
#include "tests/unit/config_support.h"

namespace weir::config {
namespace {

constexpr std::string_view kLeast = "trustDomain: mesh.local\nmeshRanges: [198.18.0.0/15]\n";

AgentConfig Parse(const std::string& text, Diagnostics& diagnostics) {
  return ParseAgentConfig(text, "agent.yaml", diagnostics);
}

// The default file as it is installed, and with every commented key in force.
std::string DefaultFile(bool uncommented) {
  const auto text = base::ReadFile(WEIR_SOURCE_DIR "/deploy/systemd/agent.yaml", 1U << 20U);
  EXPECT_TRUE(text.has_value());
  if (!uncommented) {
    return *text;
  }
  std::string all;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    const bool is_key = line.size() > 1 && line[0] == '#' && line[1] != ' ';
    const bool is_nested = line.starts_with("#  ");
    all += (is_key || is_nested ? line.substr(1) : line) + "\n";
  }
  return all;
}

TEST(AgentConfigTest, InstalledFileHasTheDefaults) {
  Diagnostics diagnostics;
  const AgentConfig config = Parse(DefaultFile(false), diagnostics);
  EXPECT_TRUE(diagnostics.ok()) << ToText(diagnostics.all());
  EXPECT_EQ(config.trust_domain, "mesh.local");
  EXPECT_FALSE(config.node_name.empty());
}

TEST(AgentConfigTest, InstalledFileShowsEveryKeyWithItsDefault) {
  Diagnostics diagnostics;
  const AgentConfig shown = Parse(DefaultFile(true), diagnostics);
  ASSERT_TRUE(diagnostics.ok()) << ToText(diagnostics.all());
  const AgentConfig defaults = Parse(DefaultFile(false), diagnostics);
  std::vector<std::string> differing;
  for (const ConfigChange& change : Diff(defaults, shown)) {
    differing.push_back(change.field);
  }
  // What has no default that one could write down.
  EXPECT_EQ(differing,
            (std::vector<std::string>{"node", "cgroupRoot", "metrics.address", "workloads"}));
}

TEST(AgentConfigTest, ReadsEveryKey) {
  Diagnostics diagnostics;
  const AgentConfig config = Parse(R"(
node: node-a
trustDomain: crm.example
meshRanges: [198.18.0.0/15, "fd00:18::/32"]
documents: /d
cgroupRoot: /c
bpffs: /b
runDirectory: /r
stateDirectory: /s
admin: {group: weir, mode: "0600"}
metrics: {address: "127.0.0.1:9464"}
workers: 3
logLevel: debug
ca: {rootBundle: /ca/root, certificate: /ca/cert, key: /ca/key, svidLifetime: 1h30m}
limits:
  connectTimeout: 1s
  tlsHandshakeTimeout: 2s
  requestHeaderTimeout: 3s
  detectTimeoutHinted: 40ms
  detectTimeout: 500ms
  unknownDestinationWait: 0s
  tunnelIdleTimeout: 2m
  tunnelPingInterval: 10s
  maxRequestLine: 8KiB
  maxHeaders: 16384
  maxHeaderCount: 99
  maxConnectionsPerWorkload: 7
  bufferBudget: 1GiB
telemetry:
  otlpEndpoint: http://127.0.0.1:4318
  otlpProtocol: grpc
  queueSize: 2MiB
  traceStoreSpans: 5
  flowStoreRecords: 6
  keepQueryValues: true
  accessLog: /var/log/weir/access.json
  accessLogDirectory: /srv/log
  accessLogMaxSize: 1MiB
  accessLogKeep: 9
  alwaysSample: {errors: true, slowerThan: 250ms}
workloads:
- name: gateway
  namespace: crm
  serviceAccount: gw
  match: {netns: gw}
  onAgentDown: open
  causality: headers
  mode: Permissive
  traces: {boundary: true, formats: [b3, jaeger]}
- {name: redis, match: {unit: redis.service}, runtimeHooks: [node]}
- {name: batch, match: {cgroup: jobs/batch}}
)",
                                   diagnostics);
  ASSERT_TRUE(diagnostics.ok()) << ToText(diagnostics.all());
  EXPECT_EQ(config.node_name, "node-a");
  EXPECT_EQ(config.mesh_ranges.size(), 2U);
  EXPECT_EQ(config.admin.socket_path, "/r/admin.sock");
  EXPECT_EQ(config.admin.mode, 0600U);
  EXPECT_EQ(config.metrics_address->ToString(), "127.0.0.1:9464");
  EXPECT_EQ(config.workers, 3U);
  EXPECT_EQ(config.ca.svid_lifetime, std::chrono::minutes(90));
  EXPECT_EQ(config.limits.connect_timeout, std::chrono::seconds(1));
  EXPECT_EQ(config.limits.unknown_destination_wait, std::chrono::seconds(0));
  EXPECT_EQ(config.limits.max_request_line_bytes, 8192U);
  EXPECT_EQ(config.limits.buffer_budget_bytes, 1ULL << 30U);
  EXPECT_EQ(config.telemetry.queue_bytes, 2U << 20U);
  EXPECT_TRUE(config.telemetry.keep_query_values);
  EXPECT_EQ(config.telemetry.access_log, "/var/log/weir/access.json");
  EXPECT_EQ(config.telemetry.access_log_directory, "/srv/log");
  EXPECT_EQ(config.telemetry.access_log_max_bytes, 1U << 20U);
  EXPECT_EQ(config.telemetry.access_log_keep, 9U);
  EXPECT_TRUE(config.telemetry.tail.errors);
  EXPECT_EQ(config.telemetry.tail.slower_than, std::chrono::milliseconds(250));
  ASSERT_EQ(config.workloads.size(), 3U);
  EXPECT_EQ(config.workloads[0].display_name(), "crm/gateway");
  EXPECT_EQ(config.workloads[0].on_agent_down, model::OnAgentDown::kOpen);
  EXPECT_EQ(config.workloads[0].mode, model::TlsMode::kPermissive);
  EXPECT_EQ(config.workloads[0].causality, model::Causality::kHeaders);
  EXPECT_EQ(config.workloads[1].causality, model::Causality::kInferred);
  EXPECT_EQ(config.workloads[0].runtime_hooks, model::RuntimeHooks{});
  EXPECT_EQ(config.workloads[1].runtime_hooks, (model::RuntimeHooks{.go = false, .node = true}));
  EXPECT_TRUE(config.workloads[0].trace_boundary);
  EXPECT_EQ(config.workloads[0].trace_formats,
            (model::ExtraTraceFormats{.b3 = true, .jaeger = true}));
  EXPECT_FALSE(config.workloads[1].trace_boundary);
  EXPECT_EQ(config.workloads[1].match_kind, MatchKind::kUnit);
  EXPECT_EQ(config.workloads[2].match, "jobs/batch");
}

TEST(AgentConfigTest, ReportsEveryErrorWithItsLineAndNearestName) {
  Diagnostics diagnostics;
  (void)Parse("trustDomian: x\nworkers: many\nlogLevel: inof\nlimits:\n  connectTimeot: 5s\n",
              diagnostics);
  EXPECT_TRUE(Says(diagnostics, Severity::kError, 1, "did you mean \"trustDomain\""));
  EXPECT_TRUE(Says(diagnostics, Severity::kError, 1, "has no \"trustDomain\""));
  EXPECT_TRUE(Says(diagnostics, Severity::kError, 2, "\"workers\" must be a number from 0"));
  EXPECT_TRUE(Says(diagnostics, Severity::kError, 3, "did you mean \"info\""));
  EXPECT_TRUE(Says(diagnostics, Severity::kError, 5, "did you mean \"connectTimeout\""));
  EXPECT_EQ(diagnostics.error_count(), 5U);
}

struct BadValue {
  const char* line;
  const char* says;
};

class AgentConfigValueTest : public testing::TestWithParam<BadValue> {};

TEST_P(AgentConfigValueTest, IsRefusedWithItsReason) {
  Diagnostics diagnostics;
  (void)Parse(std::string(kLeast) + GetParam().line + "\n", diagnostics);
  EXPECT_TRUE(Says(diagnostics, Severity::kError, 3, GetParam().says)) << ToText(diagnostics.all());
  EXPECT_EQ(diagnostics.error_count(), 1U) << ToText(diagnostics.all());
}

INSTANTIATE_TEST_SUITE_P(
    Bad, AgentConfigValueTest,
    testing::Values(
        BadValue{"workers: -1", "must be a number"}, BadValue{"workers: 1025", "from 0 to 1024"},
        BadValue{"workers: '2'", "must be a number"}, BadValue{"node: Node_A!", "lower-case"},
        BadValue{"documents: mesh.d", "absolute path"},
        BadValue{"limits: {connectTimeout: 5}", "duration from 100ms to 5m"},
        BadValue{"limits: {connectTimeout: 99ms}", "duration from 100ms to 5m"},
        BadValue{"limits: {connectTimeout: 5x}", "duration"},
        BadValue{"limits: {connectTimeout: 99999999999999999999s}", "duration"},
        BadValue{"limits: {maxHeaders: 64KB}", "a size from 1KiB to 1MiB"},
        BadValue{"limits: {maxHeaders: 1025KiB}", "a size"},
        BadValue{"limits: {detectTimeoutHinted: 2s}", "not be longer"},
        BadValue{"admin: {mode: '0666'}", "give others nothing"},
        BadValue{"admin: {mode: rw}", "octal"}, BadValue{"admin: []", "must be a map"},
        BadValue{"metrics: {address: ':80'}", "ADDRESS:PORT"},
        BadValue{"ca: {svidLifetime: 25h}", "duration from 10s to 24h"},
        BadValue{"telemetry: {otlpEndpoint: 'collector:4318'}", "URL"},
        BadValue{"telemetry: {otlpProtocol: http/json}", "http/protobuf or grpc"},
        BadValue{"telemetry: {keepQueryValues: 'true'}", "true or false"},
        BadValue{"telemetry: {accessLog: access.json}", "absolute path of a file"},
        BadValue{"telemetry: {accessLog: /var/log/}", "absolute path of a file"},
        BadValue{"telemetry: {accessLogKeep: 0}", "1 to 99"},
        BadValue{"telemetry: {alwaysSample: {error: true}}", "did you mean \"errors\""},
        BadValue{"telemetry: {alwaysSample: {slowerThan: 25h}}", "slowerThan"},
        BadValue{"workloads: [{name: a, match: {netns: a}, traces: {formats: [b4]}}]",
                 "must be b3, b3-multi or jaeger"},
        BadValue{"workloads: {}", "must be a list"},
        BadValue{"workloads: [{match: {netns: a}}]", "has no \"name\""},
        BadValue{"workloads: [{name: a}]", "has no \"match\""},
        BadValue{"workloads: [{name: A, match: {netns: a}}]", "lower-case"},
        BadValue{"workloads: [{name: a, serviceAccount: b, match: {netns: a}}]", "namespace"},
        BadValue{"workloads: [{name: a, match: {netns: a, unit: a.service}}]", "exactly one"},
        BadValue{"workloads: [{name: a, match: {}}]", "exactly one"},
        BadValue{"workloads: [{name: a, match: {netns: ../a}}]", "without \"..\""},
        BadValue{"workloads: [{name: a, match: {netns: x/a}}]", "absolute path, or a name"},
        BadValue{"workloads: [{name: a, match: {unit: redis}}]", "whole name of a unit"},
        BadValue{"workloads: [{name: a, match: {cgroup: /}}]", "whole machine"},
        BadValue{"workloads: [{name: a, match: {netns: a}, mode: strict}]", "\"Strict\""},
        BadValue{"workloads: [{name: a, match: {netns: a}, onAgentDown: shut}]", "closed or open"},
        BadValue{"workloads: [{name: a, match: {netns: a}, causality: on}]",
                 "off, headers or inferred"},
        BadValue{"workloads: [{name: a, match: {netns: a}, runtimeHooks: [java]}]", "go or node"},
        BadValue{"workloads: [{name: a, match: {netns: a}, causality: off, runtimeHooks: [go]}]",
                 "needs causality: inferred"},
        BadValue{"workloads: [{name: a, match: {netns: a}}, {name: a, match: {netns: b}}]",
                 "also at line 3"},
        BadValue{"workloads: [{name: a, match: {netns: a}}, {name: b, match: {netns: a}}]",
                 "matches the same netns"},
        BadValue{"--- {a: 1}", "second document"}));

TEST(AgentConfigTest, WarnsWithoutMeshRanges) {
  Diagnostics diagnostics;
  (void)Parse("trustDomain: a\n", diagnostics);
  EXPECT_TRUE(diagnostics.ok());
  EXPECT_EQ(diagnostics.Warnings().size(), 1U);
}

TEST(AgentConfigTest, MissingFileIsAnErrorThatNamesIt) {
  Diagnostics diagnostics;
  (void)LoadAgentConfig("/nonexistent/agent.yaml", diagnostics);
  ASSERT_EQ(diagnostics.error_count(), 1U);
  EXPECT_TRUE(diagnostics.all()[0].ToString().contains("/nonexistent/agent.yaml"));
}

TEST(AgentConfigTest, DiffTellsWhatNeedsARestart) {
  Diagnostics diagnostics;
  const AgentConfig before = Parse(std::string(kLeast), diagnostics);
  AgentConfig after = before;
  EXPECT_TRUE(Diff(before, after).empty());
  after.workers = 2;
  after.log_level = "debug";
  after.limits.max_header_count = 10;
  after.workloads.push_back(LocalAt("a", "a"));
  const auto changes = Diff(before, after);
  ASSERT_EQ(changes.size(), 4U);
  EXPECT_EQ(changes[0].field, "workers");
  EXPECT_TRUE(changes[0].needs_restart);
  EXPECT_EQ(changes[1].field, "logLevel");
  EXPECT_FALSE(changes[1].needs_restart);
  EXPECT_FALSE(changes[3].needs_restart);

  const AgentConfig applied = Applicable(before, after);
  EXPECT_EQ(applied.workers, before.workers);
  EXPECT_EQ(applied.log_level, "debug");
  EXPECT_EQ(applied.workloads.size(), 1U);
  EXPECT_EQ(Diff(applied, after).size(), 1U);
}

TEST(AgentConfigTest, DiffIgnoresWhereAWorkloadStands) {
  AgentConfig before;
  before.workloads.push_back(LocalAt("a", "a"));
  AgentConfig after = before;
  after.workloads[0].place.line = 9;
  EXPECT_TRUE(Diff(before, after).empty());
}

}  // namespace
}  // namespace weir::config
