#include "agent/identity/node_ca.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "agent/tls/x509_util.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_pki.h"

namespace weir::identity {
namespace {

using test::CertificateSpec;
using test::MakeCertificate;
using test::TestCertificate;
using test::TestPki;

class NodeCaTest : public testing::Test {
 protected:
  NodeCaTest() { Write(pki_.NodeSpec("node-a")); }

  void Write(const CertificateSpec& spec) {
    const TestCertificate made = MakeCertificate(spec, &pki_.root());
    std::ofstream(files_.certificate) << made.Pem();
    std::ofstream(files_.key) << made.KeyPem();
    std::filesystem::permissions(files_.key, std::filesystem::perms(0600));
    std::ofstream(files_.bundle) << pki_.root().Pem();
  }
  base::Result<std::unique_ptr<NodeCa>> Load() {
    return NodeCa::Load(files_, "node-a", "one.test", clock_);
  }
  // Checks that loading fails with `code`, a message that has `part`, and a remedy.
  void ExpectError(base::ErrorCode code, const std::string& part) {
    const auto loaded = Load();
    ASSERT_FALSE(loaded.has_value());
    EXPECT_EQ(loaded.error().code(), code) << loaded.error().ToString();
    EXPECT_NE(loaded.error().message().find(part), std::string::npos) << loaded.error().ToString();
    EXPECT_FALSE(loaded.error().remedy().empty()) << loaded.error().ToString();
    EXPECT_EQ(loaded.error().ToString().find('\n'), std::string::npos);
  }

  base::ManualClock clock_;
  TestPki pki_{"one.test", clock_};
  test::TemporaryDirectory directory_;
  NodeCaFiles files_{.certificate = directory_.File("node.pem"),
                     .key = directory_.File("node.key"),
                     .bundle = directory_.File("root.pem")};
};

TEST_F(NodeCaTest, IssuesAnSvidThatPeersAccept) {
  const auto ca = Load();
  ASSERT_TRUE(ca.has_value()) << ca.error().ToString();
  const auto identity = model::SpiffeId::Parse("spiffe://one.test/ns/shop/sa/cart");
  const auto issued = (*ca)->Issue(*identity, std::chrono::hours(24));
  ASSERT_TRUE(issued.has_value());
  EXPECT_EQ(issued->not_after - issued->not_before, 86400 + 120);
  EXPECT_EQ(issued->serial.size(), 32U);
  const auto workload = tls::WorkloadTls::Create(issued->material, pki_.Bundles(), clock_);
  ASSERT_TRUE(workload.has_value()) << workload.error().ToString();
  EXPECT_EQ((*workload)->spiffe_id(), identity->uri());
  EXPECT_EQ((*workload)->not_after(), issued->not_after);
}

TEST_F(NodeCaTest, GivesEverySvidItsOwnKeyAndSerial) {
  const auto ca = Load();
  ASSERT_TRUE(ca.has_value());
  const auto identity = model::SpiffeId::Parse("spiffe://one.test/ns/shop/sa/cart");
  const auto first = (*ca)->Issue(*identity, std::chrono::hours(1));
  const auto second = (*ca)->Issue(*identity, std::chrono::hours(1));
  EXPECT_NE(first->serial, second->serial);
  EXPECT_NE(first->material.private_key_pem.Reveal(), second->material.private_key_pem.Reveal());
}

TEST_F(NodeCaTest, NeverIssuesBeyond24HoursOrItself) {
  auto spec = pki_.NodeSpec("node-a");
  const auto ca = Load();
  const auto identity = model::SpiffeId::Parse("spiffe://one.test/ns/shop/sa/cart");
  const auto capped = (*ca)->Issue(*identity, std::chrono::hours(48));
  EXPECT_EQ(capped->not_after, 1'800'000'000 + 86400);
  clock_.StepWall(std::chrono::days(7) - std::chrono::hours(1));
  const auto last = (*ca)->Issue(*identity, std::chrono::hours(24));
  EXPECT_EQ(last->not_after, spec.not_after);
  clock_.StepWall(std::chrono::hours(1));
  const auto none = (*ca)->Issue(*identity, std::chrono::hours(24));
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code(), base::ErrorCode::kUnavailable);
}

TEST_F(NodeCaTest, NamesEachMissingFile) {
  for (const std::string& path : {files_.certificate, files_.key, files_.bundle}) {
    std::filesystem::rename(path, path + ".away");
    ExpectError(base::ErrorCode::kNotFound, path);
    std::filesystem::rename(path + ".away", path);
  }
}

TEST_F(NodeCaTest, RefusesAKeyThatEverybodyMayRead) {
  std::filesystem::permissions(files_.key, std::filesystem::perms(0644));
  ExpectError(base::ErrorCode::kPermission, "can be read by everybody");
}

TEST_F(NodeCaTest, RefusesAnExpiredCertificate) {
  clock_.StepWall(std::chrono::days(7));
  ExpectError(base::ErrorCode::kUnavailable, "expired at 2027-01-22T08:00:00Z");
}

TEST_F(NodeCaTest, RefusesACertificateOfTheFuture) {
  clock_.StepWall(-std::chrono::days(2));
  ExpectError(base::ErrorCode::kUnavailable, "is valid only from");
}

TEST_F(NodeCaTest, RefusesAKeyOfAnotherCertificate) {
  const TestCertificate other = MakeCertificate(pki_.NodeSpec("node-a"), &pki_.root());
  std::ofstream(files_.key) << other.KeyPem();
  ExpectError(base::ErrorCode::kInvalidArgument, "is not the key of");
}

TEST_F(NodeCaTest, RefusesACertificateThatIsNoCa) {
  auto spec = pki_.NodeSpec("node-a");
  spec.basic_constraints = "critical,CA:FALSE";
  spec.key_usage = "critical,digitalSignature";
  Write(spec);
  ExpectError(base::ErrorCode::kInvalidArgument, "is not a certificate authority");
}

TEST_F(NodeCaTest, RefusesAnotherNodesCertificate) {
  Write(pki_.NodeSpec("node-b"));
  ExpectError(base::ErrorCode::kInvalidArgument, "for node 'node-b', and this is node 'node-a'");
}

TEST_F(NodeCaTest, RefusesAnotherTrustDomain) {
  auto spec = pki_.NodeSpec("node-a");
  spec.names = "URI:spiffe://two.test";
  Write(spec);
  ExpectError(base::ErrorCode::kInvalidArgument, "for trust domain spiffe://two.test");
}

TEST_F(NodeCaTest, RefusesABundleThatDidNotSignIt) {
  const TestPki other("one.test", clock_);
  std::ofstream(files_.bundle) << other.root().Pem();
  ExpectError(base::ErrorCode::kInvalidArgument, "untrusted-chain");
}

TEST_F(NodeCaTest, RefusesGarbage) {
  for (const std::string& path : {files_.certificate, files_.key, files_.bundle}) {
    Write(pki_.NodeSpec("node-a"));
    std::ofstream(path) << "garbage";
    const auto loaded = Load();
    ASSERT_FALSE(loaded.has_value());
    EXPECT_NE(loaded.error().message().find(path), std::string::npos) << loaded.error().ToString();
  }
}

}  // namespace
}  // namespace weir::identity
