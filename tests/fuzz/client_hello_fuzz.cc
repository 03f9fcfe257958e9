// Any bytes get an answer; a whole ClientHello stays one whatever follows it, and none of
// its prefixes is taken for anything else.
#include <cstddef>
#include <cstdint>

#include "agent/base/check.h"
#include "agent/tls/client_hello.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using weir::tls::HelloStatus;
  const weir::io::Bytes bytes(data, size);
  const weir::tls::ClientHello whole = weir::tls::ParseClientHello(bytes);
  if (whole.status != HelloStatus::kClientHello) {
    WEIR_CHECK(whole.server_name.empty() && whole.alpn.empty());
  }
  if (size >= weir::tls::kMaxClientHelloWireBytes) {
    WEIR_CHECK(whole.status != HelloStatus::kNeedMore);
  }
  bool decided = false;
  for (std::size_t length = 0; length < size; length += 1 + length / 8) {
    const weir::tls::ClientHello part = weir::tls::ParseClientHello(bytes.first(length));
    WEIR_CHECK(!decided || part.status == whole.status);
    if (part.status != HelloStatus::kNeedMore) {
      decided = true;
      WEIR_CHECK(part.status == whole.status);
      WEIR_CHECK(part.server_name == whole.server_name && part.alpn == whole.alpn);
    }
  }
  return 0;
}
