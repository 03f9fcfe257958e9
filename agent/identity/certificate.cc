#include "agent/identity/certificate.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/bytestring.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include <array>
#include <ctime>
#include <span>
#include <string_view>

#include "agent/tls/x509_util.h"

namespace weir::identity {
namespace {

constexpr std::size_t kSerialBytes = 16;
constexpr std::size_t kKeyIdBytes = 20;  // RFC 7093 section 2: leftmost 160 bits of SHA-256
constexpr int kAsn1True = 0xff;          // X.690 section 11.1
// Bits of KeyUsage (RFC 5280 section 4.2.1.3).
constexpr int kDigitalSignatureBit = 0;
constexpr int kKeyCertSignBit = 5;
constexpr int kCrlSignBit = 6;

bssl::UniquePtr<EVP_PKEY> MakeKey() {
  const bssl::UniquePtr<EC_KEY> ec(EC_KEY_new_by_curve_name(NID_X9_62_prime256v1));
  bssl::UniquePtr<EVP_PKEY> key(EVP_PKEY_new());
  if (!ec || !key || EC_KEY_generate_key(ec.get()) != 1 ||
      EVP_PKEY_set1_EC_KEY(key.get(), ec.get()) != 1) {
    return nullptr;
  }
  return key;
}

bool SetSerial(X509* certificate) {
  std::array<std::uint8_t, kSerialBytes> bytes{};
  if (RAND_bytes(bytes.data(), bytes.size()) != 1) {
    return false;
  }
  bytes[0] = (bytes[0] & 0x7fU) | 0x40U;  // positive, and of the same length always
  const bssl::UniquePtr<BIGNUM> number(BN_bin2bn(bytes.data(), bytes.size(), nullptr));
  return number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool AddEntry(X509* certificate, int nid, const std::string& value) {
  return value.empty() ||
         X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), nid, MBSTRING_UTF8,
                                    reinterpret_cast<const std::uint8_t*>(value.data()),
                                    static_cast<int>(value.size()), /*loc=*/-1, /*set=*/0) == 1;
}

bool AddExtension(X509* certificate, int nid, void* value, bool critical) {
  return value != nullptr &&
         X509_add1_ext_i2d(certificate, nid, value, critical ? 1 : 0, X509V3_ADD_DEFAULT) == 1;
}

bool AddBasicConstraints(X509* certificate, CertificateRole role) {
  const bssl::UniquePtr<BASIC_CONSTRAINTS> constraints(BASIC_CONSTRAINTS_new());
  if (!constraints) {
    return false;
  }
  constraints->ca = role == CertificateRole::kWorkload ? 0 : kAsn1True;
  if (role == CertificateRole::kNode) {
    constraints->pathlen = ASN1_INTEGER_new();  // zero; owned by the constraints
  }
  return AddExtension(certificate, NID_basic_constraints, constraints.get(), /*critical=*/true);
}

bool AddKeyUsage(X509* certificate, CertificateRole role) {
  const bssl::UniquePtr<ASN1_BIT_STRING> usage(ASN1_BIT_STRING_new());
  if (!usage) {
    return false;
  }
  constexpr std::array kLeafBits = {kDigitalSignatureBit};
  constexpr std::array kCaBits = {kKeyCertSignBit, kCrlSignBit};
  const bool is_leaf = role == CertificateRole::kWorkload;
  for (const int bit : is_leaf ? std::span<const int>(kLeafBits) : std::span<const int>(kCaBits)) {
    if (ASN1_BIT_STRING_set_bit(usage.get(), bit, 1) != 1) {
      return false;
    }
  }
  return AddExtension(certificate, NID_key_usage, usage.get(), /*critical=*/true);
}

bool AddExtendedKeyUsage(X509* certificate) {
  const bssl::UniquePtr<EXTENDED_KEY_USAGE> usages(sk_ASN1_OBJECT_new_null());
  for (const int nid : {NID_server_auth, NID_client_auth}) {
    bssl::UniquePtr<ASN1_OBJECT> object(OBJ_dup(OBJ_nid2obj(nid)));
    if (!usages || !bssl::PushToStack(usages.get(), std::move(object))) {
      return false;
    }
  }
  return AddExtension(certificate, NID_ext_key_usage, usages.get(), /*critical=*/false);
}

bool AddUriName(X509* certificate, const std::string& uri) {
  const bssl::UniquePtr<GENERAL_NAMES> names(GENERAL_NAMES_new());
  bssl::UniquePtr<GENERAL_NAME> name(GENERAL_NAME_new());
  bssl::UniquePtr<ASN1_IA5STRING> text(ASN1_IA5STRING_new());
  if (!names || !name || !text ||
      ASN1_STRING_set(text.get(), uri.data(), static_cast<int>(uri.size())) != 1) {
    return false;
  }
  GENERAL_NAME_set0_value(name.get(), GEN_URI, text.release());
  return bssl::PushToStack(names.get(), std::move(name)) &&
         AddExtension(certificate, NID_subject_alt_name, names.get(), /*critical=*/false);
}

bool AddSubjectKeyId(X509* certificate) {
  const ASN1_BIT_STRING* key = X509_get0_pubkey_bitstr(certificate);
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
  SHA256(ASN1_STRING_get0_data(key), static_cast<std::size_t>(ASN1_STRING_length(key)),
         digest.data());
  const bssl::UniquePtr<ASN1_OCTET_STRING> id(ASN1_OCTET_STRING_new());
  return id && ASN1_OCTET_STRING_set(id.get(), digest.data(), kKeyIdBytes) == 1 &&
         AddExtension(certificate, NID_subject_key_identifier, id.get(), /*critical=*/false);
}

bool AddAuthorityKeyId(X509* certificate, const X509* issuer) {
  const bssl::UniquePtr<AUTHORITY_KEYID> id(AUTHORITY_KEYID_new());
  if (!id) {
    return false;
  }
  id->keyid = static_cast<ASN1_OCTET_STRING*>(
      X509_get_ext_d2i(issuer, NID_subject_key_identifier, nullptr, nullptr));
  // An issuer of other make may have no key identifier: then there is nothing to name.
  return id->keyid == nullptr ||
         AddExtension(certificate, NID_authority_key_identifier, id.get(), /*critical=*/false);
}

bool Fill(X509* certificate, EVP_PKEY* key, const CertificateProfile& profile, const X509* issuer) {
  return X509_set_version(certificate, X509_VERSION_3) == 1 && SetSerial(certificate) &&
         AddEntry(certificate, NID_organizationName, profile.organization) &&
         AddEntry(certificate, NID_commonName, profile.common_name) &&
         X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1 &&
         ASN1_TIME_set(X509_getm_notBefore(certificate), profile.not_before) != nullptr &&
         ASN1_TIME_set(X509_getm_notAfter(certificate), profile.not_after) != nullptr &&
         X509_set_pubkey(certificate, key) == 1 && AddBasicConstraints(certificate, profile.role) &&
         AddKeyUsage(certificate, profile.role) &&
         (profile.role != CertificateRole::kWorkload || AddExtendedKeyUsage(certificate)) &&
         AddUriName(certificate, profile.spiffe_id) && AddSubjectKeyId(certificate) &&
         (issuer == certificate || AddAuthorityKeyId(certificate, issuer));
}

std::string_view Contents(const BIO* bio) {
  const std::uint8_t* bytes = nullptr;
  std::size_t size = 0;
  return BIO_mem_contents(bio, &bytes, &size) == 1
             ? std::string_view(reinterpret_cast<const char*>(bytes), size)
             : std::string_view();
}

}  // namespace

base::Result<KeyedCertificate> MakeCertificate(const CertificateProfile& profile,
                                               const KeyedCertificate* issuer) {
  ERR_clear_error();
  KeyedCertificate made{.certificate = bssl::UniquePtr<X509>(X509_new()), .key = MakeKey()};
  const bool built = made.certificate && made.key &&
                     Fill(made.certificate.get(), made.key.get(), profile,
                          issuer != nullptr ? issuer->certificate.get() : made.certificate.get());
  if (!built ||
      X509_sign(made.certificate.get(), issuer != nullptr ? issuer->key.get() : made.key.get(),
                EVP_sha256()) <= 0) {
    return base::MakeError(
        base::ErrorCode::kInternal,
        "make a certificate for " + profile.spiffe_id + ": " + tls::TakeCryptoError("failed"));
  }
  return made;
}

base::Result<std::string> CertificatePem(const X509* certificate) {
  ERR_clear_error();
  const bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio_X509(bio.get(), const_cast<X509*>(certificate)) != 1) {
    return base::MakeError(base::ErrorCode::kInternal,
                           "write a certificate: " + tls::TakeCryptoError("failed"));
  }
  return std::string(Contents(bio.get()));
}

base::Result<tls::Secret> PrivateKeyPem(const EVP_PKEY* key) {
  ERR_clear_error();
  // BoringSSL wipes the memory of a BIO when it frees it.
  const bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio_PKCS8PrivateKey(bio.get(), const_cast<EVP_PKEY*>(key), nullptr, nullptr,
                                            0, nullptr, nullptr) != 1) {
    return base::MakeError(base::ErrorCode::kInternal,
                           "write a private key: " + tls::TakeCryptoError("failed"));
  }
  return tls::Secret(Contents(bio.get()));
}

bool KeyFits(const X509* certificate, const EVP_PKEY* key) {
  const bool fits = X509_check_private_key(const_cast<X509*>(certificate), key) == 1;
  ERR_clear_error();
  return fits;
}

std::string FormatTime(std::int64_t unix_seconds) {
  const std::time_t time = unix_seconds;
  std::tm parts{};
  std::array<char, 32> text{};
  if (::gmtime_r(&time, &parts) == nullptr ||
      std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
    return std::to_string(unix_seconds);
  }
  return text.data();
}

}  // namespace weir::identity
