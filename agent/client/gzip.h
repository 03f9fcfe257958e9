#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace weir::client {

// `plain` in the gzip format (RFC 1952), packed fast rather than tight. Any thread.
std::string Gzip(std::string_view plain);

// Undoes gzip. kLimit when the plain text is longer than `limit_bytes`, whatever the packed
// text claims; kProtocol when it is not whole. Any thread.
base::Result<std::string> Gunzip(std::string_view packed, std::size_t limit_bytes);

}  // namespace weir::client
