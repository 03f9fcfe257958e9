#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/model/identity.h"
#include "agent/tls/workload_tls.h"

namespace weir::identity {

// Paths of what `weir ca node` made for this node, and of the root (one or more
// certificates while roots roll).
struct NodeCaFiles {
  std::string certificate;  // the node's intermediate, then any above it but the root
  std::string key;
  std::string bundle;
};

// An SVID as NodeCa issued it; times in seconds since 1970.
struct IssuedSvid {
  tls::SvidMaterial material;
  std::string serial;  // hexadecimal
  std::int64_t not_before = 0;
  std::int64_t not_after = 0;
};

// NodeCa is this node's certificate authority: the intermediate and its key in memory.
// Immutable; one thread.
class NodeCa {
 public:
  // Reads and checks the files. One error each, with the remedy, for a file that is
  // missing (kNotFound), a key that everybody may read (kPermission), a certificate that
  // has expired or is not valid yet (kUnavailable), and (kInvalidArgument) one that does
  // not fit its key, is no CA, names another node or another trust domain, or was not
  // signed by the bundle. Blocks.
  static base::Result<std::unique_ptr<NodeCa>> Load(const NodeCaFiles& files,
                                                    const std::string& node,
                                                    const std::string& trust_domain,
                                                    const base::Clock& clock);
  NodeCa(const NodeCa&) = delete;
  NodeCa& operator=(const NodeCa&) = delete;
  ~NodeCa();

  // Signs an SVID with a fresh P-256 key, dated back by kBackDating, for `lifetime` from
  // now but never beyond the intermediate. kUnavailable once that has expired.
  [[nodiscard]] base::Result<IssuedSvid> Issue(const model::SpiffeId& identity,
                                               std::chrono::seconds lifetime) const;

  // The roots as read, for TrustBundles.
  [[nodiscard]] const std::string& bundle_pem() const;
  // When each root of the bundle ends, seconds since 1970; at least one.
  [[nodiscard]] const std::vector<std::int64_t>& root_ends() const;
  [[nodiscard]] const std::string& serial() const;
  [[nodiscard]] std::int64_t not_before() const;
  [[nodiscard]] std::int64_t not_after() const;  // of the intermediate

 private:
  struct State;
  explicit NodeCa(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weir::identity
