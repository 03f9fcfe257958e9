#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace weir::http {

// Character classes of RFC 9110 section 5.6 and RFC 9112, one bit each.
enum class CharClass : std::uint8_t {
  kToken = 1,   // tchar
  kTarget = 2,  // anything visible, and obs-text: what servers accept in a target
  kValue = 4,   // field-vchar, obs-text, SP, HTAB
  kDigit = 8,
};

consteval std::array<std::uint8_t, 256> MakeCharClasses() {
  std::array<std::uint8_t, 256> classes{};
  constexpr std::string_view kTokenMarks = "!#$%&'*+-.^_`|~";
  for (unsigned c = 0; c < classes.size(); ++c) {
    const bool digit = c >= '0' && c <= '9';
    const bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool visible = c > ' ' && c != 0x7f;
    const bool mark = c < 0x80 && kTokenMarks.find(static_cast<char>(c)) != std::string_view::npos;
    const auto bit = [](bool is, CharClass which) {
      return is ? static_cast<unsigned>(which) : 0U;
    };
    const unsigned bits =
        bit(digit || alpha || mark, CharClass::kToken) | bit(visible, CharClass::kTarget) |
        bit(visible || c == ' ' || c == '\t', CharClass::kValue) | bit(digit, CharClass::kDigit);
    classes[c] = static_cast<std::uint8_t>(bits);
  }
  return classes;
}

inline constexpr std::array<std::uint8_t, 256> kCharClasses = MakeCharClasses();

inline bool IsClass(char c, CharClass which) {
  return (kCharClasses[static_cast<std::uint8_t>(c)] & static_cast<std::uint8_t>(which)) != 0;
}

// Whether every character of `text` is of the class.
inline bool AllOfClass(std::string_view text, CharClass which) {
  auto common = static_cast<std::uint8_t>(which);
  for (const char c : text) {
    common &= kCharClasses[static_cast<std::uint8_t>(c)];
  }
  return common != 0;
}

// The letters that methods are made of in practice (registered ones, and extensions such
// as "VERSION-CONTROL" or "M-SEARCH"): narrower than a token.
inline bool IsMethodLetter(char c) {
  return (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

// ASCII letters to lower case; everything else as it is.
inline char ToLower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

// Whether `text` is `lower` (given in lower case) in any letter case.
inline bool EqualsIgnoreCase(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) {
    return false;
  }
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (ToLower(text[i]) != lower[i]) {
      return false;
    }
  }
  return true;
}

// `text` without spaces and tabs at both ends (OWS).
inline std::string_view TrimOws(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

}  // namespace weir::http
