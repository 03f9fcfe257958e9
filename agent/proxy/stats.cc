#include "agent/proxy/stats.h"

#include <string>

namespace weir::proxy {
namespace {

using observe::MetricFamily;
using observe::MetricType;
using Workers = std::span<const WorkerStats* const>;

double Sum(Workers workers, Counter WorkerStats::* counter) {
  std::uint64_t sum = 0;
  for (const WorkerStats* worker : workers) {
    sum += (worker->*counter).value();
  }
  return static_cast<double>(sum);
}

// A family whose samples differ in one label.
struct Labelled {
  const char* value;
  Counter WorkerStats::* counter;
};

MetricFamily ByLabel(Workers workers, MetricFamily family, const char* label,
                     std::initializer_list<Labelled> samples) {
  for (const Labelled& sample : samples) {
    family.samples.push_back(
        {.labels = {{label, sample.value}}, .value = Sum(workers, sample.counter)});
  }
  return family;
}

MetricFamily Single(Workers workers, MetricFamily family, Counter WorkerStats::* counter) {
  family.samples.push_back({.labels = {}, .value = Sum(workers, counter)});
  return family;
}

MetricFamily Reasons(Workers workers) {
  MetricFamily family{.name = "weir_connection_failures",
                      .help = "Connections and requests that were refused or broke, by reason.",
                      .type = MetricType::kCounter,
                      .samples = {}};
  for (std::size_t i = 1; i < observe::kReasonCount; ++i) {
    std::uint64_t sum = 0;
    for (const WorkerStats* worker : workers) {
      sum += worker->reasons[i].value();
    }
    family.samples.push_back(
        {.labels = {{"reason", std::string(observe::ToString(static_cast<observe::Reason>(i)))}},
         .value = static_cast<double>(sum)});
  }
  return family;
}

}  // namespace

std::vector<MetricFamily> CollectMetrics(Workers workers) {
  const auto family = [](const char* name, const char* help, MetricType type) {
    return MetricFamily{.name = name, .help = help, .type = type, .samples = {}};
  };
  constexpr auto kCounter = MetricType::kCounter;
  constexpr auto kGauge = MetricType::kGauge;
  using S = WorkerStats;
  std::vector<MetricFamily> all;
  all.push_back(
      ByLabel(workers, family("weir_connections_accepted", "Connections intercepted.", kCounter),
              "direction", {{"out", &S::accepted_outbound}, {"in", &S::accepted_inbound}}));
  all.push_back(ByLabel(workers, family("weir_tunnels", "Tunnels open now.", kGauge), "role",
                        {{"client", &S::tunnels_client}, {"server", &S::tunnels_server}}));
  all.push_back(ByLabel(workers, family("weir_bytes", "Application bytes passed on.", kCounter),
                        "direction",
                        {{"to_upstream", &S::bytes_sent}, {"from_upstream", &S::bytes_received}}));
  struct Plain {
    const char* name;
    const char* help;
    MetricType type;
    Counter S::* counter;
  };
  static constexpr Plain kPlain[] = {
      {"weir_sessions", "Application connections and streams open now.", kGauge, &S::open_sessions},
      {"weir_connections_finished", "Connections that ended.", kCounter, &S::connections},
      {"weir_requests_finished", "HTTP requests that ended.", kCounter, &S::requests},
      {"weir_self_probes_answered", "Self-probes answered.", kCounter, &S::probes},
      {"weir_accept_pauses", "Times that accepting paused for want of descriptors.", kCounter,
       &S::accept_pauses},
      {"weir_detect_timeouts", "Protocol detections that ran out of time.", kCounter,
       &S::detect_timeouts},
      {"weir_witnesses", "Witness connections made for same-node joins.", kCounter, &S::witnesses},
      {"weir_delivery_retries", "Delivery connections tried again from another port.", kCounter,
       &S::delivery_retries},
      {"weir_snapshots_installed", "Snapshots that workers installed.", kCounter, &S::snapshots},
  };
  for (const Plain& plain : kPlain) {
    all.push_back(Single(workers, family(plain.name, plain.help, plain.type), plain.counter));
  }
  all.push_back(Reasons(workers));
  return all;
}

}  // namespace weir::proxy
