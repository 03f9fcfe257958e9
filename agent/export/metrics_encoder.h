#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/model/metric_filter.h"
#include "agent/observe/metrics.h"

namespace weir::telemetry {

// Appends the families that `filter` admits as fields `metrics` of ScopeMetrics: counters as
// cumulative monotonic sums since `start`, gauges, and histograms with explicit bounds and the
// exemplars of their buckets. The unit is what the name ends in (_seconds, _bytes). Gives how
// many data points there are. Pure.
std::size_t AppendMetrics(const std::vector<observe::MetricFamily>& families,
                          const model::MetricFilter& filter, base::WallTime start,
                          base::WallTime now, std::string& out);

}  // namespace weir::telemetry
