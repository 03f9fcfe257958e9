#pragma once

#include <cstdio>
#include <cstdlib>

// WEIR_CHECK ends the process when an invariant of weir itself is broken; never
// used on anything that a peer, a file or the kernel can influence.
#define WEIR_CHECK(condition)                                                                  \
  do {                                                                                         \
    if (!(condition)) [[unlikely]] {                                                           \
      std::fprintf(stderr, "broken invariant: %s at %s:%d\n", #condition, __FILE__, __LINE__); \
      std::abort();                                                                            \
    }                                                                                          \
  } while (false)
