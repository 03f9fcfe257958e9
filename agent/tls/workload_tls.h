#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/error.h"

namespace weir::tls {

// TrustBundles: trust domain -> its root certificates (PEM, one or more). A peer is
// verified with the bundle of its own trust domain only, never with a union.
using TrustBundles = std::map<std::string, std::string, std::less<>>;

// Material of one workload, as identity hands it over. The key is wiped by its owner.
struct SvidMaterial {
  std::string spiffe_id;
  std::string certificate_chain_pem;  // leaf first, then the node's intermediate
  std::string private_key_pem;        // PKCS#8, P-256
  std::int64_t not_before = 0;
  std::int64_t not_after = 0;
};

// WorkloadTls holds the BoringSSL contexts (client and server role) of one workload's
// SVID: TLS 1.3 only, mutual, peer chain verified by the X509-SVID rules, ALPN "weir/1"
// preferred and "h2" accepted as server. Immutable; any thread; sessions keep the one
// that they began with, so renewal never touches traffic.
class WorkloadTls {
 public:
  // Fails when the key does not match, the chain does not parse or verify, or a bundle
  // is empty; the error names which. `clock` decides validity and outlives the object.
  static base::Result<std::shared_ptr<const WorkloadTls>> Create(const SvidMaterial& material,
                                                                 const TrustBundles& bundles,
                                                                 const base::Clock& clock);
  WorkloadTls(const WorkloadTls&) = delete;
  WorkloadTls& operator=(const WorkloadTls&) = delete;
  virtual ~WorkloadTls() = default;
  [[nodiscard]] virtual const std::string& spiffe_id() const = 0;
  [[nodiscard]] virtual std::int64_t not_after() const = 0;

 protected:
  WorkloadTls() = default;
};

}  // namespace weir::tls
