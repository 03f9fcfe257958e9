#include "agent/observe/error_type.h"

#include <string>

#include "agent/observe/grpc_status.h"
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
    case Reason::kRefusedByPeer:
    case Reason::kCertificateExpired:
    case Reason::kPlaintextRefused:
    case Reason::kWitnessRefused:
    case Reason::kTunnelClosed:
    case Reason::kTunnelRefused:
    case Reason::kTunnelProtocol:
    case Reason::kBadResponse:
    case Reason::kHttp2Protocol:
    case Reason::kLimitReached:
    case Reason::kDraining:
    case Reason::kNamespaceGone:
    case Reason::kPolicyDenied:  // has a status, too, but not the application's
    case Reason::kInternal:
      return true;
  }
  return true;
}

// A server is not to blame for what its caller did wrong (semantic conventions, gRPC).
bool IsGrpcError(int code, bool is_client) {
  switch (code) {
    case 2:   // UNKNOWN
    case 4:   // DEADLINE_EXCEEDED
    case 12:  // UNIMPLEMENTED
    case 13:  // INTERNAL
    case 14:  // UNAVAILABLE
    case 15:  // DATA_LOSS
      return true;
    default:
      return is_client && code != 0;
  }
}

}  // namespace

std::string ErrorType(const Flow& flow, bool is_client) {
  if (IsFailure(flow.reason)) {
    return std::string(ToString(flow.reason));
  }
  if (flow.database != nullptr) {
    const DatabaseCall& call = *flow.database;
    return !call.is_error ? std::string() : call.status.empty() ? "_OTHER" : call.status;
  }
  if (flow.http && flow.http->is_grpc && flow.http->grpc_status >= 0) {
    return IsGrpcError(flow.http->grpc_status, is_client) ? GrpcStatusName(flow.http->grpc_status)
                                                          : std::string();
  }
  const unsigned status = flow.http ? flow.http->status : 0U;
  if (status >= (is_client ? 400U : 500U)) {
    return std::to_string(status);
  }
  const bool is_refused = flow.reason != Reason::kNone && flow.reason != Reason::kDownstreamReset;
  return status == 0 && is_refused ? std::string(ToString(flow.reason)) : std::string();
}

}  // namespace weir::observe
