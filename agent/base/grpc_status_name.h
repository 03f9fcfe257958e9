#pragma once

#include <string_view>

namespace weir::base {

// The name of a gRPC status code, "DEADLINE_EXCEEDED" for 4 (gRPC, "Status codes and their use
// in gRPC"); empty for a number that has none. Any thread.
std::string_view GrpcStatusName(unsigned code);

}  // namespace weir::base
