#include <gtest/gtest.h>

#include <string>

#include "agent/config/documents.h"
#include "tests/unit/config_support.h"

namespace weir::config {
namespace {

TEST(DocumentsTest, ReadsADataplaneOfBothEnvelopesAlike) {
  Diagnostics diagnostics;
  const DocumentSet set = ParseText(R"(
type: Dataplane
mesh: shop
name: one
labels: {app: a, k8s.kuma.io/namespace: crm, k8s.kuma.io/service-account: sa, weir.io/node: n1,
  weir.io/addresses: "fd00::1, 198.18.0.2", weir.io/tunnel: hbone, weir.io/on-agent-down: open}
networking:
  address: 198.18.0.1
  advertisedAddress: 198.18.0.9
  inbound:
  - {port: 80, name: web, tags: {kuma.io/service: a, kuma.io/protocol: http}}
  - {port: 3306, protocol: mysql}
---
apiVersion: kuma.io/v1alpha1
kind: Dataplane
metadata:
  name: one
  namespace: crm
  creationTimestamp: null
  resourceVersion: "12"
  labels: {kuma.io/mesh: other, app: a, k8s.kuma.io/service-account: sa, weir.io/node: n1}
  annotations: {weir.io/addresses: "fd00::2", unrelated: x}
spec:
  networking:
    address: 198.18.0.3
    inbound: [{port: 80, name: web}]
)",
                                    diagnostics);
  ASSERT_TRUE(diagnostics.ok()) << ToText(diagnostics.all());
  ASSERT_EQ(set.dataplanes.size(), 2U);
  const DataplaneDocument& universal = set.dataplanes[0];
  EXPECT_EQ(universal.envelope.mesh, "shop");
  EXPECT_EQ(universal.display_name(), "crm/one");
  EXPECT_EQ(universal.service_account, "sa");
  EXPECT_EQ(universal.node, "n1");
  EXPECT_EQ(universal.addresses.size(), 4U);
  EXPECT_EQ(universal.tunnel_port, model::TunnelPort::kHbone15008);
  EXPECT_EQ(universal.on_agent_down, model::OnAgentDown::kOpen);
  EXPECT_EQ(universal.inbounds[0].hint, model::ProtocolHint::kHttp);
  EXPECT_EQ(universal.inbounds[1].hint, model::ProtocolHint::kMysql);
  const DataplaneDocument& kubernetes = set.dataplanes[1];
  EXPECT_EQ(kubernetes.envelope.mesh, "other");
  EXPECT_EQ(kubernetes.display_name(), "crm/one");
  EXPECT_EQ(kubernetes.addresses.size(), 2U);
  EXPECT_EQ(kubernetes.envelope.place.line, 14);
}

TEST(DocumentsTest, WarnsOfKumasKindsThatItDoesNotActOn) {
  Diagnostics diagnostics;
  const DocumentSet set = ParseText(R"(
type: MeshHealthCheck
name: check
mesh: default
spec: {anything: [goes, here]}
---
apiVersion: kuma.io/v1alpha1
kind: MeshTimeout
metadata: {name: t, namespace: kuma-system}
spec: {to: []}
)",
                                    diagnostics);
  EXPECT_TRUE(diagnostics.ok()) << ToText(diagnostics.all());
  EXPECT_EQ(set.document_count, 2U);
  EXPECT_TRUE(Says(diagnostics, Severity::kWarning, 2, "MeshHealthCheck"));
  EXPECT_TRUE(Says(diagnostics, Severity::kWarning, 7, "MeshTimeout"));
}

struct BadDocument {
  int line;
  const char* says;
  const char* text;
};

class BadDocumentTest : public testing::TestWithParam<BadDocument> {};

TEST_P(BadDocumentTest, IsRefusedWithLineAndReason) {
  Diagnostics diagnostics;
  (void)ParseText(GetParam().text, diagnostics);
  EXPECT_TRUE(Says(diagnostics, Severity::kError, GetParam().line, GetParam().says))
      << ToText(diagnostics.all());
}

INSTANTIATE_TEST_SUITE_P(
    Documents, BadDocumentTest,
    testing::Values(
        BadDocument{1, "did you mean \"MeshTrace\"", "type: MeshTrase\nname: a\n"},
        BadDocument{2, "did you mean \"Dataplane\"",
                    "apiVersion: kuma.io/v1alpha1\nkind: Dataplain\nmetadata: {name: a}\n"},
        BadDocument{1, "must be kuma.io/v1alpha1",
                    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"},
        BadDocument{1, "must be kuma.io/v1alpha1",
                    "apiVersion: kuma.io/v2\nkind: Mesh\nmetadata: {name: a}\n"},
        BadDocument{1, "neither \"type\"", "name: a\n"},
        BadDocument{1, "both \"type\"", "type: Mesh\nkind: Mesh\nname: a\n"},
        BadDocument{1, "has no \"name\"", "type: MeshTimeout\n"},
        BadDocument{2, "lower-case", "type: MeshTimeout\nname: A B\n"},
        BadDocument{1, "must be a map", "- type: Mesh\n"},
        BadDocument{3, "unknown field \"lables\" in the document, did you mean \"labels\"",
                    "type: MeshTimeout\nname: a\nlables: {}\nspec: {to: []}\n"},
        BadDocument{1, "has no \"spec\"", "type: MeshTrace\nname: a\n"},
        BadDocument{1, "has no \"networking\"", "type: Dataplane\nname: a\n"},
        BadDocument{3, "has no \"address\"",
                    "type: Dataplane\nname: a\nnetworking: {inbound: [{port: 1}]}\n"},
        BadDocument{4, "names are not resolved",
                    "type: Dataplane\nname: a\nnetworking:\n  address: localhost\n"},
        BadDocument{4, "that other nodes can reach",
                    "type: Dataplane\nname: a\nnetworking:\n  address: 127.0.0.1\n"},
        BadDocument{1, "is not an IP address",
                    "type: Dataplane\nname: a\nlabels: {weir.io/addresses: 'fd00::1,x'}\n"
                    "networking: {address: 198.18.0.1}\n"},
        BadDocument{5, "from 1 to 65535",
                    "type: Dataplane\nname: a\nnetworking:\n  address: 198.18.0.1\n"
                    "  inbound: [{port: 65536}]\n"},
        BadDocument{6, "also at line 5",
                    "type: Dataplane\nname: a\nnetworking:\n  address: 198.18.0.1\n"
                    "  inbound: [{port: 80},\n    {port: 80}]\n"},
        BadDocument{5, "did you mean \"http\"",
                    "type: Dataplane\nname: a\nnetworking:\n  address: 198.18.0.1\n"
                    "  inbound: [{port: 80, protocol: htpp}]\n"},
        BadDocument{3, "did you mean \"weir.io/node\"",
                    "type: Dataplane\nname: a\nlabels: {weir.io/nodes: b}\n"
                    "networking: {address: 198.18.0.1}\n"},
        BadDocument{3, "not a label's key",
                    "type: Dataplane\nname: a\nlabels: {'a b': c}\n"
                    "networking: {address: 198.18.0.1}\n"},
        BadDocument{1, "weir.io/tunnel must be",
                    "type: Dataplane\nname: a\nlabels: {weir.io/tunnel: x}\n"
                    "networking: {address: 198.18.0.1}\n"},
        BadDocument{1, "weir.io/on-agent-down must be",
                    "type: Dataplane\nname: a\nlabels: {weir.io/on-agent-down: x}\n"
                    "networking: {address: 198.18.0.1}\n"},
        BadDocument{1, "metadata.namespace \"x\"",
                    "apiVersion: kuma.io/v1alpha1\nkind: Dataplane\nmetadata: {name: a, namespace: "
                    "x, labels: {k8s.kuma.io/namespace: y}}\n"
                    "spec: {networking: {address: 198.18.0.1}}\n"},
        BadDocument{5, "also at mesh.yaml:1",
                    "type: MeshTimeout\nname: a\nspec: {}\n---\ntype: MeshTimeout\nname: a\n"},
        BadDocument{3, "not YAML", "type: Mesh\nname: [a\n"}));

TEST(DocumentsTest, RefusesTwoWorkloadsAtOneAddressAndPort) {
  Diagnostics diagnostics;
  (void)ParseText(DataplaneText("one", "198.18.0.1") + DataplaneText("two", "198.18.0.1"),
                  diagnostics);
  ASSERT_EQ(diagnostics.error_count(), 1U);
  EXPECT_EQ(diagnostics.Errors()[0].ToString(),
            "mesh.yaml:16: error: 198.18.0.1:80 of \"two\" belongs to \"one\" already, at "
            "mesh.yaml:2");
}

TEST(DocumentsTest, AcceptsTwoWorkloadsAtOneAddressWithOtherPorts) {
  Diagnostics diagnostics;
  (void)ParseText(
      DataplaneText("one", "198.18.0.1", "", 80) + DataplaneText("two", "198.18.0.1", "", 81),
      diagnostics);
  EXPECT_TRUE(diagnostics.ok()) << ToText(diagnostics.all());
}

TEST(DocumentsTest, AcceptsOneNameInTwoMeshes) {
  Diagnostics diagnostics;
  (void)ParseText(
      "type: Mesh\nname: a\n---\ntype: MeshTimeout\nname: t\nmesh: a\n---\n"
      "type: MeshTimeout\nname: t\nmesh: b\n",
      diagnostics);
  EXPECT_TRUE(diagnostics.ok()) << ToText(diagnostics.all());
}

TEST(DocumentsTest, ReadsFilesInOrderAndLeavesOutWhatIsNoDocument) {
  const TemporaryDirectory directory;
  directory.Write("b.yaml", "b");
  directory.Write("a.yml", "a");
  directory.Write(".hidden.yaml", "h");
  directory.Write("notes.txt", "n");
  std::filesystem::create_directory(directory.File("sub.yaml"));
  Diagnostics diagnostics;
  const auto files = ReadDocumentFiles(directory.path(), diagnostics);
  EXPECT_TRUE(diagnostics.ok());
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].name, "a.yml");
  EXPECT_EQ(files[1].name, "b.yaml");
}

TEST(DocumentsTest, NamesWhatCannotBeRead) {
  Diagnostics missing;
  (void)ReadDocumentFiles("/nonexistent", missing);
  EXPECT_TRUE(Says(missing, Severity::kError, 0, "No such file"));

  const TemporaryDirectory directory;
  std::filesystem::create_symlink("/nonexistent", directory.File("dangling.yaml"));
  directory.Write("large.yaml", std::string(kMaxFileBytes + 1, '#'));
  directory.Write("full.yaml", std::string(kMaxFileBytes, '#'));
  Diagnostics diagnostics;
  const auto files = ReadDocumentFiles(directory.path(), diagnostics);
  EXPECT_EQ(files.size(), 1U);
  ASSERT_EQ(diagnostics.error_count(), 2U);
  EXPECT_EQ(diagnostics.all()[0].place.file, "dangling.yaml");
  EXPECT_TRUE(diagnostics.all()[1].text.contains("limit"));
}

TEST(DocumentsTest, KeepsOnlySoManyFindings) {
  std::string text;
  for (std::size_t i = 0; i < Diagnostics::kMost + 5; ++i) {
    text += "---\na: 1\n";
  }
  Diagnostics diagnostics;
  (void)ParseText(text, diagnostics);
  EXPECT_EQ(diagnostics.all().size(), Diagnostics::kMost);
  EXPECT_EQ(diagnostics.error_count(), Diagnostics::kMost + 5);
  EXPECT_FALSE(diagnostics.ok());
}

TEST(DocumentsTest, ParserRemembersUnchangedFilesWithTheirFindings) {
  DocumentParser parser;
  const SourceFile good{.name = "a.yaml", .content = DataplaneText("one", "198.18.0.1")};
  const SourceFile bad{.name = "b.yaml", .content = "a: [\n"};
  for (int round = 0; round < 2; ++round) {
    Diagnostics diagnostics;
    EXPECT_EQ(parser.Parse({good, bad}, diagnostics).dataplanes.size(), 1U);
    EXPECT_EQ(diagnostics.error_count(), 1U);
  }
  Diagnostics diagnostics;
  EXPECT_EQ(parser.Parse({bad}, diagnostics).dataplanes.size(), 0U);
  const SourceFile changed{.name = "a.yaml", .content = DataplaneText("two", "198.18.0.1")};
  EXPECT_EQ(parser.Parse({changed}, diagnostics).dataplanes[0].envelope.name, "two");
}

}  // namespace
}  // namespace weir::config
