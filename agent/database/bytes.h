#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace weir::database {

using Bytes = std::span<const std::uint8_t>;

// The same bytes as text; nothing is changed or copied.
inline std::string_view AsText(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Numbers on the wire. A reader that runs over the end fails for good and gives zeros, so that
// a message is checked once, behind its last field.
class FieldReader {
 public:
  explicit FieldReader(Bytes bytes) : rest_(bytes) {}

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] Bytes rest() const { return rest_; }

  // The next `count` bytes; empty if there are not so many.
  Bytes Take(std::size_t count) {
    if (count > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const Bytes taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  std::uint64_t LittleEndian(std::size_t count) {
    std::uint64_t value = 0;
    unsigned shift = 0;
    for (const std::uint8_t byte : Take(count)) {
      value |= std::uint64_t{byte} << shift;
      shift += 8;
    }
    return value;
  }
  std::uint64_t BigEndian(std::size_t count) {
    std::uint64_t value = 0;
    for (const std::uint8_t byte : Take(count)) {
      value = (value << 8U) | byte;
    }
    return value;
  }
  // Text up to a NUL, which is taken too; fails without one.
  std::string_view CString() {
    const std::size_t length = AsText(rest_).find('\0');
    if (length == std::string_view::npos) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const std::string_view text = AsText(Take(length));
    (void)Take(1);  // the NUL, which is there
    return text;
  }

 private:
  Bytes rest_;
  bool ok_ = true;
};

}  // namespace weir::database
