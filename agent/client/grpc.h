#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/client/http_client.h"

// Unary gRPC calls over Http2Connection: what is sent for one, and what an answer means.
// The wire format is gRPC's "PROTOCOL-HTTP2" document. Messages stay bytes.
namespace weir::client {

// gRPC's status codes ("Status codes and their use in gRPC"), with their numbers.
enum class GrpcStatus : std::uint8_t {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};
std::string_view ToString(GrpcStatus status);  // "RESOURCE_EXHAUSTED"

struct GrpcCall {
  std::string method;                  // "/package.Service/Method"
  std::vector<HttpHeader> metadata{};  // its names are sent in lower case
  std::string message{};               // serialized
  bool gzip = false;                   // packs the message
  std::chrono::milliseconds timeout{10'000};
  std::string user_agent{};
};

// The request of a unary call. Pure.
HttpRequest ToHttp(const GrpcCall& call);

struct GrpcAnswer {
  GrpcStatus status = GrpcStatus::kUnknown;
  std::string text{};     // grpc-message, or why the status was inferred; not trusted
  std::string details{};  // grpc-status-details-bin: a serialized google.rpc.Status
  std::string message{};  // serialized; only of kOk
};

// What `response` to a unary call says; nothing in it is trusted. Without a grpc-status it
// is inferred from the HTTP status or the reset, as gRPC's documents say. An answer of
// kOk without exactly one message of at most `limit_bytes` becomes kInternal. Pure.
GrpcAnswer ReadGrpcAnswer(const HttpResponse& response, std::size_t limit_bytes);

}  // namespace weir::client
