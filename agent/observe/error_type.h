#pragma once

#include <string>

#include "agent/observe/record.h"

namespace weir::observe {

// What `error.type` of the record's span is by the HTTP conventions: a status code, the
// reason of a failure, or empty when the span is not an error. A client counts 4xx as
// errors, a server does not; a caller that went away is not an error. Of a gRPC call it is
// the name of its status code, if that is an error on that side. Pure.
std::string ErrorType(const Flow& flow, bool is_client);

}  // namespace weir::observe
