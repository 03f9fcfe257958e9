#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/tls/workload_tls.h"

// Certificates for tests, good ones and ones with exactly one thing wrong.
namespace weir::test {

enum class KeyKind : std::uint8_t { kP256, kRsa2048, kRsa1024, kSecp224 };

// What a certificate is made of. Extension values have OpenSSL's configuration syntax
// ("critical,CA:TRUE,pathlen:0"); an empty one leaves the extension out.
struct CertificateSpec {
  std::string organization;
  std::string common_name;
  std::string names;  // SubjectAlternativeName, for example "URI:spiffe://a.test/x"
  std::string basic_constraints = "critical,CA:FALSE";
  std::string key_usage = "critical,digitalSignature";
  std::string extended_key_usage = "serverAuth,clientAuth";
  std::string name_constraints;
  std::int64_t not_before = 0;
  std::int64_t not_after = 0;
  KeyKind key = KeyKind::kP256;
  const EVP_MD* digest = nullptr;  // SHA-256
};

struct TestCertificate {
  bssl::UniquePtr<X509> certificate;
  bssl::UniquePtr<EVP_PKEY> key;
  [[nodiscard]] std::string Pem() const;
  [[nodiscard]] std::string KeyPem() const;
  [[nodiscard]] std::vector<std::uint8_t> Der() const;
};

// Signs by `issuer`, or by itself if that is null. Aborts when BoringSSL refuses: a test
// asked for something impossible.
TestCertificate MakeCertificate(const CertificateSpec& spec, const TestCertificate* issuer);

// TestPki is one trust domain: a root and intermediates of nodes.
class TestPki {
 public:
  TestPki(std::string trust_domain, const base::Clock& clock);

  [[nodiscard]] const std::string& trust_domain() const { return trust_domain_; }
  [[nodiscard]] const TestCertificate& root() const { return root_; }
  [[nodiscard]] tls::TrustBundles Bundles() const;

  // Good specs at the clock's time, for a test to spoil.
  [[nodiscard]] CertificateSpec LeafSpec(std::string_view path) const;
  [[nodiscard]] CertificateSpec NodeSpec(std::string_view node) const;
  [[nodiscard]] CertificateSpec RootSpec() const;

  // A workload's SVID, good for `life` from now on, issued by a fresh intermediate of
  // `node`; `path` as "/ns/a/sa/b".
  [[nodiscard]] tls::SvidMaterial Issue(std::string_view path, std::string_view node,
                                        std::chrono::seconds life = std::chrono::hours(24)) const;
  // The same, ready for an engine. `clock` of the constructor must outlive it.
  [[nodiscard]] std::shared_ptr<const tls::WorkloadTls> Workload(
      std::string_view path, std::string_view node,
      std::chrono::seconds life = std::chrono::hours(24)) const;

 private:
  [[nodiscard]] std::int64_t Now() const;

  std::string trust_domain_;
  const base::Clock& clock_;
  TestCertificate root_;
};

}  // namespace weir::test
