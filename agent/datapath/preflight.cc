#include "agent/datapath/datapath.h"
namespace weir::datapath {
std::vector<CheckResult> Preflight(const Options&, unsigned) {
  return {};
}
}  // namespace weir::datapath
