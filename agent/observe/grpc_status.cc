#include "agent/observe/grpc_status.h"

#include <string_view>

#include "agent/base/grpc_status_name.h"

namespace weir::observe {

std::string GrpcStatusName(int code) {
  const std::string_view name =
      code < 0 ? std::string_view() : base::GrpcStatusName(static_cast<unsigned>(code));
  return name.empty() ? std::to_string(code) : std::string(name);
}

}  // namespace weir::observe
