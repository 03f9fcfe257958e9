#pragma once

#include <cstdint>
#include <string>

namespace weir::tls {

// PeerInfo is what a verified X509-SVID chain proved (X509-SVID sections 2 to 5).
struct PeerInfo {
  std::string spiffe_id;       // the leaf's only URI SAN
  std::string node;            // the node that the issuing intermediate names; empty if the
                               // leaf was not issued by a node's intermediate
  std::int64_t not_after = 0;  // the chain's earliest, seconds since 1970
};

}  // namespace weir::tls
