#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/datapath/go_binary.h"
#include "tests/fuzz/property.h"
#include "tests/support/go_program.h"

// Whatever a file says, functions are only found inside of it, and looking at it ends.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const weir::test::MemorySource file({reinterpret_cast<const char*>(data), size});
  const auto found = weir::datapath::FindGoHttpFunctions(file);
  if (found) {
    WEIR_PROPERTY(found->round_trip < size && found->write_loop < size);
  }
  return 0;
}
