#pragma once

#include <string>

namespace weir::observe {

// The name of a gRPC status code, "DEADLINE_EXCEEDED" for 4; of one that has no name, its
// number. Pure.
std::string GrpcStatusName(int code);

}  // namespace weir::observe
