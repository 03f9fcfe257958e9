#include "agent/tls/svid_verifier.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/test_pki.h"

namespace weir::tls {
namespace {

using test::CertificateSpec;
using test::KeyKind;
using test::MakeCertificate;
using test::TestCertificate;
using test::TestPki;

constexpr std::int64_t kHour = 3600;

// One trust domain with a root, an intermediate of node-a and a leaf of a workload;
// each test spoils one certificate and expects the fault of that rule.
class SvidVerifierTest : public testing::Test {
 protected:
  using Spoil = std::function<void(CertificateSpec&)>;
  static void Nothing(CertificateSpec& /*spec*/) {}

  std::vector<TestCertificate> Chain(const Spoil& leaf, const Spoil& node = Nothing) {
    CertificateSpec node_spec = pki_.NodeSpec("node-a");
    node(node_spec);
    CertificateSpec leaf_spec = pki_.LeafSpec("/ns/shop/sa/cart");
    leaf(leaf_spec);
    std::vector<TestCertificate> chain(2);
    chain[1] = MakeCertificate(node_spec, &pki_.root());
    chain[0] = MakeCertificate(leaf_spec, &chain[1]);
    return chain;
  }

  std::expected<PeerInfo, SvidFault> VerifyWith(const TrustBundles& bundles,
                                                const std::vector<TestCertificate>& chain) {
    std::vector<std::vector<std::uint8_t>> der;
    std::vector<io::Bytes> views;
    std::ranges::transform(chain, std::back_inserter(der), &TestCertificate::Der);
    views.assign(der.begin(), der.end());
    const auto verifier = SvidVerifier::Create(bundles, clock_);
    EXPECT_TRUE(verifier.has_value());
    return verifier->Verify(views);
  }
  std::expected<PeerInfo, SvidFault> Verify(const std::vector<TestCertificate>& chain) {
    return VerifyWith(pki_.Bundles(), chain);
  }
  std::string FaultOf(const std::vector<TestCertificate>& chain) {
    const auto verified = Verify(chain);
    return verified ? "accepted" : std::string(ToString(verified.error()));
  }
  std::string LeafFault(const Spoil& spoil) { return FaultOf(Chain(spoil)); }
  std::string NodeFault(const Spoil& spoil) { return FaultOf(Chain(Nothing, spoil)); }

  base::ManualClock clock_;
  TestPki pki_{"one.test", clock_};
};

TEST_F(SvidVerifierTest, GivesIdentityNodeAndEndOfAGoodChain) {
  const auto peer = Verify(Chain(Nothing));
  ASSERT_TRUE(peer.has_value()) << ToString(peer.error());
  EXPECT_EQ(peer->spiffe_id, "spiffe://one.test/ns/shop/sa/cart");
  EXPECT_EQ(peer->node, "node-a");
  EXPECT_EQ(peer->not_after, pki_.LeafSpec("/x").not_after);
}

TEST_F(SvidVerifierTest, GivesTheEndOfTheIntermediateWhenItComesFirst) {
  const std::int64_t end = pki_.LeafSpec("/x").not_after - kHour;
  const auto peer = Verify(Chain(Nothing, [&](CertificateSpec& spec) { spec.not_after = end; }));
  ASSERT_TRUE(peer.has_value());
  EXPECT_EQ(peer->not_after, end);
}

TEST_F(SvidVerifierTest, NamesNoNodeForALeafOfTheRoot) {
  std::vector<TestCertificate> chain;
  chain.push_back(MakeCertificate(pki_.LeafSpec("/ns/shop/sa/cart"), &pki_.root()));
  const auto peer = Verify(chain);
  ASSERT_TRUE(peer.has_value());
  EXPECT_EQ(peer->node, "");
}

TEST_F(SvidVerifierTest, AcceptsLaxButAllowedLeaves) {
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.extended_key_usage = ""; }), "accepted");
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.names += ",DNS:cart.shop"; }), "accepted");
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.basic_constraints = ""; }), "accepted");
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.key = KeyKind::kRsa2048; }), "accepted");
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) {
              spec.organization = "";
              spec.names = "critical," + spec.names;
            }),
            "accepted");
}

TEST_F(SvidVerifierTest, RefusesAnEmptyChain) {
  EXPECT_EQ(FaultOf({}), "no-certificate");
}

TEST_F(SvidVerifierTest, RefusesALeafWithoutExactlyOneUri) {
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.names = "DNS:cart.shop"; }),
            "not-one-uri-name");
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.names = ""; }), "not-one-uri-name");
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.names += ",URI:spiffe://one.test/b"; }),
            "not-one-uri-name");
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.names += ",URI:https://one.test/b"; }),
            "not-one-uri-name");
}

TEST_F(SvidVerifierTest, RefusesNamesThatAreNoSpiffeId) {
  for (const std::string name :
       {"https://one.test/a", "spiffe://One.test/a", "SPIFFE://one.test/a",
        "spiffe://one.test/a%20b", "spiffe://one%2etest/a", "spiffe://one.test:80/a",
        "spiffe://user@one.test/a", "spiffe://one.test/a?q", "spiffe://one.test/a#f",
        "spiffe://one.test//a", "spiffe://one.test/a/", "spiffe://one.test/",
        "spiffe://one.test/./a", "spiffe://one.test/../a", "spiffe:///a", "spiffe://",
        "spiffe:one.test/a"}) {
    EXPECT_EQ(LeafFault([&](CertificateSpec& spec) { spec.names = "URI:" + name; }),
              "bad-spiffe-id")
        << name;
  }
}

TEST_F(SvidVerifierTest, RefusesASpiffeIdLongerThan2048Bytes) {
  const std::string prefix = "spiffe://one.test/";
  EXPECT_EQ(LeafFault([&](CertificateSpec& spec) {
              spec.names = "URI:" + prefix + std::string(2048 - prefix.size(), 'a');
            }),
            "accepted");
  EXPECT_EQ(LeafFault([&](CertificateSpec& spec) {
              spec.names = "URI:" + prefix + std::string(2049 - prefix.size(), 'a');
            }),
            "bad-spiffe-id");
}

TEST_F(SvidVerifierTest, RefusesALeafThatNamesTheTrustDomain) {
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.names = "URI:spiffe://one.test"; }),
            "no-workload-path");
}

TEST_F(SvidVerifierTest, RefusesUncriticalNamesWithoutSubject) {
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.organization = ""; }),
            "uri-name-not-critical");
}

TEST_F(SvidVerifierTest, RefusesALeafThatIsACa) {
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) {
              spec.basic_constraints = "critical,CA:TRUE";
              spec.key_usage = "critical,digitalSignature,keyCertSign";
            }),
            "leaf-is-ca");
}

TEST_F(SvidVerifierTest, RefusesALeafWithoutCriticalDigitalSignature) {
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.key_usage = ""; }), "key-usage");
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.key_usage = "digitalSignature"; }),
            "key-usage");
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.key_usage = "critical,keyAgreement"; }),
            "key-usage");
}

TEST_F(SvidVerifierTest, RefusesALeafThatMaySign) {
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) {
              spec.key_usage = "critical,digitalSignature,cRLSign";
            }),
            "leaf-may-sign-certificates");
  // Without a CA extension, so that only this rule stands in the way.
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) {
              spec.basic_constraints = "";
              spec.key_usage = "critical,digitalSignature,keyCertSign";
            }),
            "leaf-may-sign-certificates");
}

TEST_F(SvidVerifierTest, RefusesAnExtendedKeyUsageWithoutBothRoles) {
  for (const std::string usage : {"serverAuth", "clientAuth", "codeSigning"}) {
    EXPECT_EQ(LeafFault([&](CertificateSpec& spec) { spec.extended_key_usage = usage; }),
              "extended-key-usage")
        << usage;
  }
}

TEST_F(SvidVerifierTest, RefusesAnUnknownTrustDomain) {
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.names = "URI:spiffe://two.test/a"; }),
            "unknown-trust-domain");
}

TEST_F(SvidVerifierTest, UsesTheBundleOfThePeersTrustDomainOnly) {
  const TestPki other("two.test", clock_);
  TrustBundles both = pki_.Bundles();
  both.merge(other.Bundles());
  // Signed by a root that is trusted, but for another trust domain.
  const auto chain =
      Chain([](CertificateSpec& spec) { spec.names = "URI:spiffe://two.test/ns/shop/sa/cart"; },
            [](CertificateSpec& spec) { spec.names = ""; });
  const auto verified = VerifyWith(both, chain);
  ASSERT_FALSE(verified.has_value());
  EXPECT_EQ(verified.error(), SvidFault::kUntrusted);
}

TEST_F(SvidVerifierTest, RefusesAChainOfAnotherRootOfTheSameName) {
  const TestPki twin("one.test", clock_);
  const auto verified = VerifyWith(twin.Bundles(), Chain(Nothing));
  ASSERT_FALSE(verified.has_value());
  EXPECT_EQ(verified.error(), SvidFault::kUntrusted);
}

TEST_F(SvidVerifierTest, AcceptsBothRootsWhileABundleRolls) {
  const TestPki next("one.test", clock_);
  TrustBundles bundles;
  bundles["one.test"] = pki_.root().Pem() + next.root().Pem();
  EXPECT_TRUE(VerifyWith(bundles, Chain(Nothing)).has_value());
}

TEST_F(SvidVerifierTest, RefusesAMissingIntermediate) {
  auto chain = Chain(Nothing);
  chain.pop_back();
  EXPECT_EQ(FaultOf(chain), "untrusted-chain");
}

TEST_F(SvidVerifierTest, RefusesASelfSignedLeaf) {
  std::vector<TestCertificate> chain;
  chain.push_back(MakeCertificate(pki_.LeafSpec("/ns/shop/sa/cart"), nullptr));
  EXPECT_EQ(FaultOf(chain), "untrusted-chain");
}

TEST_F(SvidVerifierTest, RefusesASignerThatIsNoCa) {
  EXPECT_EQ(NodeFault([](CertificateSpec& spec) { spec.basic_constraints = "critical,CA:FALSE"; }),
            "signer-is-not-ca");
}

TEST_F(SvidVerifierTest, RefusesASignerWithoutCriticalKeyCertSign) {
  for (const std::string usage : {"keyCertSign", ""}) {
    EXPECT_EQ(NodeFault([&](CertificateSpec& spec) { spec.key_usage = usage; }), "signer-key-usage")
        << usage;
  }
  // Path building does not even take this one for an issuer.
  EXPECT_EQ(NodeFault([](CertificateSpec& spec) { spec.key_usage = "critical,cRLSign"; }),
            "untrusted-chain");
}

TEST_F(SvidVerifierTest, RefusesASignerThatNamesAWorkloadOrAnotherTrustDomain) {
  for (const std::string names :
       {"URI:spiffe://one.test/ns/a/sa/b", "URI:spiffe://two.test", "URI:https://one.test",
        "URI:spiffe://one.test,URI:spiffe://one.test"}) {
    EXPECT_EQ(NodeFault([&](CertificateSpec& spec) { spec.names = names; }), "signer-name")
        << names;
  }
  EXPECT_EQ(NodeFault([](CertificateSpec& spec) { spec.names = ""; }), "accepted");
}

TEST_F(SvidVerifierTest, KeepsToNameConstraints) {
  EXPECT_EQ(NodeFault([](CertificateSpec& spec) {
              spec.name_constraints = "critical,permitted;URI:two.test";
              spec.names = "";
            }),
            "name-constraint");
  EXPECT_EQ(NodeFault([](CertificateSpec& spec) {
              spec.name_constraints = "critical,permitted;URI:one.test";
              spec.names = "";
            }),
            "accepted");
}

// A chain root -> node-a -> `second` -> leaf.
std::vector<TestCertificate> LongerChain(const TestPki& pki, const CertificateSpec& first_spec,
                                         const CertificateSpec& second_spec) {
  std::vector<TestCertificate> chain(3);
  chain[2] = MakeCertificate(first_spec, &pki.root());
  chain[1] = MakeCertificate(second_spec, &chain[2]);
  chain[0] = MakeCertificate(pki.LeafSpec("/ns/shop/sa/cart"), &chain[1]);
  return chain;
}

TEST_F(SvidVerifierTest, KeepsToThePathLengthOfANode) {
  EXPECT_EQ(FaultOf(LongerChain(pki_, pki_.NodeSpec("node-a"), pki_.NodeSpec("node-b"))),
            "path-length");
}

TEST_F(SvidVerifierTest, RefusesANodeMadeByANode) {
  CertificateSpec first = pki_.NodeSpec("node-a");
  first.basic_constraints = "critical,CA:TRUE";
  EXPECT_EQ(FaultOf(LongerChain(pki_, first, pki_.NodeSpec("node-b"))), "signer-name");
}

TEST_F(SvidVerifierTest, AcceptsANodeBelowARegionalAuthority) {
  CertificateSpec region = pki_.RootSpec();
  region.common_name = "region";
  const auto peer = Verify(LongerChain(pki_, region, pki_.NodeSpec("node-b")));
  ASSERT_TRUE(peer.has_value());
  EXPECT_EQ(peer->node, "node-b");
}

TEST_F(SvidVerifierTest, RefusesWeakKeys) {
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.key = KeyKind::kRsa1024; }), "weak-key");
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.key = KeyKind::kSecp224; }), "weak-key");
  EXPECT_EQ(NodeFault([](CertificateSpec& spec) { spec.key = KeyKind::kRsa1024; }), "weak-key");
}

TEST_F(SvidVerifierTest, RefusesSha1Signatures) {
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.digest = EVP_sha1(); }), "weak-signature");
  EXPECT_EQ(NodeFault([](CertificateSpec& spec) { spec.digest = EVP_sha1(); }), "weak-signature");
}

TEST_F(SvidVerifierTest, RefusesExpiredCertificatesAtTheSecond) {
  const auto chain = Chain(Nothing);
  const std::int64_t now = 1'800'000'000;
  clock_.StepWall(std::chrono::seconds(pki_.LeafSpec("/x").not_after - now - 1));
  EXPECT_EQ(FaultOf(chain), "accepted");
  clock_.StepWall(std::chrono::seconds(1));
  EXPECT_EQ(FaultOf(chain), "expired");
}

TEST_F(SvidVerifierTest, RefusesAnExpiredIntermediate) {
  EXPECT_EQ(NodeFault([](CertificateSpec& spec) { spec.not_after = spec.not_before + kHour; }),
            "expired");
}

TEST_F(SvidVerifierTest, RefusesAnExpiredRoot) {
  const auto chain = Chain([](CertificateSpec& spec) { spec.not_after += 5000 * 24 * kHour; },
                           [](CertificateSpec& spec) { spec.not_after += 5000 * 24 * kHour; });
  clock_.StepWall(std::chrono::hours(24) * 3651);
  EXPECT_EQ(FaultOf(chain), "expired");
}

TEST_F(SvidVerifierTest, ToleratesTwoMinutesOfSkewOnNotBefore) {
  const std::int64_t now = 1'800'000'000;
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.not_before = now + 120; }), "accepted");
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) { spec.not_before = now + 121; }), "not-yet-valid");
  EXPECT_EQ(NodeFault([](CertificateSpec& spec) { spec.not_before = now + 121; }), "not-yet-valid");
}

TEST_F(SvidVerifierTest, RefusesTooManyCertificates) {
  std::vector<TestCertificate> chain = Chain(Nothing);
  while (chain.size() < kMaxChainCertificates) {
    chain.push_back(MakeCertificate(pki_.NodeSpec("spare"), &pki_.root()));
  }
  EXPECT_EQ(FaultOf(chain), "accepted");
  chain.push_back(MakeCertificate(pki_.NodeSpec("spare"), &pki_.root()));
  EXPECT_EQ(FaultOf(chain), "chain-too-long");
}

TEST_F(SvidVerifierTest, RefusesAHugeCertificate) {
  EXPECT_EQ(LeafFault([](CertificateSpec& spec) {
              for (int i = 0; i < 1000; ++i) {
                spec.names += ",DNS:name-" + std::to_string(i) + ".shop.test";
              }
            }),
            "chain-too-long");
}

TEST_F(SvidVerifierTest, RefusesBrokenDer) {
  const auto verifier = SvidVerifier::Create(pki_.Bundles(), clock_);
  ASSERT_TRUE(verifier.has_value());
  auto der = Chain(Nothing).front().Der();
  const auto fault_of = [&](std::span<const std::uint8_t> bytes) {
    const std::vector<io::Bytes> chain = {bytes};
    const auto verified = verifier->Verify(chain);
    return verified ? std::string("accepted") : std::string(ToString(verified.error()));
  };
  EXPECT_EQ(fault_of(std::span(der).first(der.size() - 1)), "malformed-certificate");
  EXPECT_EQ(fault_of({}), "malformed-certificate");
  der.push_back(0);
  EXPECT_EQ(fault_of(der), "malformed-certificate");
}

TEST_F(SvidVerifierTest, RefusesAnUnknownCriticalExtension) {
  // An empty policy constraint is as good as unknown to a verifier without policies.
  auto chain = Chain(Nothing);
  X509* leaf = chain[0].certificate.get();
  const bssl::UniquePtr<ASN1_OBJECT> oid(OBJ_txt2obj("1.2.3.4.5", 1));
  const bssl::UniquePtr<ASN1_OCTET_STRING> value(ASN1_OCTET_STRING_new());
  const bssl::UniquePtr<X509_EXTENSION> extension(
      X509_EXTENSION_create_by_OBJ(nullptr, oid.get(), 1, value.get()));
  ASSERT_EQ(X509_add_ext(leaf, extension.get(), -1), 1);
  ASSERT_GT(X509_sign(leaf, chain[1].key.get(), EVP_sha256()), 0);
  EXPECT_EQ(FaultOf(chain), "untrusted-chain");
}

TEST_F(SvidVerifierTest, CannotBeMadeFromUnreadableBundles) {
  for (const std::string pem : {"", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"}) {
    const auto verifier = SvidVerifier::Create({{"one.test", pem}}, clock_);
    ASSERT_FALSE(verifier.has_value());
    EXPECT_NE(verifier.error().message().find("one.test"), std::string::npos);
  }
  EXPECT_FALSE(SvidVerifier::Create({}, clock_).has_value());
}

}  // namespace
}  // namespace weir::tls
