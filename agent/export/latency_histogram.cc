#include "agent/export/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace weir::telemetry {
namespace {

// Values below 4 have a bucket each; above, the two bits after the leading one choose
// among four buckets of equal width.
std::size_t BucketOf(std::uint64_t microseconds) {
  if (microseconds < 4) {
    return microseconds;
  }
  const auto octave = static_cast<unsigned>(std::bit_width(microseconds)) - 1;
  return (octave - 1) * 4 + ((microseconds >> (octave - 2)) & 3U);
}

std::uint64_t LowerBound(std::size_t bucket) {
  if (bucket < 4) {
    return bucket;
  }
  return (4 + bucket % 4) << (bucket / 4 - 1);
}

}  // namespace

void LatencyHistogram::Add(base::Nanoseconds duration) {
  const auto microseconds = std::max<std::int64_t>(duration.count(), 0) / 1000;
  ++counts_[std::min(BucketOf(static_cast<std::uint64_t>(microseconds)), kBuckets - 1)];
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (std::size_t i = 0; i < kBuckets; ++i) {
    counts_[i] += other.counts_[i];
  }
}

std::uint64_t LatencyHistogram::count() const {
  return std::accumulate(counts_.begin(), counts_.end(), std::uint64_t{0});
}

base::Nanoseconds LatencyHistogram::Quantile(double q) const {
  const double rank = std::max(1.0, std::ceil(q * static_cast<double>(count())));
  double before = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    const double here = counts_[i];
    if (here > 0 && before + here >= rank) {
      const auto low = static_cast<double>(LowerBound(i));
      const auto high = static_cast<double>(LowerBound(i + 1));
      const double microseconds = low + (high - low) * (rank - before) / here;
      return base::Nanoseconds(std::llround(microseconds * 1000));
    }
    before += here;
  }
  return base::Nanoseconds(0);
}

}  // namespace weir::telemetry
