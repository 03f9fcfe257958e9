#include "agent/client/grpc.h"

#include <nghttp2/nghttp2.h>
#include <openssl/base64.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "agent/base/grpc_status_name.h"
#include "agent/base/percent.h"
#include "agent/client/gzip.h"

namespace weir::client {
namespace {

constexpr std::size_t kPrefixBytes = 5;  // compressed flag, length in network byte order

// gRPC's "HTTP to gRPC Status Code Mapping".
GrpcStatus OfHttpStatus(unsigned status) {
  switch (status) {
    case 400:
      return GrpcStatus::kInternal;
    case 401:
      return GrpcStatus::kUnauthenticated;
    case 403:
      return GrpcStatus::kPermissionDenied;
    case 404:
      return GrpcStatus::kUnimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return GrpcStatus::kUnavailable;
    default:
      return GrpcStatus::kUnknown;
  }
}

// "Errors" in gRPC's PROTOCOL-HTTP2: what a reset of the stream means.
GrpcStatus OfReset(std::uint32_t code) {
  switch (code) {
    case NGHTTP2_REFUSED_STREAM:
      return GrpcStatus::kUnavailable;
    case NGHTTP2_CANCEL:
      return GrpcStatus::kCancelled;
    case NGHTTP2_ENHANCE_YOUR_CALM:
      return GrpcStatus::kResourceExhausted;
    case NGHTTP2_INADEQUATE_SECURITY:
      return GrpcStatus::kPermissionDenied;
    default:
      return GrpcStatus::kInternal;
  }
}

std::string_view Find(const std::vector<HttpHeader>& fields, std::string_view name) {
  for (const auto& [key, value] : fields) {
    if (key == name) {
      return value;
    }
  }
  return {};
}

// Base64 with or without its padding; empty when it is neither.
std::string FromBase64(std::string text) {
  text.append((4 - text.size() % 4) % 4, '=');
  std::string bytes(text.size(), '\0');
  std::size_t size = 0;
  const bool is_valid =
      ::EVP_DecodeBase64(reinterpret_cast<std::uint8_t*>(bytes.data()), &size, bytes.size(),
                         reinterpret_cast<const std::uint8_t*>(text.data()), text.size()) == 1;
  bytes.resize(is_valid ? size : 0);
  return bytes;
}

std::optional<GrpcStatus> ParseStatus(std::string_view text) {
  unsigned number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc{} || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return base::GrpcStatusName(number).empty() ? GrpcStatus::kUnknown
                                              : static_cast<GrpcStatus>(number);
}

GrpcAnswer Inferred(GrpcStatus status, std::string text) {
  return {.status = status, .text = std::move(text)};
}

GrpcAnswer TakeMessage(const HttpResponse& response, std::size_t limit_bytes) {
  const std::string_view body = response.body;
  std::size_t size = 0;
  for (std::size_t i = 1; i < std::min(body.size(), kPrefixBytes); ++i) {
    size = (size << 8U) | static_cast<unsigned char>(body[i]);
  }
  if (body.size() < kPrefixBytes || body.size() != kPrefixBytes + size) {
    return Inferred(GrpcStatus::kInternal, "the answer is not one message");
  }
  const std::string_view message = body.substr(kPrefixBytes);
  GrpcAnswer answer{.status = GrpcStatus::kOk};
  if (body[0] == 0) {
    answer.message = message;
  } else if (body[0] == 1 && response.Find("grpc-encoding") == "gzip") {
    auto plain = Gunzip(message, limit_bytes);
    if (!plain) {
      return Inferred(GrpcStatus::kInternal, plain.error().ToString());
    }
    answer.message = std::move(*plain);
  } else {
    return Inferred(GrpcStatus::kInternal, "the answer is packed in an unknown way");
  }
  return answer;
}

}  // namespace

std::string_view ToString(GrpcStatus status) {
  return base::GrpcStatusName(static_cast<unsigned>(status));
}

HttpRequest ToHttp(const GrpcCall& call) {
  HttpRequest request{.method = "POST",
                      .target = call.method,
                      .headers = {{"te", "trailers"},
                                  {"content-type", "application/grpc"},
                                  {"grpc-timeout", std::to_string(call.timeout.count()) + "m"},
                                  {"grpc-accept-encoding", "identity,gzip"}}};
  if (call.gzip) {
    request.headers.emplace_back("grpc-encoding", "gzip");
  }
  if (!call.user_agent.empty()) {
    request.headers.emplace_back("user-agent", call.user_agent);
  }
  request.headers.insert(request.headers.end(), call.metadata.begin(), call.metadata.end());
  std::string packed;
  if (call.gzip) {
    packed = Gzip(call.message);
  }
  const std::string& message = call.gzip ? packed : call.message;
  request.body.reserve(kPrefixBytes + message.size());
  request.body += call.gzip ? '\1' : '\0';
  for (int shift = 24; shift >= 0; shift -= 8) {
    request.body += static_cast<char>(message.size() >> static_cast<unsigned>(shift));
  }
  request.body += message;
  return request;
}

GrpcAnswer ReadGrpcAnswer(const HttpResponse& response, std::size_t limit_bytes) {
  // An answer of trailers only comes as a header that ends the stream.
  const bool is_trailers_only = response.trailers.empty() && response.body.empty();
  const auto& fields = is_trailers_only ? response.headers : response.trailers;
  const std::string_view status_text = Find(fields, "grpc-status");
  if (status_text.empty()) {
    if (response.status != 0 && response.status != 200) {
      return Inferred(OfHttpStatus(response.status),
                      "HTTP status " + std::to_string(response.status));
    }
    if (response.reset_code) {
      return Inferred(OfReset(*response.reset_code),
                      "the server reset the stream: " +
                          std::string(::nghttp2_http2_strerror(*response.reset_code)));
    }
    return Inferred(GrpcStatus::kUnknown, "the answer has no grpc-status");
  }
  const auto status = ParseStatus(status_text);
  if (!status) {
    return Inferred(GrpcStatus::kUnknown, "the answer's grpc-status is not a number");
  }
  if (*status == GrpcStatus::kOk) {
    return TakeMessage(response, limit_bytes);
  }
  return {.status = *status,
          .text = base::DecodePercent(Find(fields, "grpc-message")),
          .details = FromBase64(std::string(Find(fields, "grpc-status-details-bin")))};
}

}  // namespace weir::client
