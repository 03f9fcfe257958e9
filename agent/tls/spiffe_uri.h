#pragma once

#include <optional>
#include <string_view>

namespace weir::tls {

// SpiffeUri is the two parts of a SPIFFE ID; the views die with the parsed text.
struct SpiffeUri {
  std::string_view trust_domain;
  std::string_view path;  // with its leading slash; empty for the trust domain's own ID
};

// Reads a SPIFFE ID as a certificate holds it (SPIFFE-ID section 2: lower-case scheme and
// trust domain, no percent-encoding, port, query or fragment, 2048 bytes at most). Bytes
// of a peer: no normalisation, whatever is unusual is refused. Pure; any thread.
std::optional<SpiffeUri> ParseSpiffeUri(std::string_view uri);

}  // namespace weir::tls
