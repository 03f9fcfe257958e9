#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/io/byte_buffer.h"

namespace weir::tls {

// What the first bytes of a connection are.
enum class HelloStatus : std::uint8_t {
  kNeedMore,     // so far they could be a ClientHello
  kNotTls,       // cannot be the start of a TLS connection
  kMalformed,    // a TLS handshake record, but no ClientHello that can be read (broken, or
                 // longer than kMaxClientHelloBytes): TLS all the same, without a name
  kClientHello,  // whole and read
};

// The largest ClientHello message that is read, headers of its records not counted.
inline constexpr std::size_t kMaxClientHelloBytes = 16384;
// Whoever buffers for ParseClientHello needs no more bytes than these to get an answer:
// a message split into records of 64 bytes. Smaller records make it kMalformed sooner.
inline constexpr std::size_t kMaxClientHelloWireBytes =
    kMaxClientHelloBytes + kMaxClientHelloBytes / 64 * 5;

// ClientHello is what the proxy wants to know of one.
struct ClientHello {
  HelloStatus status = HelloStatus::kNeedMore;
  std::string server_name;        // RFC 6066 section 3 host_name; empty if none
  std::vector<std::string> alpn;  // RFC 7301 names in the client's order
};

// Reads a ClientHello (RFC 8446 section 4.1.2, one or more records) from the front of a
// connection's bytes. The names are empty unless the status is kClientHello. Looks at
// bytes only, needs no TLS library; pure; any thread.
ClientHello ParseClientHello(io::Bytes bytes);

// Whether `hello` offers the ALPN name `name`.
bool OffersAlpn(const ClientHello& hello, std::string_view name);

}  // namespace weir::tls
