#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "agent/base/clock.h"

namespace weir::telemetry {

// LatencyHistogram counts durations of up to 2.3 h in microseconds, with four buckets per
// doubling: a quantile is off by a quarter at most. Longer ones count as 2.3 h. 512 bytes.
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
