#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace weir::http {

// What the first bytes of a connection say that it speaks.
enum class Detected : std::uint8_t {
  kNeedMore,  // a prefix of something known
  kHttp1,
  kHttp2Preface,  // RFC 9113 section 3.4
  kTls,           // a TLS record that begins a ClientHello
  kOpaque,
};

// Whether the bytes seen so far are all that the caller waits for: with kFinal the answer
// is never kNeedMore (the detection timeout has passed, or the peer closed).
enum class DetectMode : std::uint8_t { kMoreMayCome, kFinal };

// Without an answer after this many bytes the connection is what it looks like so far.
inline constexpr std::size_t kDetectMaxBytes = 512;

// Detect classifies the first bytes that a client sent. HTTP/1 is a method token, a space
// and a request target, and, where the end of the line is seen, an HTTP version: so that a
// text protocol with a GET of its own stays opaque. Pure; any thread.
Detected Detect(std::span<const std::uint8_t> bytes, DetectMode mode);

}  // namespace weir::http
