#pragma once

#include <cstdint>
#include <optional>

#include "agent/database/bytes.h"

namespace weir::database {

// A number of MySQL's variable length; none (and the reader fails) if there is not all of it,
// or it is none.
inline std::optional<std::uint64_t> TakeLenenc(FieldReader& reader) {
  const std::uint64_t first = reader.LittleEndian(1);
  if (!reader.ok()) {
    return std::nullopt;
  }
  if (first < 0xfb) {
    return first;
  }
  if (first == 0xfb || first == 0xff) {
    (void)reader.Take(reader.rest().size() + 1);  // fails
    return std::nullopt;
  }
  const std::size_t bytes = first == 0xfc ? 2 : first == 0xfd ? 3 : 8;
  const std::uint64_t value = reader.LittleEndian(bytes);
  return reader.ok() ? std::optional(value) : std::nullopt;
}

}  // namespace weir::database
