#include "agent/daemon/export_plan.h"

#include <map>
#include <optional>
#include <utility>

namespace weir::daemon {
namespace {

using config::EnvironmentUse;
using config::TraceBackend;
using config::TraceBackendKind;
using telemetry::CollectorKind;
using telemetry::EnvironmentRule;

telemetry::NamedCollector ToNamed(const TraceBackend& backend) {
  const auto kind = [&] {
    switch (backend.kind) {
      case TraceBackendKind::kOtlpHttp:
        return CollectorKind::kOtlpHttp;
      case TraceBackendKind::kOtlpGrpc:
        return CollectorKind::kOtlpGrpc;
      case TraceBackendKind::kZipkin:
        return CollectorKind::kZipkin;
    }
    return CollectorKind::kOtlpHttp;
  };
  return {.kind = kind(), .url = backend.url, .short_trace_ids = backend.short_trace_ids};
}

EnvironmentRule ToRule(const EnvironmentUse& env) {
  const auto mode = [&] {
    switch (env.mode) {
      case EnvironmentUse::Mode::kDisabled:
        return EnvironmentRule::Mode::kDisabled;
      case EnvironmentUse::Mode::kOptional:
        return EnvironmentRule::Mode::kOptional;
      case EnvironmentUse::Mode::kRequired:
        return EnvironmentRule::Mode::kRequired;
    }
    return EnvironmentRule::Mode::kOptional;
  };
  return {.mode = mode(), .is_first = env.is_first, .allows_signals = env.allows_signals};
}

}  // namespace

ExportPlan PlanExport(const config::BuildResult& result,
                      const telemetry::GetEnvironment& environment) {
  ExportPlan plan;
  std::map<std::size_t, std::size_t> places;  // of the backends among the exporters
  const auto add = [&](std::string name, const std::optional<telemetry::NamedCollector>& named,
                       const EnvironmentRule& rule) -> std::optional<std::size_t> {
    auto found = telemetry::FindCollector(named, telemetry::Signal::kTraces, rule, environment);
    if (!found) {
      plan.problems.push_back(name + ": " + found.error().ToString() +
                              "; its spans stay in memory");
      return std::nullopt;
    }
    if (!*found) {
      return std::nullopt;
    }
    plan.routes.exporters.push_back({.name = std::move(name), .collector = std::move(**found)});
    return plan.routes.exporters.size() - 1;
  };
  for (std::size_t i = 0; i < result.trace_backends.size(); ++i) {
    const TraceBackend& backend = result.trace_backends[i];
    if (const auto place = add(backend.name, ToNamed(backend), ToRule(backend.env))) {
      places[i] = *place;
    }
  }
  plan.routes.fallback = result.trace_fallback
                             ? (places.contains(*result.trace_fallback)
                                    ? std::optional(places.at(*result.trace_fallback))
                                    : std::nullopt)
                             : add("environment", std::nullopt, EnvironmentRule{});
  for (const auto& [workload, backend] : result.trace_routes) {
    // A backend that cannot be followed must not send its spans elsewhere.
    plan.routes.by_workload[workload] =
        places.contains(backend) ? places.at(backend) : telemetry::ExportRoutes::kNowhere;
  }
  return plan;
}

}  // namespace weir::daemon
