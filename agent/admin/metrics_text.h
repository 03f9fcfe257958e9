#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/observe/metrics.h"

namespace weir::admin {

inline constexpr std::string_view kOpenMetricsType =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

// The OpenMetrics 1.0 text of `families`, in their order, closed by "# EOF". Families
// of one name are joined, as the format forbids a second block of the same.
std::string ToOpenMetrics(const std::vector<observe::MetricFamily>& families);

}  // namespace weir::admin
