#include "tests/support/root_test.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace weir::test {

bool SkippingFails() {
  // Nobody here sets variables.
  const char* required = std::getenv("WEIR_REQUIRE_ROOT");  // NOLINT(concurrency-mt-unsafe)
  return required != nullptr && std::string_view(required) == "1";
}

void RootTest::SetUp() {
  if (::geteuid() == 0) {
    return;
  }
  if (SkippingFails()) {
    FAIL() << "needs root, and WEIR_REQUIRE_ROOT=1 forbids to skip";
  }
  std::puts("all tests skipped: needs root");  // ctest looks for this line
  GTEST_SKIP() << "needs root";
}

}  // namespace weir::test
