#include "agent/base/clock.h"

namespace weir::base {
namespace {

class RealClock final : public Clock {
 public:
  [[nodiscard]] MonotonicTime Now() const override { return std::chrono::steady_clock::now(); }
  [[nodiscard]] WallTime WallNow() const override { return std::chrono::system_clock::now(); }
};

}  // namespace

const Clock& SystemClock() {
  static const RealClock clock;
  return clock;
}

}  // namespace weir::base
