// Envoy's response flags, by which users of its logs filter.
#include <string_view>

#include "agent/export/access_log_line.h"

namespace weir::telemetry {

std::string_view ResponseFlag(observe::Reason reason) {
  using observe::Reason;
  switch (reason) {
    case Reason::kNone:
      return {};
    case Reason::kNoOriginalDestination:
    case Reason::kUnknownDestination:
      return "NR";  // no route
    case Reason::kNoIdentity:
    case Reason::kUpstreamRefused:
    case Reason::kUpstreamUnreachable:
    case Reason::kTlsHandshakeFailed:
    case Reason::kTlsHandshakeTimeout:
    case Reason::kPeerIdentityMismatch:
    case Reason::kPeerNodeMismatch:
    case Reason::kPeerUntrusted:
    case Reason::kRefusedByPeer:
    case Reason::kWitnessRefused:
    case Reason::kTunnelRefused:
      return "UF";  // upstream connection failure
    case Reason::kUpstreamTimeout:
      return "UT";
    case Reason::kUpstreamReset:
      return "UR";
    case Reason::kDownstreamReset:
      return "DC";
    case Reason::kTunnelClosed:
    case Reason::kCertificateExpired:
    case Reason::kNamespaceGone:
    case Reason::kDraining:
      return "UC";  // upstream connection termination
    case Reason::kTunnelProtocol:
    case Reason::kBadResponse:
    case Reason::kHttp2Protocol:  // by either end; the record does not say by which
      return "UPE";
    case Reason::kHeaderTimeout:
    case Reason::kBadRequest:
    case Reason::kUriTooLong:
    case Reason::kHeadersTooLarge:
      return "DPE";
    case Reason::kPlaintextRefused:
    case Reason::kPolicyDenied:
      return "UAEX";  // refused by authorisation
    case Reason::kLimitReached:
      return "UO";  // overflow
    case Reason::kInternal:
      return "LR";  // reset by the proxy itself
  }
  return {};
}

}  // namespace weir::telemetry
