#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "agent/http/hpack.h"

// The fields of a CONNECT request and its answer in HTTP/2 (RFC 9113 section 8.5).
namespace weir::http {

// The authority of a well-formed CONNECT request: `:method` CONNECT and `:authority` as
// its only pseudo-header fields, in front of the others, and no field that section 8.2
// forbids. Empty: malformed. The view dies with `fields`.
std::optional<std::string_view> ParseConnectRequest(const H2FieldList& fields);

// The status of a well-formed answer, 100 to 599. Empty: malformed.
std::optional<std::uint16_t> ParseConnectStatus(const H2FieldList& fields);

}  // namespace weir::http
