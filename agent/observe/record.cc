#include "agent/observe/record.h"

#include <span>

namespace weir::observe {
namespace {

std::string Hex(std::span<const std::uint8_t> bytes) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 0xfU];
  }
  return text;
}

}  // namespace

std::string ToHex(const TraceId& id) {
  return Hex(id);
}
std::string ToHex(const SpanId& id) {
  return Hex(id);
}

std::string_view ToString(Direction value) {
  return value == Direction::kOutbound ? "out" : "in";
}

std::string_view ToString(Protocol value) {
  switch (value) {
    case Protocol::kOpaque:
      return "opaque";
    case Protocol::kTls:
      return "tls";
    case Protocol::kHttp1:
      return "http1";
    case Protocol::kHttp2:
      return "http2";
    case Protocol::kGrpc:
      return "grpc";
    case Protocol::kPostgresql:
      return "postgresql";
    case Protocol::kMysql:
      return "mysql";
    case Protocol::kRedis:
      return "redis";
  }
  return "opaque";
}

std::string_view ToString(Verdict value) {
  switch (value) {
    case Verdict::kAllow:
      return "allow";
    case Verdict::kDeny:
      return "deny";
    case Verdict::kBypass:
      return "bypass";
    case Verdict::kPassthrough:
      return "passthrough";
    case Verdict::kError:
      return "error";
  }
  return "error";
}

std::string_view ToString(MtlsState value) {
  switch (value) {
    case MtlsState::kOff:
      return "off";
    case MtlsState::kTunnel:
      return "mtls";
    case MtlsState::kLocal:
      return "local";
  }
  return "off";
}

std::string_view ToString(ParentSource value) {
  switch (value) {
    case ParentSource::kNone:
      return "none";
    case ParentSource::kHeader:
      return "header";
    case ParentSource::kRuntime:
      return "runtime";
    case ParentSource::kTurn:
      return "turn";
    case ParentSource::kSole:
      return "sole";
  }
  return "none";
}

std::string_view ToString(SampledBy value) {
  switch (value) {
    case SampledBy::kHead:
      return "head";
    case SampledBy::kError:
      return "error";
    case SampledBy::kSlow:
      return "slow";
  }
  return "head";
}

std::string_view ToString(Reason value) {
  static constexpr std::array<std::string_view, kReasonCount> kTexts = {
      "none",
      "no-original-destination",
      "no-identity",
      "unknown-destination",
      "upstream-refused",
      "upstream-unreachable",
      "upstream-timeout",
      "upstream-reset",
      "downstream-reset",
      "tls-handshake-failed",
      "tls-handshake-timeout",
      "peer-identity-mismatch",
      "peer-node-mismatch",
      "peer-untrusted",
      "refused-by-peer",
      "certificate-expired",
      "plaintext-refused",
      "witness-refused",
      "tunnel-closed",
      "tunnel-refused",
      "tunnel-protocol",
      "header-timeout",
      "bad-request",
      "uri-too-long",
      "headers-too-large",
      "bad-response",
      "http2-protocol",
      "limit-reached",
      "draining",
      "namespace-gone",
      "policy-denied",
      "internal",
  };
  return kTexts[static_cast<std::size_t>(value)];
}

}  // namespace weir::observe
