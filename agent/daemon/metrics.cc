#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "agent/base/log.h"
#include "agent/config/discovery.h"
#include "agent/daemon/status.h"

namespace weir::daemon {
namespace {

using observe::MetricFamily;
using observe::MetricSample;
using observe::MetricType;

MetricFamily Family(std::string name, std::string help, MetricType type,
                    std::vector<MetricSample> samples = {}) {
  return {.name = std::move(name),
          .help = std::move(help),
          .type = type,
          .samples = std::move(samples)};
}

MetricFamily Gauge(std::string name, std::string help, double value) {
  return Family(std::move(name), std::move(help), MetricType::kGauge,
                {{.labels = {}, .value = value}});
}

double SecondsOf(base::WallTime time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

// What should intercept and does not, by part: 0 everywhere on a node that is well.
MetricFamily InterceptionMissing(const ControlFacts& facts) {
  const auto hooks = std::ranges::count(facts.hooks, false, &datapath::HookStatus::attached);
  std::size_t lookups = 0;
  std::size_t listeners = 0;
  std::size_t probes = 0;
  for (const auto& enrolment : facts.enrolments) {
    lookups += enrolment.lookup_link_alive ? 0 : 1;
    listeners += enrolment.listeners_expected - enrolment.listeners_alive;
    probes += facts.probed_at.contains(enrolment.id) && !enrolment.last_probe.ok ? 1 : 0;
  }
  MetricFamily missing =
      Family("weir_interception_missing", "Parts of the interception that are not in place.",
             MetricType::kGauge);
  for (const auto& [part, count] : {std::pair{"hook", static_cast<double>(hooks)},
                                    std::pair{"lookup", static_cast<double>(lookups)},
                                    std::pair{"listener", static_cast<double>(listeners)},
                                    std::pair{"probe", static_cast<double>(probes)}}) {
    missing.samples.push_back({.labels = {{"part", part}}, .value = count});
  }
  return missing;
}

void AppendConfig(const ControlFacts& facts, std::vector<MetricFamily>& families) {
  families.push_back(Gauge("weir_config_revision", "Revision of the configuration in force.",
                           static_cast<double>(facts.source.revision)));
  families.push_back(Gauge("weir_config_loaded_timestamp_seconds",
                           "When the configuration in force was taken.",
                           SecondsOf(facts.source.loaded_at)));
  families.push_back(
      Gauge("weir_config_rejected",
            "1 while the newest configuration is refused and an older one is in force.",
            facts.source.last_rejection ? 1 : 0));
  families.push_back(Family(
      "weir_config_rejections", "Configurations that were refused whole.", MetricType::kCounter,
      {{.labels = {}, .value = static_cast<double>(facts.source.rejection_count)}}));
}

void AppendCertificates(const ControlFacts& facts, std::vector<MetricFamily>& families) {
  MetricFamily start =
      Family("weir_certificate_start_timestamp_seconds",
             "When a workload's certificate began to be valid.", MetricType::kGauge);
  MetricFamily expiry = Family("weir_certificate_expiry_timestamp_seconds",
                               "When a workload's certificate ends.", MetricType::kGauge);
  double failing = 0;
  for (const auto& svid : facts.svids) {
    failing += svid.last_error.empty() ? 0 : 1;
    if (svid.not_after == 0) {
      continue;  // none was issued yet
    }
    const observe::MetricSample sample{.labels = {{"identity", svid.spiffe_id}}};
    start.samples.push_back(sample);
    start.samples.back().value = static_cast<double>(svid.not_before);
    expiry.samples.push_back(sample);
    expiry.samples.back().value = static_cast<double>(svid.not_after);
  }
  families.push_back(std::move(start));
  families.push_back(std::move(expiry));
  families.push_back(Gauge("weir_certificates_failing",
                           "Workloads for which the last attempt at a certificate failed.",
                           failing));
}

double ProcessorSeconds(const ::rusage& usage) {
  const auto seconds = [](const ::timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// The smallest limit of memory of the cgroups that this process is in; nothing without one.
std::optional<std::uint64_t> MemoryLimit() {
  const auto root = config::FindCgroup2Root();
  std::ifstream own("/proc/self/cgroup");
  std::string line;
  while (root && std::getline(own, line) && !line.starts_with("0::/")) {
  }
  if (!root || !line.starts_with("0::/")) {
    return std::nullopt;
  }
  std::optional<std::uint64_t> least;
  for (std::string path = line.substr(3); !path.empty(); path.resize(path.rfind('/'))) {
    std::uint64_t limit = 0;  // "max" is no number
    if (std::ifstream file(*root + path + "/memory.max"); file >> limit) {
      least = std::min(least.value_or(limit), limit);
    }
  }
  return least;
}

}  // namespace

std::vector<MetricFamily> ControlMetrics(const ControlFacts& facts) {
  std::vector<MetricFamily> families;
  families.push_back(Family(
      "weir_build_info", "1; its labels are the agent's version and node.", MetricType::kGauge,
      {{.labels = {{"version", WEIR_VERSION}, {"node", facts.agent.node_name}}, .value = 1}}));
  std::vector<std::string> reasons;
  families.push_back(Gauge("weir_ready", "1 while everything on this node is served as configured.",
                           IsReady(facts, reasons) ? 1 : 0));
  families.push_back(Gauge("weir_configured_workloads",
                           "Workloads that the agent's own configuration names.",
                           static_cast<double>(facts.agent.workloads.size())));
  families.push_back(Gauge("weir_enrolled_workloads",
                           "Workloads that are intercepted on this node.",
                           static_cast<double>(facts.enrolments.size())));
  families.push_back(InterceptionMissing(facts));
  MetricFamily features =
      Family("weir_feature_available", "1 for what the kernel offers, 0 where a fallback is used.",
             MetricType::kGauge);
  for (const auto& feature : facts.features) {
    features.samples.push_back(
        {.labels = {{"feature", feature.name}}, .value = feature.available ? 1.0 : 0.0});
  }
  families.push_back(std::move(features));
  AppendConfig(facts, families);
  MetricFamily kernel =
      Family("weir_kernel_events", "Decisions of the BPF programs.", MetricType::kCounter);
  for (const auto& counter : facts.kernel_counters) {
    kernel.samples.push_back({.labels = {{"hook", counter.hook}, {"reason", counter.reason}},
                              .value = static_cast<double>(counter.value)});
  }
  families.push_back(std::move(kernel));
  AppendCertificates(facts, families);
  return families;
}

std::vector<MetricFamily> ProcessMetrics(base::WallTime started_at) {
  std::vector<MetricFamily> families;
  families.push_back(
      Gauge("process_start_time_seconds", "When the agent started.", SecondsOf(started_at)));
  ::rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) {
    families.push_back(Family("process_cpu_seconds", "CPU time that the agent has used.",
                              MetricType::kCounter,
                              {{.labels = {}, .value = ProcessorSeconds(usage)}}));
  }
  families.push_back(
      Family("weir_log_dropped_lines", "Lines of the agent's own log that nobody took.",
             MetricType::kCounter,
             {{.labels = {}, .value = static_cast<double>(base::DroppedLogLines())}}));
  double pages = 0;
  if (std::ifstream statm("/proc/self/statm"); statm >> pages >> pages) {  // the second is RSS
    families.push_back(Gauge("process_resident_memory_bytes", "Resident memory of the agent.",
                             pages * static_cast<double>(::sysconf(_SC_PAGESIZE))));
  }
  MetricFamily limit = Family(
      "weir_memory_limit_bytes",
      "Memory that the agent's cgroups let it have; absent without a limit.", MetricType::kGauge);
  if (const auto bytes = MemoryLimit()) {
    limit.samples.push_back({.labels = {}, .value = static_cast<double>(*bytes)});
  }
  families.push_back(std::move(limit));
  std::error_code error;
  double descriptors = 0;
  for (std::filesystem::directory_iterator entry("/proc/self/fd", error), end;
       !error && entry != end; entry.increment(error)) {
    ++descriptors;
  }
  ::rlimit most{};
  if (!error && ::getrlimit(RLIMIT_NOFILE, &most) == 0) {
    families.push_back(Gauge("process_open_fds", "Open file descriptors.", descriptors));
    families.push_back(Gauge("process_max_fds", "Most file descriptors that may be open.",
                             static_cast<double>(most.rlim_cur)));
  }
  return families;
}

}  // namespace weir::daemon
