#include "agent/daemon/export_plan.h"

#include <map>
#include <optional>
#include <utility>

namespace weir::daemon {
namespace {

using config::BackendKind;
using config::EnvironmentUse;
using config::TelemetryBackend;
using telemetry::CollectorKind;
using telemetry::EnvironmentRule;

telemetry::NamedCollector ToNamed(const TelemetryBackend& backend) {
  const auto kind = [&] {
    switch (backend.kind) {
      case BackendKind::kOtlpHttp:
        return CollectorKind::kOtlpHttp;
      case BackendKind::kOtlpGrpc:
        return CollectorKind::kOtlpGrpc;
      case BackendKind::kZipkin:
        return CollectorKind::kZipkin;
    }
    return CollectorKind::kOtlpHttp;
  };
  return {.kind = kind(),
          .url = backend.url,
          .is_base_url = backend.kind == BackendKind::kOtlpHttp,
          .short_trace_ids = backend.short_trace_ids};
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

// The collectors of access logs and of metrics.
void PlanOtherSignals(const config::BuildResult& result,
                      const telemetry::GetEnvironment& environment, ExportPlan& plan) {
  const auto find = [&](const TelemetryBackend& backend, telemetry::Signal signal,
                        const std::string& loss) -> std::optional<telemetry::NamedExporter> {
    auto found =
        telemetry::FindCollector(ToNamed(backend), signal, ToRule(backend.env), environment);
    if (!found || !*found) {
      plan.problems.push_back(backend.name + ": " +
                              (found ? "no endpoint" : found.error().ToString()) + "; " + loss);
      return std::nullopt;
    }
    return telemetry::NamedExporter{.name = backend.name, .collector = std::move(**found)};
  };
  for (const TelemetryBackend& backend : result.log_backends) {
    if (auto exporter = find(backend, telemetry::Signal::kLogs, "its log records are dropped")) {
      plan.logs.push_back(std::move(*exporter));
    }
  }
  for (const config::MetricsPush& push : result.metrics_pushes) {
    if (auto exporter = find(push.backend, telemetry::Signal::kMetrics, "it gets no metrics")) {
      plan.metrics.push_back(
          {.exporter = std::move(*exporter), .interval = push.interval, .filter = push.filter});
    }
  }
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
    const TelemetryBackend& backend = result.trace_backends[i];
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
  PlanOtherSignals(result, environment, plan);
  return plan;
}

}  // namespace weir::daemon
