#pragma once

#include <string>
#include <string_view>

namespace weir::base {

// DecodePercent undoes percent encoding (RFC 3986, section 2.1), as in gRPC's `grpc-message` and
// in W3C Baggage; what is not a valid escape stays as it is.
std::string DecodePercent(std::string_view text);

}  // namespace weir::base
