#include "agent/tls/svid_verifier.h"

#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/tls/spiffe_uri.h"
#include "agent/tls/x509_util.h"

namespace weir::tls {
namespace {

constexpr std::size_t kMaxBundleCertificates = 64;
constexpr unsigned kMinRsaBits = 2048;

using CertificatePtr = bssl::UniquePtr<X509>;
using Outcome = std::expected<void, SvidFault>;

constexpr auto Fault = [](SvidFault fault) { return std::unexpected(fault); };

// BoringSSL caches parsed extensions behind a non-const pointer, under its own lock.
X509* Mutable(const X509* certificate) {
  return const_cast<X509*>(certificate);
}

bool HasCriticalKeyUsage(const X509* certificate) {
  const int index = X509_get_ext_by_NID(certificate, NID_key_usage, -1);
  return index >= 0 && X509_get_ext_by_NID(certificate, NID_key_usage, index) < 0 &&
         X509_EXTENSION_get_critical(X509_get_ext(certificate, index)) != 0;
}

bool IsCa(const X509* certificate) {
  return (X509_get_extension_flags(Mutable(certificate)) & EXFLAG_CA) != 0;
}

// X509-SVID section 4.4: an extended key usage, if there, must allow both roles.
bool AllowsBothRoles(const X509* leaf) {
  if ((X509_get_extension_flags(Mutable(leaf)) & EXFLAG_XKUSAGE) == 0) {
    return true;
  }
  constexpr std::uint32_t kBoth = XKU_SSL_SERVER | XKU_SSL_CLIENT;
  return (X509_get_extended_key_usage(Mutable(leaf)) & kBoth) == kBoth;
}

bool IsStrongKey(const X509* certificate) {
  const bssl::UniquePtr<EVP_PKEY> key(X509_get_pubkey(Mutable(certificate)));
  if (!key) {
    ERR_clear_error();
    return false;
  }
  switch (EVP_PKEY_id(key.get())) {
    case EVP_PKEY_RSA:
      return RSA_bits(EVP_PKEY_get0_RSA(key.get())) >= kMinRsaBits;
    case EVP_PKEY_EC: {
      const int curve = EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(key.get())));
      return curve == NID_X9_62_prime256v1 || curve == NID_secp384r1 || curve == NID_secp521r1;
    }
    case EVP_PKEY_ED25519:
      return true;
    default:
      return false;
  }
}

bool IsStrongSignature(const X509* certificate) {
  switch (X509_get_signature_nid(certificate)) {
    case NID_ecdsa_with_SHA256:
    case NID_ecdsa_with_SHA384:
    case NID_ecdsa_with_SHA512:
    case NID_sha256WithRSAEncryption:
    case NID_sha384WithRSAEncryption:
    case NID_sha512WithRSAEncryption:
    case NID_ED25519:
      return true;
    default:
      return false;
  }
}

// The leaf's own clauses; gives its SPIFFE ID.
std::expected<std::string, SvidFault> CheckLeaf(const X509* leaf) {
  auto names = ReadUriNames(leaf);
  if (!names || (X509_get_extension_flags(Mutable(leaf)) & EXFLAG_INVALID) != 0) {
    return Fault(SvidFault::kMalformed);
  }
  if (names->uris.size() != 1) {
    return Fault(SvidFault::kNotOneUri);
  }
  const auto uri = ParseSpiffeUri(names->uris.front());
  if (!uri) {
    return Fault(SvidFault::kBadSpiffeId);
  }
  if (uri->path.empty()) {
    return Fault(SvidFault::kRootPath);
  }
  if (!names->critical && X509_NAME_entry_count(X509_get_subject_name(leaf)) == 0) {
    return Fault(SvidFault::kUriNotCritical);
  }
  if (IsCa(leaf)) {
    return Fault(SvidFault::kLeafIsCa);
  }
  const std::uint32_t usage = X509_get_key_usage(Mutable(leaf));
  if (!HasCriticalKeyUsage(leaf) || (usage & KU_DIGITAL_SIGNATURE) == 0) {
    return Fault(SvidFault::kKeyUsage);
  }
  if ((usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) != 0) {
    return Fault(SvidFault::kLeafSigns);
  }
  if (!AllowsBothRoles(leaf)) {
    return Fault(SvidFault::kExtendedKeyUsage);
  }
  return std::move(names->uris.front());
}

// X509-SVID section 5: what every certificate above the leaf must be.
Outcome CheckSigner(const X509* signer, std::string_view trust_domain) {
  if (!IsCa(signer)) {
    return Fault(SvidFault::kSignerNotCa);
  }
  if (!HasCriticalKeyUsage(signer) ||
      (X509_get_key_usage(Mutable(signer)) & KU_KEY_CERT_SIGN) == 0) {
    return Fault(SvidFault::kSignerKeyUsage);
  }
  const auto names = ReadUriNames(signer);
  if (!names || names->uris.size() > 1) {
    return Fault(SvidFault::kSignerName);
  }
  if (names->uris.empty()) {
    return {};
  }
  const auto uri = ParseSpiffeUri(names->uris.front());
  if (!uri || !uri->path.empty() || uri->trust_domain != trust_domain) {
    return Fault(SvidFault::kSignerName);
  }
  return {};
}

// Validity with the tolerated skew; lowers `not_after` to that of the certificate.
Outcome CheckTime(const X509* certificate, std::int64_t now, std::int64_t& not_after) {
  const auto begin = UnixSeconds(X509_get0_notBefore(certificate));
  const auto end = UnixSeconds(X509_get0_notAfter(certificate));
  if (!begin || !end) {
    return Fault(SvidFault::kMalformed);
  }
  if (now + kClockSkewSeconds < *begin) {
    return Fault(SvidFault::kNotYetValid);
  }
  if (now >= *end) {
    return Fault(SvidFault::kExpired);
  }
  not_after = std::min(not_after, *end);
  return {};
}

// Lets path building go on over dates only: CheckTime decides about those.
int IgnoreDates(int ok, X509_STORE_CTX* context) {
  const int error = X509_STORE_CTX_get_error(context);
  return ok != 0 || error == X509_V_ERR_CERT_NOT_YET_VALID || error == X509_V_ERR_CERT_HAS_EXPIRED
             ? 1
             : 0;
}

SvidFault PathFault(int error) {
  switch (error) {
    case X509_V_ERR_INVALID_CA:
      return SvidFault::kSignerNotCa;
    case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
      return SvidFault::kSignerKeyUsage;
    case X509_V_ERR_PATH_LENGTH_EXCEEDED:
    case X509_V_ERR_CERT_CHAIN_TOO_LONG:
      return SvidFault::kPathLength;
    case X509_V_ERR_PERMITTED_VIOLATION:
    case X509_V_ERR_EXCLUDED_VIOLATION:
    case X509_V_ERR_SUBTREE_MINMAX:
    case X509_V_ERR_UNSUPPORTED_CONSTRAINT_TYPE:
    case X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX:
    case X509_V_ERR_UNSUPPORTED_NAME_SYNTAX:
      return SvidFault::kNameConstraint;
    default:
      return SvidFault::kUntrusted;
  }
}

// A verified path, leaf first, and what it was built from.
struct Path {
  bssl::UniquePtr<STACK_OF(X509)> untrusted;  // the context points to it
  bssl::UniquePtr<X509_STORE_CTX> context;
  [[nodiscard]] const STACK_OF(X509) * certificates() const {
    return X509_STORE_CTX_get0_chain(context.get());
  }
};

// Builds and checks the path by RFC 5280, dates aside.
std::expected<Path, SvidFault> BuildPath(X509_STORE* roots,
                                         const std::vector<CertificatePtr>& presented) {
  Path path{.untrusted = bssl::UniquePtr<STACK_OF(X509)>(sk_X509_new_null()),
            .context = bssl::UniquePtr<X509_STORE_CTX>(X509_STORE_CTX_new())};
  for (std::size_t i = 1; i < presented.size(); ++i) {
    if (!bssl::PushToStack(path.untrusted.get(), bssl::UpRef(presented[i]))) {
      return Fault(SvidFault::kUntrusted);
    }
  }
  X509_STORE_CTX* context = path.context.get();
  ERR_clear_error();
  if (X509_STORE_CTX_init(context, roots, presented.front().get(), path.untrusted.get()) == 0) {
    ERR_clear_error();
    return Fault(SvidFault::kUntrusted);
  }
  X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context);
  X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_TRUSTED_FIRST);
  X509_VERIFY_PARAM_set_depth(parameters, static_cast<int>(kMaxChainCertificates));
  X509_STORE_CTX_set_verify_cb(context, IgnoreDates);
  const bool verified = X509_verify_cert(context) == 1;
  ERR_clear_error();
  if (!verified) {
    return Fault(PathFault(X509_STORE_CTX_get_error(context)));
  }
  return path;
}

// Which node signed the leaf, from the certificate right above it. Nodes sign leaves
// only: a node's name further up means that a node made another node.
std::expected<std::string, SvidFault> NodeOf(const STACK_OF(X509) * path) {
  std::string node;
  for (std::size_t i = 1; i < sk_X509_num(path); ++i) {
    const X509* signer = sk_X509_value(path, i);
    if (SubjectEntry(signer, NID_organizationName) != kNodeOrganization) {
      continue;
    }
    if (i != 1) {
      return Fault(SvidFault::kSignerName);
    }
    node = SubjectEntry(signer, NID_commonName);
  }
  return node;
}

std::expected<std::vector<CertificatePtr>, SvidFault> ParseChain(std::span<const io::Bytes> chain) {
  if (chain.empty()) {
    return Fault(SvidFault::kNoCertificate);
  }
  if (chain.size() > kMaxChainCertificates) {
    return Fault(SvidFault::kChainTooLong);
  }
  std::vector<CertificatePtr> parsed;
  for (const io::Bytes der : chain) {
    if (der.size() > kMaxCertificateBytes) {
      return Fault(SvidFault::kChainTooLong);
    }
    const std::uint8_t* at = der.data();
    CertificatePtr certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
    ERR_clear_error();
    if (!certificate || at != der.data() + der.size()) {
      return Fault(SvidFault::kMalformed);
    }
    parsed.push_back(std::move(certificate));
  }
  return parsed;
}

// Every certificate of the path as weir wants it; gives the earliest not-after.
std::expected<std::int64_t, SvidFault> CheckPath(const STACK_OF(X509) * path,
                                                 std::string_view trust_domain, std::int64_t now) {
  std::int64_t not_after = std::numeric_limits<std::int64_t>::max();
  const std::size_t count = sk_X509_num(path);
  for (std::size_t i = 0; i < count; ++i) {
    const X509* certificate = sk_X509_value(path, i);
    const bool is_root = i + 1 == count;  // trusted as it is: its own signature proves nothing
    if (!IsStrongKey(certificate)) {
      return Fault(SvidFault::kWeakKey);
    }
    if (!is_root && !IsStrongSignature(certificate)) {
      return Fault(SvidFault::kWeakSignature);
    }
    if (i > 0) {
      if (const auto signer = CheckSigner(certificate, trust_domain); !signer) {
        return Fault(signer.error());
      }
    }
    if (const auto valid = CheckTime(certificate, now, not_after); !valid) {
      return Fault(valid.error());
    }
  }
  return not_after;
}

}  // namespace

struct SvidVerifier::Stores {
  std::map<std::string, bssl::UniquePtr<X509_STORE>, std::less<>> by_trust_domain;
};

SvidVerifier::SvidVerifier(std::unique_ptr<Stores> stores, const base::Clock& clock)
    : stores_(std::move(stores)), clock_(&clock) {}
SvidVerifier::SvidVerifier(SvidVerifier&& other) noexcept = default;
SvidVerifier& SvidVerifier::operator=(SvidVerifier&& other) noexcept = default;
SvidVerifier::~SvidVerifier() = default;

base::Result<SvidVerifier> SvidVerifier::Create(const TrustBundles& bundles,
                                                const base::Clock& clock) {
  if (bundles.empty()) {
    return base::MakeError(base::ErrorCode::kInvalidArgument, "no trust bundle");
  }
  auto stores = std::make_unique<Stores>();
  for (const auto& [trust_domain, pem] : bundles) {
    auto roots =
        ParsePemCertificates(pem, "trust bundle of " + trust_domain, kMaxBundleCertificates);
    if (!roots) {
      return std::unexpected(roots.error());
    }
    bssl::UniquePtr<X509_STORE> store(X509_STORE_new());
    for (const auto& root : *roots) {
      if (!store || X509_STORE_add_cert(store.get(), root.get()) == 0) {
        return base::MakeError(
            base::ErrorCode::kInvalidArgument,
            "trust bundle of " + trust_domain + ": " + TakeCryptoError("unusable certificate"));
      }
    }
    stores->by_trust_domain.emplace(trust_domain, std::move(store));
  }
  return SvidVerifier(std::move(stores), clock);
}

std::expected<PeerInfo, SvidFault> SvidVerifier::Verify(std::span<const io::Bytes> chain) const {
  const auto presented = ParseChain(chain);
  if (!presented) {
    return Fault(presented.error());
  }
  auto spiffe_id = CheckLeaf(presented->front().get());
  if (!spiffe_id) {
    return Fault(spiffe_id.error());
  }
  const std::string_view trust_domain = ParseSpiffeUri(*spiffe_id)->trust_domain;
  const auto store = stores_->by_trust_domain.find(trust_domain);
  if (store == stores_->by_trust_domain.end()) {
    return Fault(SvidFault::kUnknownTrustDomain);
  }
  const auto path = BuildPath(store->second.get(), *presented);
  if (!path) {
    return Fault(path.error());
  }
  const auto now = std::chrono::floor<std::chrono::seconds>(clock_->WallNow());
  const auto not_after =
      CheckPath(path->certificates(), trust_domain, now.time_since_epoch().count());
  if (!not_after) {
    return Fault(not_after.error());
  }
  auto node = NodeOf(path->certificates());
  if (!node) {
    return Fault(node.error());
  }
  return PeerInfo{
      .spiffe_id = std::move(*spiffe_id), .node = std::move(*node), .not_after = *not_after};
}

std::string_view ToString(SvidFault fault) {
  switch (fault) {
    case SvidFault::kNoCertificate:
      return "no-certificate";
    case SvidFault::kChainTooLong:
      return "chain-too-long";
    case SvidFault::kMalformed:
      return "malformed-certificate";
    case SvidFault::kNotOneUri:
      return "not-one-uri-name";
    case SvidFault::kBadSpiffeId:
      return "bad-spiffe-id";
    case SvidFault::kRootPath:
      return "no-workload-path";
    case SvidFault::kUriNotCritical:
      return "uri-name-not-critical";
    case SvidFault::kLeafIsCa:
      return "leaf-is-ca";
    case SvidFault::kKeyUsage:
      return "key-usage";
    case SvidFault::kLeafSigns:
      return "leaf-may-sign-certificates";
    case SvidFault::kExtendedKeyUsage:
      return "extended-key-usage";
    case SvidFault::kUnknownTrustDomain:
      return "unknown-trust-domain";
    case SvidFault::kUntrusted:
      return "untrusted-chain";
    case SvidFault::kNameConstraint:
      return "name-constraint";
    case SvidFault::kPathLength:
      return "path-length";
    case SvidFault::kSignerNotCa:
      return "signer-is-not-ca";
    case SvidFault::kSignerKeyUsage:
      return "signer-key-usage";
    case SvidFault::kSignerName:
      return "signer-name";
    case SvidFault::kWeakKey:
      return "weak-key";
    case SvidFault::kWeakSignature:
      return "weak-signature";
    case SvidFault::kNotYetValid:
      return "not-yet-valid";
    case SvidFault::kExpired:
      return "expired";
  }
  return "unknown";
}

}  // namespace weir::tls
