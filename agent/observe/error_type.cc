#include "agent/observe/error_type.h"

#include <string>

#include "agent/observe/record.h"

namespace weir::observe {
namespace {

// How a request's end is judged: by its status alone, or as a failure of the network.
bool IsFailure(Reason reason) {
  switch (reason) {
    case Reason::kNone:
    case Reason::kDownstreamReset:  // the caller's own wish
    case Reason::kHeaderTimeout:    // these are answered with a status
    case Reason::kBadRequest:
    case Reason::kUriTooLong:
    case Reason::kHeadersTooLarge:
    case Reason::kPolicyDenied:
      return false;
    case Reason::kNoOriginalDestination:
    case Reason::kNoIdentity:
    case Reason::kUnknownDestination:
    case Reason::kUpstreamRefused:
    case Reason::kUpstreamUnreachable:
    case Reason::kUpstreamTimeout:
    case Reason::kUpstreamReset:
    case Reason::kTlsHandshakeFailed:
    case Reason::kTlsHandshakeTimeout:
    case Reason::kPeerIdentityMismatch:
    case Reason::kPeerNodeMismatch:
    case Reason::kPeerUntrusted:
    case Reason::kCertificateExpired:
    case Reason::kPlaintextRefused:
    case Reason::kWitnessRefused:
    case Reason::kTunnelClosed:
    case Reason::kTunnelRefused:
    case Reason::kTunnelProtocol:
    case Reason::kBadResponse:
    case Reason::kLimitReached:
    case Reason::kDraining:
    case Reason::kNamespaceGone:
    case Reason::kInternal:
      return true;
  }
  return true;
}

}  // namespace

std::string ErrorType(const Flow& flow, bool is_client) {
  if (IsFailure(flow.reason)) {
    return std::string(ToString(flow.reason));
  }
  const unsigned status = flow.http ? flow.http->status : 0U;
  if (status >= (is_client ? 400U : 500U)) {
    return std::to_string(status);
  }
  const bool is_refused = flow.reason != Reason::kNone && flow.reason != Reason::kDownstreamReset;
  return status == 0 && is_refused ? std::string(ToString(flow.reason)) : std::string();
}

}  // namespace weir::observe
