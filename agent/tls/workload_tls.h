#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/tls/secret.h"

namespace weir::tls {

// ALPN names of a tunnel: weir's own on an original port, HTTP/2's on port 15008.
inline constexpr std::string_view kAlpnWeir = "weir/1";
inline constexpr std::string_view kAlpnH2 = "h2";

// TrustBundles: trust domain -> its root certificates (PEM, one or more). A peer is
// verified with the bundle of its own trust domain only, never with a union.
using TrustBundles = std::map<std::string, std::string, std::less<>>;

// Material of one workload, as identity hands it over.
struct SvidMaterial {
  std::string spiffe_id;
  std::string certificate_chain_pem;  // leaf first, then the node's intermediate
  Secret private_key_pem;             // PKCS#8, P-256
};

// WorkloadTls holds the BoringSSL contexts (client and server role) of one workload's
// SVID: TLS 1.3 only, mutual, peer chain verified by the X509-SVID rules, ALPN "weir/1"
// preferred and "h2" accepted as server, no session tickets. Immutable; any thread;
// engines keep the one that they began with, so renewal never touches traffic.
class WorkloadTls {
 public:
  struct Contexts;  // of BoringSSL, for the engine

  // Fails when the key does not match, the chain does not parse or verify, or a bundle
  // is empty; the error names which. `clock` decides validity and outlives the object.
  static base::Result<std::shared_ptr<const WorkloadTls>> Create(const SvidMaterial& material,
                                                                 const TrustBundles& bundles,
                                                                 const base::Clock& clock);
  WorkloadTls(const WorkloadTls&) = delete;
  WorkloadTls& operator=(const WorkloadTls&) = delete;
  ~WorkloadTls();

  [[nodiscard]] const std::string& spiffe_id() const { return spiffe_id_; }
  // Of the chain: the earliest of the leaf's and its signers' ends, seconds since 1970.
  [[nodiscard]] std::int64_t not_after() const { return not_after_; }
  [[nodiscard]] const Contexts& contexts() const { return *contexts_; }

 private:
  WorkloadTls(std::unique_ptr<Contexts> contexts, std::string spiffe_id, std::int64_t not_after);

  std::unique_ptr<Contexts> contexts_;
  std::string spiffe_id_;
  std::int64_t not_after_;
};

}  // namespace weir::tls
