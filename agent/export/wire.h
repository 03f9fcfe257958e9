#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

// Protobuf's wire format, written into a string; field numbers come from the generated
// classes. Little endian only, as weir's platforms are.
namespace weir::telemetry::wire {

static_assert(std::endian::native == std::endian::little);

inline void AppendVarint(std::uint64_t value, std::string& out) {
  while (value >= 0x80) {
    out += static_cast<char>(value | 0x80U);
    value >>= 7U;
  }
  out += static_cast<char>(value);
}

inline std::size_t VarintBytes(std::uint64_t value) {
  return (static_cast<std::size_t>(std::bit_width(value | 1U)) + 6) / 7;
}

inline void AppendTag(int field, unsigned type, std::string& out) {
  AppendVarint((static_cast<std::uint64_t>(field) << 3U) | type, out);
}

inline void AppendUnsigned(int field, std::uint64_t value, std::string& out) {
  AppendTag(field, 0, out);
  AppendVarint(value, out);
}

template <typename T>
  requires(sizeof(T) == 4 || sizeof(T) == 8)
void AppendFixed(int field, T value, std::string& out) {
  AppendTag(field, sizeof(T) == 8 ? 1 : 5, out);
  std::size_t at = out.size();
  out.resize(at + sizeof(T));
  std::memcpy(out.data() + at, &value, sizeof(T));
}

// The head of a string, of bytes or of a message; its `size` bytes follow.
inline void AppendLength(int field, std::size_t size, std::string& out) {
  AppendTag(field, 2, out);
  AppendVarint(size, out);
}

inline void AppendBytes(int field, std::string_view value, std::string& out) {
  AppendLength(field, value.size(), out);
  out += value;
}

// What AppendBytes adds, for fields below 16.
inline std::size_t BytesFieldBytes(std::size_t size) {
  return 1 + VarintBytes(size) + size;
}

}  // namespace weir::telemetry::wire
