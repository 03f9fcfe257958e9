// A tunnel's server fed a client's bytes.
#include "tests/fuzz/tunnel_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  weir::test::CheckTunnel(weir::http::TunnelRole::kServer,
                          {reinterpret_cast<const char*>(data), size});
  return 0;
}
