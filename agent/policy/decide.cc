#include "agent/policy/decide.h"

namespace weir::policy {

Verdict Decide(const model::Snapshot& snapshot, const Peer& peer,
               const model::LocalWorkload& destination) {
  if (peer.identity == nullptr) {
    if (destination.tls_mode == model::TlsMode::kPermissive) {
      return {.decision = Decision::kAllow, .rule = "permissive"};
    }
    return {.decision = Decision::kDeny, .rule = "strict-needs-mtls"};
  }
  if (peer.identity->trust_domain() != snapshot.trust_domain()) {
    return {.decision = Decision::kDeny, .rule = "other-trust-domain"};
  }
  return {.decision = Decision::kAllow, .rule = "trust-domain-member"};
}

}  // namespace weir::policy
