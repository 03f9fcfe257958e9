#include "agent/identity/certificate_authority.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "agent/identity/node_ca.h"
#include "tests/support/temporary_directory.h"

namespace weir::identity {
namespace {

unsigned ModeOf(const std::string& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777U;
}

std::string ContentOf(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class CertificateAuthorityTest : public testing::Test {
 protected:
  base::Result<WrittenCertificate> Init() {
    return InitRoot({.directory = directory_, .trust_domain = "one.test"}, clock_);
  }
  base::Result<WrittenCertificate> Node(const std::string& node, bool force = false) {
    return IssueNode({.directory = directory_, .node = node, .force = force}, clock_);
  }

  base::ManualClock clock_;
  test::TemporaryDirectory temporary_;
  std::string directory_ = temporary_.File("ca");
};

TEST_F(CertificateAuthorityTest, MakesARootWithSafeModes) {
  const auto root = Init();
  ASSERT_TRUE(root.has_value()) << root.error().ToString();
  EXPECT_EQ(root->spiffe_id, "spiffe://one.test");
  EXPECT_EQ(root->not_after - root->not_before, (kRootLifetime + kBackDating).count());
  EXPECT_EQ(ModeOf(directory_), 0700U);
  EXPECT_EQ(ModeOf(root->key_path), 0600U);
  EXPECT_EQ(ModeOf(root->certificate_path), 0644U);
  EXPECT_EQ(root->serial.size(), 32U);
}

TEST_F(CertificateAuthorityTest, IssuesANodeThatTheAgentAccepts) {
  const auto root = Init();
  const auto node = Node("node-a");
  ASSERT_TRUE(node.has_value()) << node.error().ToString();
  EXPECT_EQ(ModeOf(node->key_path), 0600U);
  EXPECT_EQ(node->not_after - node->not_before, (kMaxNodeLifetime + kBackDating).count());
  EXPECT_NE(node->serial, root->serial);
  const auto loaded = NodeCa::Load({.certificate = node->certificate_path,
                                    .key = node->key_path,
                                    .bundle = root->certificate_path},
                                   "node-a", "one.test", clock_);
  EXPECT_TRUE(loaded.has_value()) << loaded.error().ToString();
}

// While a root is replaced both are in every node's bundle, and have one name.
TEST_F(CertificateAuthorityTest, RootsOfOneNameAreToldApart) {
  const std::string directories[] = {temporary_.File("old"), temporary_.File("new")};
  std::vector<WrittenCertificate> roots;
  std::vector<WrittenCertificate> nodes;
  for (const std::string& directory : directories) {
    roots.push_back(InitRoot({.directory = directory, .trust_domain = "one.test"}, clock_).value());
    nodes.push_back(IssueNode({.directory = directory, .node = "node-a"}, clock_).value());
  }
  const std::string bundle = temporary_.File("both.pem");
  for (const bool new_first : {false, true}) {
    std::ofstream(bundle) << ContentOf(roots[new_first ? 1 : 0].certificate_path)
                          << ContentOf(roots[new_first ? 0 : 1].certificate_path);
    for (const WrittenCertificate& node : nodes) {
      const auto loaded = NodeCa::Load(
          {.certificate = node.certificate_path, .key = node.key_path, .bundle = bundle}, "node-a",
          "one.test", clock_);
      EXPECT_TRUE(loaded.has_value()) << loaded.error().ToString();
    }
  }
}

TEST_F(CertificateAuthorityTest, KeepsARootThatIsThere) {
  const auto root = Init();
  const std::string before = ContentOf(root->key_path);
  const auto again = Init();
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().code(), base::ErrorCode::kAlreadyExists);
  EXPECT_NE(again.error().remedy().find("--force"), std::string::npos);
  EXPECT_EQ(ContentOf(root->key_path), before);
}

TEST_F(CertificateAuthorityTest, ReplacesARootWhenForced) {
  const auto root = Init();
  const std::string before = ContentOf(root->certificate_path);
  const auto again =
      InitRoot({.directory = directory_, .trust_domain = "one.test", .force = true}, clock_);
  ASSERT_TRUE(again.has_value());
  EXPECT_NE(ContentOf(root->certificate_path), before);
}

TEST_F(CertificateAuthorityTest, RenewsANodeOnlyWhenForced) {
  ASSERT_TRUE(Init().has_value());
  const auto first = Node("node-a");
  const auto refused = Node("node-a");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), base::ErrorCode::kAlreadyExists);
  clock_.Advance(std::chrono::hours(24));
  const auto renewed = Node("node-a", /*force=*/true);
  ASSERT_TRUE(renewed.has_value());
  EXPECT_EQ(renewed->not_after - first->not_after, 86400);
}

TEST_F(CertificateAuthorityTest, NamesTheRemedyForAMissingRoot) {
  const auto node = Node("node-a");
  ASSERT_FALSE(node.has_value());
  EXPECT_EQ(node.error().code(), base::ErrorCode::kNotFound);
  EXPECT_NE(node.error().message().find(directory_ + "/root.pem"), std::string::npos);
  EXPECT_NE(node.error().remedy().find("weir ca init"), std::string::npos);
}

TEST_F(CertificateAuthorityTest, RefusesARootWithAnotherKey) {
  ASSERT_TRUE(Init().has_value());
  const auto other =
      InitRoot({.directory = temporary_.File("other"), .trust_domain = "one.test"}, clock_);
  std::ofstream(directory_ + "/root.key") << ContentOf(other->key_path);
  const auto node = Node("node-a");
  ASSERT_FALSE(node.has_value());
  EXPECT_NE(node.error().message().find("is not the key of"), std::string::npos);
}

TEST_F(CertificateAuthorityTest, RefusesAnExpiredRoot) {
  ASSERT_TRUE(Init().has_value());
  clock_.StepWall(kRootLifetime);
  const auto node = Node("node-a");
  ASSERT_FALSE(node.has_value());
  EXPECT_EQ(node.error().code(), base::ErrorCode::kUnavailable);
}

TEST_F(CertificateAuthorityTest, NeverLetsANodeOutliveTheRoot) {
  const auto root = Init();
  clock_.StepWall(kRootLifetime - std::chrono::hours(24));
  const auto node = Node("node-a");
  ASSERT_TRUE(node.has_value());
  EXPECT_EQ(node->not_after, root->not_after);
}

TEST_F(CertificateAuthorityTest, RefusesBadNamesAndLifetimes) {
  ASSERT_TRUE(Init().has_value());
  for (const std::string name :
       {"", ".", "..", "../x", "a/b", "-a", "Node", "a b",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
    const auto node = Node(name);
    ASSERT_FALSE(node.has_value()) << name;
    EXPECT_EQ(node.error().code(), base::ErrorCode::kInvalidArgument);
  }
  EXPECT_TRUE(Node(std::string(64, 'a')).has_value());
  EXPECT_FALSE(IssueNode({.directory = directory_,
                          .node = "b",
                          .lifetime = kMaxNodeLifetime + std::chrono::seconds(1)},
                         clock_)
                   .has_value());
  EXPECT_FALSE(InitRoot({.directory = temporary_.File("x"), .trust_domain = "One.test"}, clock_)
                   .has_value());
}

TEST_F(CertificateAuthorityTest, NamesADirectoryThatItCannotMake) {
  const auto root =
      InitRoot({.directory = temporary_.File("none/ca"), .trust_domain = "one.test"}, clock_);
  ASSERT_FALSE(root.has_value());
  EXPECT_NE(root.error().message().find(temporary_.File("none/ca")), std::string::npos);
}

}  // namespace
}  // namespace weir::identity
