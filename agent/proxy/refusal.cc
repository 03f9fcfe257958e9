#include "agent/proxy/refusal.h"

#include <algorithm>
#include <array>

namespace weir::proxy {

using observe::Reason;

namespace {

// What can be wrong at the far end. The others speak of what only the near one can know.
constexpr std::array kBelieved = {
    Reason::kNoIdentity,           Reason::kUnknownDestination, Reason::kUpstreamRefused,
    Reason::kUpstreamUnreachable,  Reason::kUpstreamTimeout,    Reason::kUpstreamReset,
    Reason::kPeerIdentityMismatch, Reason::kPeerNodeMismatch,   Reason::kCertificateExpired,
    Reason::kPlaintextRefused,     Reason::kLimitReached,       Reason::kDraining,
    Reason::kNamespaceGone,        Reason::kPolicyDenied,
};

Reason ReasonOfStatus(std::uint16_t status) {
  switch (status) {
    case 503:
      return Reason::kUpstreamRefused;
    case 504:
      return Reason::kUpstreamTimeout;
    case 502:
      return Reason::kUpstreamUnreachable;
    case 403:
      return Reason::kPolicyDenied;
    default:
      return Reason::kTunnelRefused;
  }
}

}  // namespace

std::uint16_t StatusOf(Reason reason) {
  switch (reason) {
    case Reason::kUpstreamRefused:
      return 503;
    case Reason::kUpstreamTimeout:
      return 504;
    case Reason::kPolicyDenied:
    case Reason::kPeerIdentityMismatch:
    case Reason::kPeerNodeMismatch:
      return 403;
    case Reason::kLimitReached:
      return 429;
    case Reason::kBadRequest:
      return 400;
    case Reason::kUnknownDestination:
      return 404;
    default:
      return 502;
  }
}

Reason ReasonOfRefusal(std::uint16_t status, std::optional<std::string_view> said) {
  if (!said) {
    return ReasonOfStatus(status);
  }
  const auto* const found =
      std::ranges::find(kBelieved, *said, [](Reason reason) { return observe::ToString(reason); });
  if (found == kBelieved.end()) {
    return Reason::kTunnelRefused;
  }
  const bool of_us = *found == Reason::kPeerIdentityMismatch || *found == Reason::kPeerNodeMismatch;
  return of_us ? Reason::kRefusedByPeer : *found;
}

}  // namespace weir::proxy
