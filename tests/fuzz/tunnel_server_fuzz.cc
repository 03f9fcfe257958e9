#include "tests/fuzz/tunnel_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  weir::test::FuzzTunnel(weir::http::TunnelRole::kServer, data, size);
  return 0;
}
