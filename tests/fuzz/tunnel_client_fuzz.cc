// A tunnel's client, with four streams open, fed a server's bytes.
#include "tests/fuzz/tunnel_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  weir::test::CheckTunnel(weir::http::TunnelRole::kClient,
                          {reinterpret_cast<const char*>(data), size});
  return 0;
}
