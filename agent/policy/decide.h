#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/model/permissions.h"
#include "agent/model/snapshot.h"

namespace weir::policy {

// What is known of the other end of an inbound connection.
struct Peer {
  const model::SpiffeId* identity = nullptr;  // null: plain text, nobody proved anything
  const model::Workload* workload = nullptr;  // that the registry says it is; null: none
  // That the application's own TLS asks for: its claim, which proves nothing. Empty: none.
  std::string_view server_name{};
};

enum class Decision : std::uint8_t { kAllow, kDeny };

// What a decision is counted as.
enum class Outcome : std::uint8_t {
  kAllow,       // by a rule
  kShadowDeny,  // by a rule that is about to become a denial
  kPlainText,   // nobody's identity, to a permissive workload
  kDeny,
};
inline constexpr std::size_t kOutcomeCount = static_cast<std::size_t>(Outcome::kDeny) + 1;
std::string_view ToString(Outcome outcome);  // "allow", "shadow-deny", "plaintext", "deny"

struct Verdict {
  Decision decision = Decision::kDeny;
  Outcome outcome = Outcome::kDeny;
  std::string_view rule;                              // static text or a view into the snapshot
  const model::PermissionRule* permission = nullptr;  // the document's rule, if one decided
};

// Names of decisions that no document's rule made.
inline constexpr std::string_view kPermissiveRule = "permissive";
inline constexpr std::string_view kStrictRule = "strict-needs-mtls";
inline constexpr std::string_view kOtherDomainRule = "other-trust-domain";
inline constexpr std::string_view kDefaultRule = "default-deny";

// Decide says whether `peer` may connect to `port` of `destination`. Who proved an identity
// of the trust domain is judged by the destination's permissions, and denied when no rule is
// for them; plain text is let in by permissive workloads alone. The cost does not depend on
// the number of rules. Pure; any thread; the views die with the snapshot.
Verdict Decide(const model::Snapshot& snapshot, const Peer& peer,
               const model::LocalWorkload& destination, std::uint16_t port);

}  // namespace weir::policy
