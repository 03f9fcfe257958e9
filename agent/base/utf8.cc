#include "agent/base/utf8.h"

#include <cstdint>
#include <cstring>

namespace weir::base {
namespace {

// Length of the character at the front of `text`, or 0 when it is malformed.
std::size_t CharacterLength(std::string_view text) {
  const auto at = [&](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const auto is_tail = [&](std::size_t i) { return (at(i) & 0xc0U) == 0x80U; };
  const unsigned lead = at(0);
  const unsigned second = at(1);
  if (lead < 0x80) {
    return 1;
  }
  if (lead >= 0xc2 && lead <= 0xdf) {
    return is_tail(1) ? 2 : 0;
  }
  if (lead >= 0xe0 && lead <= 0xef) {
    const bool is_allowed = !(lead == 0xe0 && second < 0xa0) && !(lead == 0xed && second > 0x9f);
    return is_allowed && is_tail(1) && is_tail(2) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    const bool is_allowed = !(lead == 0xf0 && second < 0x90) && !(lead == 0xf4 && second > 0x8f);
    return is_allowed && is_tail(1) && is_tail(2) && is_tail(3) ? 4 : 0;
  }
  return 0;
}

// Bytes at the front of `text` that are ASCII, rounded down to whole words.
std::size_t AsciiPrefix(std::string_view text) {
  std::size_t size = 0;
  std::uint64_t word = 0;
  while (size + sizeof(word) <= text.size()) {
    std::memcpy(&word, text.data() + size, sizeof(word));
    if ((word & 0x8080808080808080U) != 0) {
      break;
    }
    size += sizeof(word);
  }
  return size;
}

}  // namespace

std::size_t Utf8PrefixBytes(std::string_view text) {
  std::size_t size = AsciiPrefix(text);
  while (size < text.size()) {
    const std::size_t length = CharacterLength(text.substr(size));
    if (length == 0) {
      break;
    }
    size += length;
  }
  return size;
}

bool IsUtf8(std::string_view text) {
  return Utf8PrefixBytes(text) == text.size();
}

std::string_view ToUtf8(std::string_view text, std::string& scratch) {
  std::size_t valid = Utf8PrefixBytes(text);
  if (valid == text.size()) {
    return text;
  }
  scratch.clear();
  while (true) {
    scratch += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) {
      return scratch;
    }
    scratch += "\xef\xbf\xbd";
    text.remove_prefix(1);
    valid = Utf8PrefixBytes(text);
  }
}

}  // namespace weir::base
