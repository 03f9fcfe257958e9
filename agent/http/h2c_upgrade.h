#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/http/h2_relay.h"
#include "agent/http/http1_parser.h"

// Upgrade: h2c (RFC 7540 section 3.2): an HTTP/1.1 request offers to go on in HTTP/2.
namespace weir::http {

struct H2cOffer {
  const Field* settings = nullptr;  // the HTTP2-Settings field, of the head
  std::string value;                // what it is to say instead (SanitizeH2Settings)
  H2SettingsNotes notes;
};

// The offer of a request; nothing if there is none, or if it is no valid one: a server then
// has to ignore it. Pure; any thread.
std::optional<H2cOffer> ReadH2cOffer(const RequestHead& head, const H2RelayLimits& limits);

// Whether a 101 response takes it up.
bool AcceptsH2c(const ResponseHead& head);

}  // namespace weir::http
