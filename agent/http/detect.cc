#include "agent/http/detect.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "agent/http/token.h"

namespace weir::http {
namespace {

constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr std::size_t kMaxMethodBytes = 32;

// RFC 8446 section 5.1: content type handshake (22), legacy version 3.x, a length of at
// least a handshake header and at most 2^14, then ClientHello (1).
Detected DetectTls(std::span<const std::uint8_t> bytes) {
  constexpr std::size_t kNeeded = 6;
  constexpr std::size_t kMaxRecordBytes = 1U << 14U;
  if ((bytes.size() > 1 && bytes[1] != 3) || (bytes.size() > 2 && bytes[2] > 4)) {
    return Detected::kOpaque;
  }
  if (bytes.size() < kNeeded) {
    return Detected::kNeedMore;
  }
  const std::size_t length = (std::size_t{bytes[3]} << 8U) | bytes[4];
  const bool hello = length >= 4 && length <= kMaxRecordBytes && bytes[5] == 1;
  return hello ? Detected::kTls : Detected::kOpaque;
}

bool IsTargetStart(std::string_view method, char first) {
  const bool alpha = (first >= 'a' && first <= 'z') || (first >= 'A' && first <= 'Z');
  if (method == "CONNECT") {
    return alpha || first == '[' || (first >= '0' && first <= '9');
  }
  return first == '/' || first == '*' || alpha;
}

// What is behind "METHOD SP": kHttp1 once the line ends in a version, or is longer than
// anything but a request line.
Detected DetectTarget(std::string_view method, std::string_view rest, bool whole) {
  if (rest.empty()) {
    return Detected::kNeedMore;
  }
  if (!IsTargetStart(method, rest.front())) {
    return Detected::kOpaque;
  }
  const std::size_t line_end = rest.find('\n');
  if (line_end == std::string_view::npos) {
    return whole ? Detected::kHttp1 : Detected::kNeedMore;
  }
  const bool versioned = rest.substr(0, line_end).find(" HTTP/") != std::string_view::npos;
  return versioned ? Detected::kHttp1 : Detected::kOpaque;
}

Detected DetectText(std::string_view text, bool whole) {
  const std::string_view preface_part = text.substr(0, kHttp2Preface.size());
  if (kHttp2Preface.starts_with(preface_part)) {
    return text.size() >= kHttp2Preface.size() ? Detected::kHttp2Preface : Detected::kNeedMore;
  }
  // RFC 9112 section 2.2: one empty line before a request is ignored.
  if (text.starts_with("\r\n")) {
    text.remove_prefix(2);
  } else if (text == "\r") {
    return Detected::kNeedMore;
  }
  const auto* const method_end = std::ranges::find_if_not(text, IsMethodLetter);
  const auto length = static_cast<std::size_t>(method_end - text.begin());
  if (length > kMaxMethodBytes) {
    return Detected::kOpaque;
  }
  if (length == text.size()) {
    return Detected::kNeedMore;
  }
  if (length == 0 || text[length] != ' ') {
    return Detected::kOpaque;
  }
  return DetectTarget(text.substr(0, length), text.substr(length + 1), whole);
}

}  // namespace

Detected Detect(std::span<const std::uint8_t> bytes, DetectMode mode) {
  if (bytes.empty()) {
    return mode == DetectMode::kFinal ? Detected::kOpaque : Detected::kNeedMore;
  }
  constexpr std::uint8_t kTlsHandshake = 22;
  // A byte sequence seen as text; no byte is changed.
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const bool whole = mode == DetectMode::kFinal || bytes.size() >= kDetectMaxBytes;
  const Detected found = bytes[0] == kTlsHandshake ? DetectTls(bytes) : DetectText(text, whole);
  return found == Detected::kNeedMore && whole ? Detected::kOpaque : found;
}

}  // namespace weir::http
