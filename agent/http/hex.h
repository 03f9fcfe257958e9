#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

// Hexadecimal digits of trace and span ids.
namespace weir::http {

inline constexpr std::string_view kHexDigits = "0123456789abcdef";

enum class HexCase : std::uint8_t { kLower, kAny };

// The value of one digit, or -1.
inline int HexDigit(char c, HexCase accepted) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  if (c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  return accepted == HexCase::kAny && c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// Reads exactly `out.size()` octets from the first 2 * out.size() characters of `text`, which
// must have them. False if one is no digit.
inline bool ReadHex(std::string_view text, std::span<std::uint8_t> out, HexCase accepted) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = HexDigit(text[2 * i], accepted);
    const int low = HexDigit(text[2 * i + 1], accepted);
    if (high < 0 || low < 0) {
      return false;
    }
    out[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return true;
}

// Reads all of `text`, 1 to 2 * out.size() digits, as a number with zeros filled in on the
// left. False if it is empty, too long, or one is no digit.
inline bool ReadShortHex(std::string_view text, std::span<std::uint8_t> out, HexCase accepted) {
  if (text.empty() || text.size() > 2 * out.size()) {
    return false;
  }
  std::ranges::fill(out, std::uint8_t{0});
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int digit = HexDigit(text[text.size() - 1 - i], accepted);
    if (digit < 0) {
      return false;
    }
    std::uint8_t& octet = out[out.size() - 1 - i / 2];
    octet = static_cast<std::uint8_t>(octet | (i % 2 == 0 ? digit : digit * 16));
  }
  return true;
}

// Writes two lower-case digits an octet; gives the end.
inline char* PutHex(std::span<const std::uint8_t> bytes, char* out) {
  for (const std::uint8_t byte : bytes) {
    *out++ = kHexDigits[byte >> 4U];
    *out++ = kHexDigits[byte & 0xfU];
  }
  return out;
}

inline bool IsZero(std::span<const std::uint8_t> bytes) {
  return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
}

}  // namespace weir::http
