#include "agent/policy/decide.h"

#include <string>

namespace weir::policy {
namespace {

Verdict Deny(std::string_view rule) {
  return {.decision = Decision::kDeny, .outcome = Outcome::kDeny, .rule = rule};
}

Verdict VerdictOf(const model::PermissionRule& rule) {
  Verdict verdict{.rule = rule.name, .permission = &rule};
  switch (rule.effect) {
    case model::PermissionEffect::kDeny:
      break;
    case model::PermissionEffect::kAllowWithShadowDeny:
      verdict.decision = Decision::kAllow;
      verdict.outcome = Outcome::kShadowDeny;
      break;
    case model::PermissionEffect::kAllow:
      verdict.decision = Decision::kAllow;
      verdict.outcome = Outcome::kAllow;
      break;
  }
  return verdict;
}

}  // namespace

std::string_view ToString(Outcome outcome) {
  switch (outcome) {
    case Outcome::kAllow:
      return "allow";
    case Outcome::kShadowDeny:
      return "shadow-deny";
    case Outcome::kPlainText:
      return "plaintext";
    case Outcome::kDeny:
      return "deny";
  }
  return "unknown";
}

Verdict Decide(const model::Snapshot& snapshot, const Peer& peer,
               const model::LocalWorkload& destination, std::uint16_t port) {
  if (peer.identity == nullptr) {
    if (destination.tls_mode == model::TlsMode::kPermissive) {
      return {
          .decision = Decision::kAllow, .outcome = Outcome::kPlainText, .rule = kPermissiveRule};
    }
    return Deny(kStrictRule);
  }
  if (peer.identity->trust_domain() != snapshot.trust_domain()) {
    return Deny(kOtherDomainRule);
  }
  const model::PermissionSet* permissions = destination.permissions.Of(port);
  if (permissions == nullptr) {
    return Deny(kDefaultRule);
  }
  const std::string workload = permissions->uses_workloads() && peer.workload != nullptr
                                   ? peer.workload->display_name()
                                   : std::string();
  const model::PermissionRule* rule = permissions->Find(
      {.spiffe_id = peer.identity->uri(), .workload = workload, .server_name = peer.server_name});
  return rule == nullptr ? Deny(kDefaultRule) : VerdictOf(*rule);
}

}  // namespace weir::policy
