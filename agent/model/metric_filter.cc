#include "agent/model/metric_filter.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <utility>

namespace weir::model {
namespace {

constexpr std::int64_t kMaxPatternBytes = 64 << 10;

// Requests, durations and connections, and what deploy/prometheus/ needs.
constexpr std::array<std::string_view, 25> kBasic = {
    "process_cpu_seconds",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "weir_access_log_dropped",
    "weir_build_info",
    "weir_certificate_expiry_timestamp_seconds",
    "weir_certificate_start_timestamp_seconds",
    "weir_certificates_failing",
    "weir_config_rejected",
    "weir_connection_received_bytes",
    "weir_connection_sent_bytes",
    "weir_connections",
    "weir_enrolled_workloads",
    "weir_export_dropped",
    "weir_interception_missing",
    "weir_kernel_events",
    "weir_loop_turn_seconds",
    "weir_memory_limit_bytes",
    "weir_ready",
    "weir_request_duration_seconds",
    "weir_requests",
    "weir_telemetry_dropped",
    "weir_telemetry_generated",
    "weir_tunnel_wait_seconds",
};

base::Result<std::vector<std::shared_ptr<const re2::RE2>>> Compile(
    const std::vector<MetricSelector>& selectors) {
  std::vector<std::shared_ptr<const re2::RE2>> patterns;
  for (const MetricSelector& selector : selectors) {
    patterns.emplace_back();
    if (selector.type != MetricSelector::Type::kRegex) {
      continue;
    }
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(kMaxPatternBytes);
    auto pattern = std::make_shared<const re2::RE2>(selector.match, options);
    if (!pattern->ok()) {
      return base::MakeError(base::ErrorCode::kInvalidArgument,
                             "\"" + selector.match + "\": " + pattern->error());
    }
    patterns.back() = std::move(pattern);
  }
  return patterns;
}

}  // namespace

base::Result<MetricFilter> MetricFilter::Make(MetricSelection selection) {
  auto include = Compile(selection.include);
  if (!include) {
    return std::unexpected(include.error());
  }
  auto exclude = Compile(selection.exclude);
  if (!exclude) {
    return std::unexpected(exclude.error());
  }
  MetricFilter filter;
  filter.selection_ = std::move(selection);
  filter.include_ = std::move(*include);
  filter.exclude_ = std::move(*exclude);
  return filter;
}

bool MetricFilter::Matches(const std::vector<MetricSelector>& selectors, const Patterns& patterns,
                           std::string_view name) {
  for (std::size_t i = 0; i < selectors.size(); ++i) {
    const std::string& match = selectors[i].match;
    switch (selectors[i].type) {
      case MetricSelector::Type::kPrefix:
        if (name.starts_with(match)) {
          return true;
        }
        break;
      case MetricSelector::Type::kExact:
        if (name == match) {
          return true;
        }
        break;
      case MetricSelector::Type::kContains:
        if (name.contains(match)) {
          return true;
        }
        break;
      case MetricSelector::Type::kRegex:
        if (re2::RE2::PartialMatch(re2::StringPiece(name.data(), name.size()), *patterns[i])) {
          return true;
        }
        break;
    }
  }
  return false;
}

bool MetricFilter::Admits(std::string_view name, bool is_counter) const {
  const std::string total = std::string(name) + "_total";
  const auto is_in = [&](const std::vector<MetricSelector>& selectors, const Patterns& patterns) {
    return Matches(selectors, patterns, name) ||
           (is_counter && Matches(selectors, patterns, total));
  };
  if (is_in(selection_.include, include_)) {
    return true;
  }
  if (is_in(selection_.exclude, exclude_)) {
    return false;
  }
  const std::vector<MetricProfile>& profiles = selection_.profiles;
  const auto has = [&](MetricProfile profile) {
    return std::ranges::find(profiles, profile) != profiles.end();
  };
  return profiles.empty() || has(MetricProfile::kAll) ||
         (has(MetricProfile::kBasic) && std::ranges::binary_search(kBasic, name));
}

}  // namespace weir::model
