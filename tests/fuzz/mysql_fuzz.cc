// A conversation between a MySQL client and its server, as a tap hears it. The properties are
// in database_fuzz.h.
#include "tests/fuzz/database_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  weir::test::CheckTap(weir::database::System::kMysql, {reinterpret_cast<const char*>(data), size});
  return 0;
}
