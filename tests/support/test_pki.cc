#include "tests/support/test_pki.h"

#include <openssl/bio.h>
#include <openssl/ec_key.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <utility>

#include "agent/base/check.h"

namespace weir::test {
namespace {

constexpr std::int64_t kMinute = 60;
constexpr std::int64_t kDay = 86400;

bssl::UniquePtr<EVP_PKEY> MakeRsaKey(int bits) {
  bssl::UniquePtr<RSA> rsa(RSA_new());
  bssl::UniquePtr<BIGNUM> exponent(BN_new());
  bssl::UniquePtr<EVP_PKEY> key(EVP_PKEY_new());
  WEIR_CHECK(BN_set_word(exponent.get(), RSA_F4) == 1 &&
             RSA_generate_key_ex(rsa.get(), bits, exponent.get(), nullptr) == 1 &&
             EVP_PKEY_set1_RSA(key.get(), rsa.get()) == 1);
  return key;
}

bssl::UniquePtr<EVP_PKEY> MakeEcKey(int curve) {
  const bssl::UniquePtr<EC_KEY> ec(EC_KEY_new_by_curve_name(curve));
  bssl::UniquePtr<EVP_PKEY> key(EVP_PKEY_new());
  WEIR_CHECK(EC_KEY_generate_key(ec.get()) == 1 && EVP_PKEY_set1_EC_KEY(key.get(), ec.get()) == 1);
  return key;
}

bssl::UniquePtr<EVP_PKEY> MakeKey(KeyKind kind) {
  switch (kind) {
    case KeyKind::kP256:
      return MakeEcKey(NID_X9_62_prime256v1);
    case KeyKind::kSecp224:
      return MakeEcKey(NID_secp224r1);
    case KeyKind::kRsa2048:
      return MakeRsaKey(2048);
    case KeyKind::kRsa1024:
      return MakeRsaKey(1024);
  }
  return nullptr;
}

void AddEntry(X509* certificate, int nid, std::string_view value) {
  if (!value.empty()) {
    WEIR_CHECK(X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), nid, MBSTRING_UTF8,
                                          reinterpret_cast<const std::uint8_t*>(value.data()),
                                          static_cast<int>(value.size()), -1, 0) == 1);
  }
}

void AddExtension(X509* certificate, const X509* issuer, int nid, const std::string& value) {
  if (value.empty()) {
    return;
  }
  X509V3_CTX context;
  X509V3_set_ctx(&context, const_cast<X509*>(issuer), certificate, nullptr, nullptr, 0);
  const bssl::UniquePtr<X509_EXTENSION> extension(
      X509V3_EXT_nconf_nid(nullptr, &context, nid, const_cast<char*>(value.c_str())));
  WEIR_CHECK(extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1);
}

void SetSerial(X509* certificate) {
  std::uint64_t serial = 0;
  WEIR_CHECK(RAND_bytes(reinterpret_cast<std::uint8_t*>(&serial), sizeof(serial)) == 1);
  WEIR_CHECK(ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1U) == 1);
}

std::string Contents(BIO* bio) {
  const std::uint8_t* bytes = nullptr;
  std::size_t size = 0;
  WEIR_CHECK(BIO_mem_contents(bio, &bytes, &size) == 1);
  return {bytes, bytes + size};
}

}  // namespace

std::string TestCertificate::Pem() const {
  const bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  WEIR_CHECK(PEM_write_bio_X509(bio.get(), certificate.get()) == 1);
  return Contents(bio.get());
}

std::string TestCertificate::KeyPem() const {
  const bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  WEIR_CHECK(PEM_write_bio_PKCS8PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr,
                                           nullptr) == 1);
  return Contents(bio.get());
}

std::vector<std::uint8_t> TestCertificate::Der() const {
  std::uint8_t* der = nullptr;
  const int length = i2d_X509(certificate.get(), &der);
  WEIR_CHECK(length > 0);
  const bssl::UniquePtr<std::uint8_t> owner(der);
  return {der, der + length};
}

TestCertificate MakeCertificate(const CertificateSpec& spec, const TestCertificate* issuer) {
  TestCertificate made{.certificate = bssl::UniquePtr<X509>(X509_new()), .key = MakeKey(spec.key)};
  X509* certificate = made.certificate.get();
  WEIR_CHECK(X509_set_version(certificate, X509_VERSION_3) == 1);
  SetSerial(certificate);
  AddEntry(certificate, NID_organizationName, spec.organization);
  AddEntry(certificate, NID_commonName, spec.common_name);
  const X509* signer = issuer != nullptr ? issuer->certificate.get() : certificate;
  WEIR_CHECK(X509_set_issuer_name(certificate, X509_get_subject_name(signer)) == 1);
  WEIR_CHECK(ASN1_TIME_set(X509_getm_notBefore(certificate), spec.not_before) != nullptr);
  WEIR_CHECK(ASN1_TIME_set(X509_getm_notAfter(certificate), spec.not_after) != nullptr);
  WEIR_CHECK(X509_set_pubkey(certificate, made.key.get()) == 1);
  AddExtension(certificate, signer, NID_basic_constraints, spec.basic_constraints);
  AddExtension(certificate, signer, NID_key_usage, spec.key_usage);
  AddExtension(certificate, signer, NID_ext_key_usage, spec.extended_key_usage);
  AddExtension(certificate, signer, NID_subject_alt_name, spec.names);
  AddExtension(certificate, signer, NID_name_constraints, spec.name_constraints);
  const EVP_MD* digest = spec.digest != nullptr ? spec.digest : EVP_sha256();
  EVP_PKEY* signing_key = issuer != nullptr ? issuer->key.get() : made.key.get();
  WEIR_CHECK(X509_sign(certificate, signing_key, digest) > 0);
  return made;
}

TestPki::TestPki(std::string trust_domain, const base::Clock& clock)
    : trust_domain_(std::move(trust_domain)),
      clock_(clock),
      root_(MakeCertificate(RootSpec(), nullptr)) {}

std::int64_t TestPki::Now() const {
  return std::chrono::floor<std::chrono::seconds>(clock_.WallNow()).time_since_epoch().count();
}

tls::TrustBundles TestPki::Bundles() const {
  return {{trust_domain_, root_.Pem()}};
}

CertificateSpec TestPki::RootSpec() const {
  CertificateSpec spec;
  spec.common_name = "root of " + trust_domain_;
  spec.names = "URI:spiffe://" + trust_domain_;
  spec.basic_constraints = "critical,CA:TRUE";
  spec.key_usage = "critical,keyCertSign,cRLSign";
  spec.extended_key_usage = "";
  spec.not_before = Now() - kDay;
  spec.not_after = Now() + 3650 * kDay;
  return spec;
}

CertificateSpec TestPki::NodeSpec(std::string_view node) const {
  CertificateSpec spec = RootSpec();
  spec.organization = "weir node";
  spec.common_name = node;
  spec.basic_constraints = "critical,CA:TRUE,pathlen:0";
  spec.not_after = Now() + 7 * kDay;
  return spec;
}

CertificateSpec TestPki::LeafSpec(std::string_view path) const {
  CertificateSpec spec;
  spec.organization = "weir";
  spec.names = "URI:spiffe://" + trust_domain_ + std::string(path);
  spec.not_before = Now() - 2 * kMinute;
  spec.not_after = Now() + kDay;
  return spec;
}

tls::SvidMaterial TestPki::Issue(std::string_view path, std::string_view node,
                                 std::chrono::seconds life) const {
  const TestCertificate intermediate = MakeCertificate(NodeSpec(node), &root_);
  CertificateSpec spec = LeafSpec(path);
  spec.not_after = Now() + life.count();
  const TestCertificate leaf = MakeCertificate(spec, &intermediate);
  return {.spiffe_id = "spiffe://" + trust_domain_ + std::string(path),
          .certificate_chain_pem = leaf.Pem() + intermediate.Pem(),
          .private_key_pem = tls::Secret(leaf.KeyPem())};
}

std::shared_ptr<const tls::WorkloadTls> TestPki::Workload(std::string_view path,
                                                          std::string_view node,
                                                          std::chrono::seconds life) const {
  auto workload = tls::WorkloadTls::Create(Issue(path, node, life), Bundles(), clock_);
  WEIR_CHECK(workload.has_value());
  return *workload;
}

}  // namespace weir::test
