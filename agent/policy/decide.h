#pragma once

#include <cstdint>
#include <string_view>

#include "agent/model/snapshot.h"

namespace weir::policy {

// What is known of the other end of an inbound connection.
struct Peer {
  const model::SpiffeId* identity = nullptr;  // null: plain text, nobody proved anything
};

enum class Decision : std::uint8_t { kAllow, kDeny };

struct Verdict {
  Decision decision = Decision::kDeny;
  std::string_view rule;  // static text or a view into the snapshot
};

// Decide says whether `peer` may connect to `destination`. Strict workloads admit
// every verified workload of the trust domain and nobody else; permissive ones admit
// plain text too. Pure; any thread; `rule` dies with `snapshot`.
Verdict Decide(const model::Snapshot& snapshot, const Peer& peer,
               const model::LocalWorkload& destination);

}  // namespace weir::policy
