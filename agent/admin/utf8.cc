#include "agent/admin/utf8.h"

#include <algorithm>
#include <cstddef>

namespace weir::admin {
namespace {

// Length of the well-formed UTF-8 sequence (RFC 3629 section 4) at the front of `text`,
// 0 if there is none.
std::size_t SequenceBytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) {
    return 1;
  }
  const std::size_t size = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < size) {
    return 0;
  }
  unsigned low = 0x80;
  unsigned high = 0xbf;
  if (byte(0) == 0xe0) {
    low = 0xa0;  // shorter forms exist
  } else if (byte(0) == 0xed) {
    high = 0x9f;  // surrogates
  } else if (byte(0) == 0xf0) {
    low = 0x90;
  } else if (byte(0) == 0xf4) {
    high = 0x8f;  // beyond U+10FFFF
  }
  if (byte(1) < low || byte(1) > high) {
    return 0;
  }
  for (std::size_t i = 2; i < size; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) {
      return 0;
    }
  }
  return size;
}

}  // namespace

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t size = SequenceBytes(text);
    if (size == 0) {
      return false;
    }
    text.remove_prefix(size);
  }
  return true;
}

std::string ToUtf8(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    const std::size_t size = SequenceBytes(text);
    clean += size == 0 ? std::string_view("\xef\xbf\xbd") : text.substr(0, size);
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return clean;
}

}  // namespace weir::admin
