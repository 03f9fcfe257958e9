#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

// WEIR_PROPERTY ends the fuzz run when what must hold for every input does not.
#define WEIR_PROPERTY(condition)                                                          \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "property does not hold: %s at %s:%d\n", #condition, __FILE__, \
                   __LINE__);                                                             \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)

namespace weir::test {

// Gives `bytes` to `take` in pieces of 1 to 16 bytes, by a sequence that `seed` names.
template <typename Take>
void FeedInPieces(std::string_view bytes, std::uint8_t seed, Take&& take) {
  std::uint32_t state = seed * 2654435761U + 1;
  while (!bytes.empty()) {
    state = state * 1664525U + 1013904223U;
    const std::size_t size = 1 + (state >> 28U);
    take(bytes.substr(0, size));
    bytes.remove_prefix(size < bytes.size() ? size : bytes.size());
  }
}

}  // namespace weir::test
