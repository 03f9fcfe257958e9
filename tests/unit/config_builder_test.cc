#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "agent/config/builder.h"
#include "agent/config/check.h"
#include "tests/unit/config_support.h"

namespace weir::config {
namespace {

constexpr std::string_view kExample = WEIR_SOURCE_DIR "/deploy/examples/crm";

class BuilderTest : public testing::Test {
 protected:
  BuilderTest() {
    agent_.node_name = "node-a";
    agent_.trust_domain = "mesh.local";
  }

  BuildResult Build(std::string_view text, const std::set<std::string>& present = {}) {
    Diagnostics diagnostics;
    const DocumentSet documents = ParseText(
        text.empty() ? std::string() : std::string(text) + std::string(kEverybodyMay), diagnostics);
    EXPECT_TRUE(diagnostics.ok()) << ToText(diagnostics.all());
    return builder_.Build(agent_, documents, present);
  }

  AgentConfig agent_;
  SnapshotBuilder builder_;
};

TEST_F(BuilderTest, ExampleMeshBuildsOnBothNodes) {
  Diagnostics diagnostics;
  const DocumentSet documents = ParseDocuments(
      ReadDocumentFiles(std::string(kExample) + "/mesh.d", diagnostics), diagnostics);
  for (const char* node : {"node-a", "node-b"}) {
    const AgentConfig agent =
        LoadAgentConfig(std::string(kExample) + "/" + node + ".yaml", diagnostics);
    std::set<std::string> present;
    for (const WorkloadConfig& workload : agent.workloads) {
      present.insert(workload.display_name());
    }
    const BuildResult result = SnapshotBuilder().Build(agent, documents, present);
    diagnostics.Append(result.diagnostics);
    EXPECT_TRUE(diagnostics.all().empty()) << ToText(diagnostics.all());
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result.snapshot->workloads().size(), 6U);
    EXPECT_EQ(result.snapshot->locals().size(), agent.workloads.size());
    ASSERT_EQ(result.trace_backends.size(), 1U);
    EXPECT_EQ(result.trace_backends[0].url, "http://198.18.9.9:4318");
  }
}

TEST_F(BuilderTest, SnapshotSaysWhoLivesWhere) {
  agent_.workloads = {LocalAt("one", "x")};
  agent_.mesh_ranges = {base::Cidr::Parse("198.18.0.0/15").value()};
  const BuildResult result =
      Build(DataplaneText("one", "198.18.0.1", "app.kubernetes.io/name: uno") +
                DataplaneText("two", "198.18.0.2"),
            {"one"});
  ASSERT_TRUE(result.ok()) << ToText(result.diagnostics.all());
  const model::Snapshot& snapshot = *result.snapshot;
  EXPECT_EQ(snapshot.trust_domain(), "mesh.local");
  EXPECT_EQ(snapshot.node_name(), "node-a");
  ASSERT_EQ(snapshot.workloads().size(), 2U);
  const auto* two = snapshot.FindByAddress(base::Endpoint::Parse("198.18.0.2:80").value());
  ASSERT_NE(two, nullptr);
  EXPECT_EQ(two->identity.uri(), "spiffe://mesh.local/workload/two");
  ASSERT_EQ(snapshot.locals().size(), 1U);
  EXPECT_EQ(snapshot.locals()[0]->resource.service_name, "uno");
  EXPECT_EQ(snapshot.locals()[0]->on_agent_down, model::OnAgentDown::kClosed);
}

TEST_F(BuilderTest, IdsAreStableByNameAndNeverReused) {
  agent_.workloads = {LocalAt("one", "x"), LocalAt("two", "y")};
  const std::string text = DataplaneText("one", "198.18.0.1") + DataplaneText("two", "198.18.0.2");
  const auto id = [](const BuildResult& result, std::size_t index) {
    return result.snapshot->locals().at(index)->id;
  };
  const BuildResult first = Build(text, {"one"});
  const BuildResult both = Build(text, {"one", "two"});
  const BuildResult second = Build(text, {"two"});
  EXPECT_EQ(id(first, 0), id(both, 0));
  EXPECT_EQ(id(second, 0), id(both, 1));
  EXPECT_NE(id(both, 0), id(both, 1));
  EXPECT_NE(id(first, 0), model::LocalId::kNone);
  EXPECT_EQ(builder_.IdOf("one"), id(first, 0));
  EXPECT_GT(second.snapshot->revision(), both.snapshot->revision());
}

TEST_F(BuilderTest, IdentityFollowsLabels) {
  const BuildResult result =
      Build(DataplaneText("pod", "198.18.0.1",
                          "k8s.kuma.io/namespace: crm, k8s.kuma.io/service-account: sa") +
            DataplaneText("vm", "198.18.0.2", "kuma.io/workload: billing") +
            DataplaneText("half", "198.18.0.3", "k8s.kuma.io/namespace: crm"));
  ASSERT_TRUE(result.ok()) << ToText(result.diagnostics.all());
  EXPECT_EQ(result.snapshot->workloads()[0]->identity.uri(), "spiffe://mesh.local/ns/crm/sa/sa");
  EXPECT_EQ(result.snapshot->workloads()[1]->identity.uri(),
            "spiffe://mesh.local/workload/billing");
  EXPECT_EQ(result.snapshot->workloads()[2]->identity.uri(), "spiffe://mesh.local/workload/half");
}

TEST_F(BuilderTest, MeshIdentityWithMostLabelsGivesTheIdentity) {
  const std::string identities = R"(---
type: MeshIdentity
name: all
spec:
  selector: {dataplane: {matchLabels: {}}}
  spiffeID: {trustDomain: "{{ .Mesh }}.example", path: "/w/{{ .Workload }}"}
---
type: MeshIdentity
name: some
spec:
  selector: {dataplane: {matchLabels: {tier: x}}}
  spiffeID: {path: '/t/{{ label "tier" }}'}
---
type: MeshTrust
name: t
spec:
  trustDomain: default.example
  caBundles:
  - type: Pem
    pem:
      value: |
        -----BEGIN CERTIFICATE-----
        AAAA
        -----END CERTIFICATE-----
)";
  const BuildResult result = Build(identities + DataplaneText("one", "198.18.0.1") +
                                   DataplaneText("two", "198.18.0.2", "tier: x"));
  ASSERT_TRUE(result.ok()) << ToText(result.diagnostics.all());
  EXPECT_EQ(result.snapshot->workloads()[0]->identity.uri(), "spiffe://default.example/w/one");
  EXPECT_EQ(result.snapshot->workloads()[1]->identity.uri(), "spiffe://mesh.local/t/x");
  ASSERT_TRUE(result.extra_bundles.contains("default.example"));
  EXPECT_TRUE(result.extra_bundles.at("default.example").contains("BEGIN CERTIFICATE"));
  EXPECT_TRUE(result.diagnostics.all().empty()) << ToText(result.diagnostics.all());
}

TEST_F(BuilderTest, TemplateThatCannotBeFilledInIsAnErrorAtTheWorkload) {
  for (const char* path : {"/{{ .Zone }}", "/{{ .Nmae }}", "/{{ .Mesh", "/a b"}) {
    const BuildResult result =
        Build(std::string("type: MeshIdentity\nname: i\nspec:\n"
                          "  selector: {dataplane: {matchLabels: {}}}\n  spiffeID: {path: '") +
              path + "'}\n" + DataplaneText("one", "198.18.0.1"));
    EXPECT_FALSE(result.ok()) << path;
    EXPECT_EQ(result.diagnostics.error_count(), 1U) << path;
  }
}

TEST_F(BuilderTest, ForeignTrustDomainWithoutBundleIsWarnedOf) {
  const BuildResult result = Build(
      "type: MeshIdentity\nname: i\nspec:\n  selector: {dataplane: {matchLabels: {}}}\n"
      "  spiffeID: {trustDomain: other}\n" +
      DataplaneText("one", "198.18.0.1"));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.diagnostics.Warnings().size(), 1U);
}

TEST_F(BuilderTest, AgentYamlAndDataplaneMustAgree) {
  agent_.workloads = {LocalAt("one", "x")};
  EXPECT_FALSE(Build("---\ntype: Dataplane\nname: one\nlabels: {weir.io/node: node-b}\n"
                     "networking: {address: 198.18.0.1}\n")
                   .ok());
  agent_.workloads = {LocalAt("crm/one", "x")};
  agent_.workloads[0].service_account = "right";
  const auto with_account = [](const std::string& account) {
    return DataplaneText("one", "198.18.0.1",
                         "k8s.kuma.io/namespace: crm, k8s.kuma.io/service-account: " + account);
  };
  EXPECT_FALSE(Build(with_account("wrong")).ok());
  EXPECT_TRUE(Build(with_account("right")).ok());
  EXPECT_FALSE(Build("type: MeshIdentity\nname: i\nspec:\n"
                     "  selector: {dataplane: {matchLabels: {}}}\n"
                     "  spiffeID: {trustDomain: other}\n" +
                     with_account("right"))
                   .ok());
}

TEST_F(BuilderTest, LocalWorkloadWithoutLabelLivesHere) {
  agent_.workloads = {LocalAt("one", "x")};
  const BuildResult result = Build(
      "---\ntype: Dataplane\nname: one\nnetworking: {address: 198.18.0.1}\n---\n"
      "type: Dataplane\nname: two\nnetworking: {address: 198.18.0.2}\n",
      {"one"});
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.snapshot->locals()[0]->workload->node, "node-a");
  EXPECT_EQ(result.diagnostics.Warnings().size(), 1U);  // for the other one
}

TEST_F(BuilderTest, LocalWorkloadThatNoDocumentNamesStaysEnrolledAndStrict) {
  agent_.workloads = {LocalAt("crm/one", "x")};
  agent_.workloads[0].service_account = "sa";
  const BuildResult result = Build("", {"crm/one"});
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result.snapshot->locals().size(), 1U);
  const model::LocalWorkload& local = *result.snapshot->locals()[0];
  EXPECT_EQ(local.workload->identity.uri(), "spiffe://mesh.local/ns/crm/sa/sa");
  EXPECT_EQ(local.tls_mode, model::TlsMode::kStrict);
  EXPECT_EQ(result.diagnostics.Warnings().size(), 1U);
  EXPECT_EQ(result.snapshot->workloads().size(), 1U);
}

TEST_F(BuilderTest, OnAgentDownComesFromTheLabelAndAgentYamlOverridesIt) {
  agent_.workloads = {LocalAt("one", "x")};
  const std::string text = DataplaneText("one", "198.18.0.1", "weir.io/on-agent-down: open");
  EXPECT_EQ(Build(text, {"one"}).snapshot->locals()[0]->on_agent_down, model::OnAgentDown::kOpen);
  agent_.workloads[0].on_agent_down = model::OnAgentDown::kClosed;
  EXPECT_EQ(Build(text, {"one"}).snapshot->locals()[0]->on_agent_down, model::OnAgentDown::kClosed);
}

TEST_F(BuilderTest, BackendRefWithoutBackendIsAnError) {
  agent_.workloads = {LocalAt("one", "x")};
  const BuildResult result = Build(
      "type: MeshTrace\nname: t\nspec:\n  default:\n    backends:\n    - type: OpenTelemetry\n"
      "      openTelemetry: {backendRef: {kind: MeshOpenTelemetryBackend, name: gone}}\n" +
      DataplaneText("one", "198.18.0.1"));
  EXPECT_FALSE(result.ok());
  EXPECT_TRUE(Says(result.diagnostics, Severity::kError, 1, "refers to"));
}

TEST(CheckTest, ExampleIsFine) {
  const CheckReport report =
      CheckDirectory(std::string(kExample) + "/mesh.d", std::string(kExample) + "/node-a.yaml");
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.ToText(), "17 documents, 6 workloads, 5 permission documents (5 rules): ok\n");
  EXPECT_TRUE(CheckDirectory(std::string(kExample) + "/mesh.d").ok());
}

TEST(CheckTest, SaysFileLineAndReasonOfEveryFault) {
  const TemporaryDirectory directory;
  directory.Write("a.yaml", "type: MeshTLS\nname: a\nspec:\n  fron: []\n");
  directory.Write("agent.yaml.txt", "trustDomain: x\nworkes: 1\nmeshRanges: [198.18.0.0/15]\n");
  const CheckReport report = CheckDirectory(directory.path(), directory.File("agent.yaml.txt"));
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(report.ToText(),
            directory.File("agent.yaml.txt") +
                ":2: error: unknown field \"workes\" in agent.yaml, did you mean \"workers\"\n"
                "a.yaml:4: error: MeshTLS needs \"rules\" (or, in the 2.x form, \"from\")\n"
                "a.yaml:4: error: unknown field \"fron\" in spec of MeshTLS, did you mean "
                "\"from\"\n"
                "1 document, 0 workloads: 3 errors\n");
}

TEST(CheckTest, MissingDirectoryIsAnError) {
  EXPECT_FALSE(CheckDirectory("/nonexistent").ok());
}

}  // namespace
}  // namespace weir::config
