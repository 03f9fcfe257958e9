#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <cstdint>
#include <string>

#include "agent/base/error.h"
#include "agent/tls/secret.h"

// Making of certificates, for this module's .cc files only.
namespace weir::identity {

enum class CertificateRole : std::uint8_t {
  kRoot,      // CA; signs intermediates
  kNode,      // CA; signs leaves only
  kWorkload,  // the SVID of a workload
};

struct CertificateProfile {
  CertificateRole role = CertificateRole::kWorkload;
  std::string organization;
  std::string common_name;  // none if empty
  std::string spiffe_id;    // the only subject alternative name; validated by the caller
  std::int64_t not_before = 0;
  std::int64_t not_after = 0;
};

// A certificate and the key that goes with it.
struct KeyedCertificate {
  bssl::UniquePtr<X509> certificate;
  bssl::UniquePtr<EVP_PKEY> key;
};

// Makes a fresh P-256 key and a certificate for it with a random 128-bit serial number,
// signed with ECDSA and SHA-256 by `issuer`, or by itself if that is null.
base::Result<KeyedCertificate> MakeCertificate(const CertificateProfile& profile,
                                               const KeyedCertificate* issuer);

base::Result<std::string> CertificatePem(const X509* certificate);
base::Result<tls::Secret> PrivateKeyPem(const EVP_PKEY* key);

// Whether `key` is the private key of `certificate`.
bool KeyFits(const X509* certificate, const EVP_PKEY* key);

// "2026-11-23T22:13:20Z", for messages.
std::string FormatTime(std::int64_t unix_seconds);

}  // namespace weir::identity
