#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "agent/base/clock.h"

namespace weir::telemetry {

// LatencyHistogram counts durations from 1 us to 1.2 h in four steps per doubling, so a
// quantile is right within 12 %. 512 bytes; longer and shorter ones count at the ends.
class LatencyHistogram {
 public:
  void Add(base::Nanoseconds duration);
  void Merge(const LatencyHistogram& other);
  [[nodiscard]] std::uint64_t count() const;
  // The duration that a share of `q` (0..1) does not exceed; zero when empty.
  [[nodiscard]] base::Nanoseconds Quantile(double q) const;

 private:
  static constexpr std::size_t kBuckets = 128;
  std::array<std::uint32_t, kBuckets> counts_{};
};

}  // namespace weir::telemetry
