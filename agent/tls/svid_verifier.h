#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/io/byte_buffer.h"
#include "agent/tls/peer.h"
#include "agent/tls/workload_tls.h"

namespace weir::tls {

// Why a chain is not an X509-SVID that weir accepts: one enumerator per rule of the
// X509-SVID standard (sections 2 to 5) and of RFC 5280.
enum class SvidFault : std::uint8_t {
  kNoCertificate,
  kChainTooLong,    // more than kMaxChainCertificates, or a certificate too big
  kMalformed,       // does not parse as X.509
  kNotOneUri,       // not exactly one URI name in the leaf
  kBadSpiffeId,     // the URI is no SPIFFE ID (case and percent-encoding included)
  kRootPath,        // the leaf names the trust domain, not a workload
  kUriNotCritical,  // empty subject, but the names are not critical
  kLeafIsCa,
  kKeyUsage,            // leaf: missing, not critical, no digitalSignature
  kLeafSigns,           // leaf: keyCertSign or cRLSign
  kExtendedKeyUsage,    // present without both serverAuth and clientAuth
  kUnknownTrustDomain,  // no bundle for the peer's trust domain
  kUntrusted,           // no path to a root of that bundle
  kNameConstraint,
  kPathLength,
  kSignerNotCa,
  kSignerKeyUsage,  // missing, not critical, no keyCertSign
  kSignerName,      // a signer that names a workload or another trust domain
  kWeakKey,         // RSA below 2048 bits, or an unusual curve
  kWeakSignature,   // anything older than SHA-256
  kNotYetValid,     // beyond the tolerated skew
  kExpired,
};
// Text of `fault` as counters and logs show it, for example "expired".
std::string_view ToString(SvidFault fault);

// Most certificates a peer may present, its leaf included.
inline constexpr std::size_t kMaxChainCertificates = 5;
inline constexpr std::size_t kMaxCertificateBytes = 16384;
// How far a peer's clock may run ahead: tolerated on not-before only (F23).
inline constexpr std::int64_t kClockSkewSeconds = 120;
// What the subject's organisation says in the intermediate of a node; its common name
// is the node's name.
inline constexpr std::string_view kNodeOrganization = "weir node";

// SvidVerifier decides whether a presented chain is a valid X509-SVID, and whose. The
// bundle is that of the peer's own trust domain, never a union. Immutable; any thread.
class SvidVerifier {
 public:
  // Fails when there is no bundle, or one has no readable certificate; the error names
  // the trust domain. `clock` decides validity and outlives the object.
  static base::Result<SvidVerifier> Create(const TrustBundles& bundles, const base::Clock& clock);
  SvidVerifier(SvidVerifier&& other) noexcept;
  SvidVerifier& operator=(SvidVerifier&& other) noexcept;
  SvidVerifier(const SvidVerifier&) = delete;
  SvidVerifier& operator=(const SvidVerifier&) = delete;
  ~SvidVerifier();

  // `chain` is DER, leaf first, as the peer presented it.
  [[nodiscard]] std::expected<PeerInfo, SvidFault> Verify(std::span<const io::Bytes> chain) const;

 private:
  struct Stores;
  SvidVerifier(std::unique_ptr<Stores> stores, const base::Clock& clock);
  std::unique_ptr<Stores> stores_;
  const base::Clock* clock_;
};

}  // namespace weir::tls
