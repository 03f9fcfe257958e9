// MeshTrafficPermission in both generations: what is refused, whom it is for, who may.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>

#include "agent/config/builder.h"
#include "agent/config/documents.h"
#include "agent/policy/decide.h"
#include "tests/unit/config_support.h"

namespace weir::config {
namespace {

// The workloads a, b and c; c has the inbounds web (80) and 81 with tags of their own.
class PermissionsTest : public testing::Test {
 protected:
  PermissionsTest() {
    agent_.node_name = "node-a";
    agent_.trust_domain = "mesh.local";
    agent_.workloads = {LocalAt("a", "a"), LocalAt("b", "b"), LocalAt("c", "c")};
  }

  void Build(std::string_view policies) {
    Diagnostics diagnostics;
    documents_ = ParseText(DataplaneText("a", "198.18.0.1", "app: a, team: red") +
                               DataplaneText("b", "198.18.0.2", "app: b, team: red") + R"(---
type: Dataplane
name: c
labels: {app: c, weir.io/node: node-a}
networking:
  address: 198.18.0.3
  inbound:
  - {port: 80, name: web, tags: {kuma.io/service: c-web}}
  - {port: 81, tags: {kuma.io/service: c-admin}}
)" + std::string(policies),
                           diagnostics);
    ASSERT_TRUE(diagnostics.ok()) << ToText(diagnostics.all());
    result_ = SnapshotBuilder().Build(agent_, documents_, {"a", "b", "c"});
    ASSERT_TRUE(result_.ok()) << ToText(result_.diagnostics.all());
  }

  // The rule by which `from` may or may not call `to`, with a '+' in front if it may.
  std::string Ask(std::string_view from, std::string_view to, std::uint16_t port = 80) {
    const model::Snapshot& snapshot = *result_.snapshot;
    const auto find = [&](std::string_view name) {
      return std::ranges::find_if(snapshot.locals(),
                                  [&](const auto& local) { return local->workload->name == name; })
          ->get();
    };
    const model::Workload& peer = *find(from)->workload;
    const auto verdict =
        policy::Decide(snapshot, {.identity = &peer.identity, .workload = &peer}, *find(to), port);
    return (verdict.decision == policy::Decision::kAllow ? "+" : "-") + std::string(verdict.rule);
  }
  bool Warns(std::string_view text) {
    return std::ranges::any_of(result_.diagnostics.Warnings(),
                               [&](const Diagnostic& one) { return one.text.contains(text); });
  }

  static std::string Rules(const std::string& name, const std::string& target,
                           const std::string& lists) {
    return "---\ntype: MeshTrafficPermission\nname: " + name + "\nspec:\n" +
           (target.empty() ? "" : "  targetRef: {" + target + "}\n") + "  rules: [{default: {" +
           lists + "}}]\n";
  }
  static std::string From(const std::string& name, const std::string& target,
                          const std::string& items) {
    return "---\ntype: MeshTrafficPermission\nname: " + name + "\nspec:\n" +
           (target.empty() ? "" : "  targetRef: {" + target + "}\n") + "  from:\n" + items;
  }
  static std::string Item(const std::string& peer, const std::string& action) {
    return "  - {targetRef: {" + peer + "}, default: {action: " + action + "}}\n";
  }
  static std::string Id(const std::string& name) {
    return "{spiffeID: {type: Exact, value: spiffe://mesh.local/workload/" + name + "}}";
  }

  AgentConfig agent_;
  DocumentSet documents_;
  BuildResult result_;
};

TEST_F(PermissionsTest, NobodyMayWithoutADocument) {
  Build("");
  EXPECT_EQ(Ask("a", "c"), "-default-deny");
  EXPECT_TRUE(Warns("there is no MeshTrafficPermission"));
}

TEST_F(PermissionsTest, OnlyAAndBMayCallC) {
  Build(
      Rules("c", "kind: Dataplane, labels: {app: c}", "allow: [" + Id("a") + ", " + Id("b") + "]"));
  EXPECT_EQ(Ask("a", "c"), "+c:allow[0]");
  EXPECT_EQ(Ask("b", "c", 81), "+c:allow[1]");
  EXPECT_EQ(Ask("a", "c", 4711), "+c:allow[0]");  // a port that no document declares
  EXPECT_EQ(Ask("c", "c"), "-default-deny");
  EXPECT_EQ(Ask("a", "b"), "-default-deny");
}

TEST_F(PermissionsTest, AnyDenialOfAnyDocumentWins) {
  Build(Rules("weak", "", "deny: [" + Id("a") + "]") +
        Rules("strong", "kind: Dataplane, name: c",
              "allow: [{spiffeID: {type: Prefix, value: spiffe://mesh.local/}}]"));
  EXPECT_EQ(Ask("a", "c"), "-weak:deny[0]");
  EXPECT_EQ(Ask("b", "c"), "+strong:allow[0]");
}

TEST_F(PermissionsTest, ShadowDenialAllows) {
  Build(Rules("s", "", "allowWithShadowDeny: [" + Id("a") + "]"));
  EXPECT_EQ(Ask("a", "c"), "+s:allowWithShadowDeny[0]");
}

TEST_F(PermissionsTest, ARuleOfASectionIsForItsInboundAlone) {
  for (const char* section : {"web", "'80'"}) {
    Build(Rules("c", std::string("kind: Dataplane, labels: {app: c}, sectionName: ") + section,
                "allow: [" + Id("a") + "]"));
    EXPECT_EQ(Ask("a", "c", 80), "+c:allow[0]");
    EXPECT_EQ(Ask("a", "c", 81), "-default-deny");
    EXPECT_EQ(Ask("a", "c", 4711), "-default-deny");
  }
}

TEST_F(PermissionsTest, TagsOfTheSecondGenerationNameOneInbound) {
  for (const char* target :
       {"kind: MeshService, name: c-web", "kind: MeshServiceSubset, name: c-web, tags: {app: c}",
        "kind: MeshSubset, tags: {kuma.io/service: c-web}"}) {
    Build(From("c", target, Item("kind: Mesh", "Allow")));
    EXPECT_EQ(Ask("a", "c", 80), "+c:from[0]") << target;
    EXPECT_EQ(Ask("a", "c", 81), "-default-deny") << target;
    EXPECT_EQ(Ask("a", "c", 4711), "-default-deny") << target;
  }
}

TEST_F(PermissionsTest, TheMostPreciseItemOfFromWins) {
  Build(From("c", "",
             Item("kind: MeshSubset, tags: {app: a}", "Deny") + Item("kind: Mesh", "Allow")));
  EXPECT_EQ(Ask("a", "c"), "-c:from[0]");
  EXPECT_EQ(Ask("b", "c"), "+c:from[1]");
}

TEST_F(PermissionsTest, AStrongerDocumentsFromReplacesAWeakerOnes) {
  Build(From("aaa", "",
             Item("kind: MeshSubset, tags: {app: a}", "Deny") +
                 Item("kind: MeshSubset, tags: {app: b}", "Deny")) +
        From("zzz", "kind: Dataplane, labels: {app: c}",
             Item("kind: MeshSubset, tags: {team: red, app: a}", "AllowWithShadowDeny")));
  EXPECT_EQ(Ask("a", "c"), "+zzz:from[0]");
  EXPECT_EQ(Ask("b", "c"), "-aaa:from[1]");
  EXPECT_EQ(Ask("a", "b"), "-aaa:from[0]");
}

TEST_F(PermissionsTest, OfEqualDocumentsTheFirstNameWins) {
  Build(From("aaa", "", Item("kind: Mesh", "Allow")) + From("bbb", "", Item("kind: Mesh", "Deny")));
  EXPECT_EQ(Ask("a", "c"), "+aaa:from[0]");
}

TEST_F(PermissionsTest, RulesAndFromOfSeveralDocumentsAreJudgedTogether) {
  Build(From("f", "", Item("kind: Mesh", "Allow")) + Rules("r", "", "deny: [" + Id("a") + "]"));
  EXPECT_EQ(Ask("a", "c"), "-r:deny[0]");
  EXPECT_EQ(Ask("b", "c"), "+f:from[0]");
}

TEST_F(PermissionsTest, ANamespacedDocumentIsForItsNamespaceAlone) {
  const auto document = [](const std::string& ns) {
    return "---\napiVersion: kuma.io/v1alpha1\nkind: MeshTrafficPermission\nmetadata: {name: k, "
           "namespace: " +
           ns + ", labels: {kuma.io/mesh: default}}\nspec: {rules: [{default: {allow: [" + Id("a") +
           "]}}]}\n";
  };
  Build(document("kuma-system"));
  EXPECT_EQ(Ask("a", "c"), "+kuma-system/k:allow[0]");
  Build(document("shop"));
  EXPECT_EQ(Ask("a", "c"), "-default-deny");
  EXPECT_TRUE(Warns("selects no workload"));
}

TEST_F(PermissionsTest, InboundsThatTheSameDocumentsSelectShareOneSet) {
  Build(Rules("all", "", "allow: [" + Id("a") + "]"));
  const auto& locals = result_.snapshot->locals();
  EXPECT_EQ(locals[0]->permissions.Of(80), locals[2]->permissions.Of(81));
}

TEST_F(PermissionsTest, WarnsOfWhatHasNoEffect) {
  Build(Rules("c", "kind: Dataplane, labels: {app: nobody}",
              "allow: [" + Id("aa") + ", " + Id("b") + "], deny: [" + Id("b") + "]") +
        From("f", "", Item("kind: MeshService, name: ghost", "Allow")));
  EXPECT_TRUE(Warns("\"c\" selects no workload"));
  EXPECT_TRUE(
      Warns("no workload has the identity \"spiffe://mesh.local/workload/aa\", did you "
            "mean \"spiffe://mesh.local/workload/a\""));
  EXPECT_TRUE(Warns("a denial wins"));
  EXPECT_TRUE(Warns("no workload has the tags"));
}

TEST_F(PermissionsTest, SaysWhereARuleStands) {
  Build(
      "---\ntype: MeshTrafficPermission\nname: c\nspec:\n  rules:\n  - default:\n      allow:\n"
      "      - " +
      Id("a") + "\n");
  const model::PermissionSet& set = *result_.snapshot->locals()[0]->permissions.Of(80);
  EXPECT_TRUE(set.rules()[0]->source.starts_with("mesh.yaml:")) << set.rules()[0]->source;
}

TEST(PermissionDocumentTest, WarnsOfAPrefixThatEndsInsideAName) {
  Diagnostics diagnostics;
  (void)ParseText(
      "type: MeshTrafficPermission\nname: c\nspec:\n  rules:\n  - default:\n      allow:\n"
      "      - spiffeID: {type: Prefix, value: spiffe://m/ns/shop}\n"
      "      deny:\n      - spiffeID: {type: Prefix, value: spiffe://m/ns/shop}\n",
      diagnostics);
  EXPECT_TRUE(Says(diagnostics, Severity::kWarning, 7, "ends inside a name"))
      << ToText(diagnostics.all());
  EXPECT_EQ(diagnostics.all().size(), 1U);
}

struct BadPermission {
  int line;
  const char* says;
  const char* spec;  // from line 4 on
};

class BadPermissionTest : public testing::TestWithParam<BadPermission> {};

TEST_P(BadPermissionTest, IsRefusedWithLineAndReason) {
  Diagnostics diagnostics;
  (void)ParseText(std::string("type: MeshTrafficPermission\nname: c\nspec:\n") + GetParam().spec,
                  diagnostics);
  EXPECT_TRUE(Says(diagnostics, Severity::kError, GetParam().line, GetParam().says))
      << ToText(diagnostics.all());
}

INSTANTIATE_TEST_SUITE_P(
    Permissions, BadPermissionTest,
    testing::Values(
        BadPermission{4, "needs \"rules\"", "  targetRef: {kind: Mesh}\n"},
        BadPermission{4, "must have an item", "  rules: []\n"},
        BadPermission{4, "did you mean \"from\"", "  fron: []\n"},
        BadPermission{5, "cannot stand beside", "  rules: [{default: {allow: []}}]\n  from: []\n"},
        BadPermission{4, "at least one of", "  rules: [{default: {allow: [], deny: []}}]\n"},
        BadPermission{4, "did you mean \"allow\"",
                      "  rules: [{default: {alow: [{sni: {type: Exact, value: x}}]}}]\n"},
        BadPermission{4, "\"spiffeID\" or \"sni\"", "  rules: [{default: {allow: [{}]}}]\n"},
        BadPermission{4, "unknown field",
                      "  rules: [{default: {deny: [{spiffeId: {type: Exact, value: x}}]}}]\n"},
        BadPermission{4, "does not begin with spiffe://",
                      "  rules: [{default: {deny: [{spiffeID: {type: Exact, value: m/a}}]}}]\n"},
        BadPermission{
            4, "nobody's identity",
            "  rules: [{default: {deny: [{spiffeID: {type: Exact, value: 'spiffe://m'}}]}}]\n"},
        BadPermission{
            4, "no SPIFFE ID begins like that",
            "  rules: [{default: {deny: [{spiffeID: {type: Prefix, value: 'spiffe://M/'}}]}}]\n"},
        BadPermission{
            4, "type",
            "  rules: [{default: {deny: [{spiffeID: {type: Regex, value: 'spiffe://m/'}}]}}]\n"},
        BadPermission{4, "must be a host name",
                      "  rules: [{default: {allow: [{sni: {type: Exact, value: '*.x'}}]}}]\n"},
        BadPermission{4, "unknown field \"matches\"",
                      "  rules: [{matches: [], default: {allow: [{sni: {type: Exact, value: "
                      "x}}]}}]\n"},
        BadPermission{4, "targetRef", "  from: [{default: {action: Allow}}]\n"},
        BadPermission{4, "must be of the kind",
                      "  from: [{targetRef: {kind: Dataplane}, default: {action: Allow}}]\n"},
        BadPermission{4, "would be the whole mesh",
                      "  from: [{targetRef: {kind: MeshSubset}, default: {action: Allow}}]\n"},
        BadPermission{4, "action", "  from: [{targetRef: {kind: Mesh}, default: {}}]\n"},
        BadPermission{4, "did you mean \"Allow\"",
                      "  from: [{targetRef: {kind: Mesh}, default: {action: Allov}}]\n"}));

}  // namespace
}  // namespace weir::config
