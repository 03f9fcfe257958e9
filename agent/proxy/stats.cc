#include "agent/proxy/stats.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace weir::proxy {
namespace {

using observe::MetricFamily;
using observe::MetricType;
using Workers = std::span<const WorkerStats* const>;
using Figure = const Counter& (*)(const WorkerStats&);

// Adds the sum of one figure as a sample; with an empty label key, without a label.
template <typename Pick>
void AddSample(MetricFamily& family, Workers workers, const std::string& key,
               std::string_view value, Pick pick) {
  std::uint64_t sum = 0;
  for (const WorkerStats* worker : workers) {
    sum += pick(*worker).value();
  }
  observe::MetricSample sample{.labels = {}, .value = static_cast<double>(sum)};
  if (!key.empty()) {
    sample.labels.emplace_back(key, value);
  }
  family.samples.push_back(std::move(sample));
}

MetricFamily Family(const char* name, const char* help, MetricType type = MetricType::kCounter) {
  return {.name = name, .help = help, .type = type, .samples = {}};
}

// A family whose samples differ in one label.
struct Labelled {
  const char* value;
  Figure figure;
};

void AddByLabel(std::vector<MetricFamily>& all, Workers workers, MetricFamily family,
                const char* key, std::initializer_list<Labelled> samples) {
  for (const Labelled& sample : samples) {
    AddSample(family, workers, key, sample.value, sample.figure);
  }
  all.push_back(std::move(family));
}

// A family with one sample for each value of `Enum` but its first, which is "nothing", that was
// counted: most never are, and would be half of all of the node's series.
template <typename Enum, typename Counters>
void AddByEnum(std::vector<MetricFamily>& all, Workers workers, MetricFamily family,
               const char* key, Counters counters) {
  const std::size_t count = counters(*workers.front()).size();
  for (std::size_t i = 1; i < count; ++i) {
    AddSample(family, workers, key, ToString(static_cast<Enum>(i)),
              [&](const WorkerStats& worker) -> const Counter& { return counters(worker)[i]; });
    if (family.samples.back().value == 0) {
      family.samples.pop_back();
    }
  }
  all.push_back(std::move(family));
}

void AddConnections(std::vector<MetricFamily>& all, Workers workers) {
  using S = WorkerStats;
  AddByLabel(all, workers, Family("weir_connections_accepted", "Connections intercepted."),
             "direction",
             {{"out", [](const S& s) -> const Counter& { return s.accepted_outbound; }},
              {"in", [](const S& s) -> const Counter& { return s.accepted_inbound; }}});
  AddByLabel(all, workers, Family("weir_bytes", "Application bytes passed on."), "direction",
             {{"to_upstream", [](const S& s) -> const Counter& { return s.bytes_sent; }},
              {"from_upstream", [](const S& s) -> const Counter& { return s.bytes_received; }}});
  AddByEnum<observe::Reason>(
      all, workers,
      Family("weir_connection_failures",
             "Connections and requests that were refused or broke, by reason."),
      "reason", [](const S& s) -> const auto& { return s.reasons; });
}

void AddHttp2(std::vector<MetricFamily>& all, Workers workers) {
  AddByEnum<http::H2Violation>(
      all, workers,
      Family("weir_http2_violations",
             "HTTP/2 connections of applications closed because an end broke the protocol."),
      "kind", [](const WorkerStats& s) -> const auto& { return s.h2_violations; });
}

void AddDatabases(std::vector<MetricFamily>& all, Workers workers) {
  AddByEnum<database::TapEnd>(
      all, workers,
      Family("weir_database_unfollowed",
             "Database connections whose commands are not followed to the end, by reason."),
      "reason", [](const WorkerStats& s) -> const auto& { return s.database_ends; });
}

void AddDecisions(std::vector<MetricFamily>& all, Workers workers) {
  static constexpr std::array<const char*, kDecisionScopeCount> kScopes = {"connection", "request"};
  MetricFamily family =
      Family("weir_policy_decisions",
             "Connections and requests that the policy of their destination decided on.");
  for (std::size_t scope = 0; scope < kDecisionScopeCount; ++scope) {
    for (std::size_t outcome = 0; outcome < policy::kOutcomeCount; ++outcome) {
      AddSample(
          family, workers, "scope", kScopes[scope],
          [&](const WorkerStats& s) -> const Counter& { return s.decisions[scope][outcome]; });
      family.samples.back().labels.emplace_back("verdict",
                                                ToString(static_cast<policy::Outcome>(outcome)));
    }
  }
  all.push_back(std::move(family));
}

void AddTunnels(std::vector<MetricFamily>& all, Workers workers) {
  using S = WorkerStats;
  AddByLabel(all, workers, Family("weir_tunnels", "Tunnels open now.", MetricType::kGauge), "role",
             {{"client", [](const S& s) -> const Counter& { return s.tunnels.open_client; }},
              {"server", [](const S& s) -> const Counter& { return s.tunnels.open_server; }}});
  AddByLabel(all, workers, Family("weir_tunnels_opened", "Tunnels whose peer was admitted."),
             "role",
             {{"client", [](const S& s) -> const Counter& { return s.tunnels.connected; }},
              {"server", [](const S& s) -> const Counter& { return s.tunnels.accepted; }}});
  AddByLabel(all, workers, Family("weir_tunnel_streams", "Streams of tunnels."), "outcome",
             {{"opened", [](const S& s) -> const Counter& { return s.tunnels.streams_opened; }},
              {"accepted", [](const S& s) -> const Counter& { return s.tunnels.streams_accepted; }},
              {"refused", [](const S& s) -> const Counter& { return s.tunnels.streams_refused; }}});
  AddByLabel(all, workers, Family("weir_tunnel_bytes", "Encrypted bytes of tunnels."), "direction",
             {{"sent", [](const S& s) -> const Counter& { return s.tunnels.bytes_sent; }},
              {"received", [](const S& s) -> const Counter& { return s.tunnels.bytes_received; }}});
  AddByEnum<observe::Reason>(
      all, workers, Family("weir_tunnel_failures", "Tunnels that failed or broke, by reason."),
      "reason", [](const S& s) -> const auto& { return s.tunnels.closed; });
  AddByEnum<http::TunnelViolation>(
      all, workers,
      Family("weir_tunnel_violations", "Tunnels closed because the peer broke the protocol."),
      "kind", [](const S& s) -> const auto& { return s.tunnels.violations; });
}

void AddPlain(std::vector<MetricFamily>& all, Workers workers) {
  using S = WorkerStats;
  struct Plain {
    const char* name;
    const char* help;
    MetricType type;
    Counter S::* counter;
  };
  static constexpr Plain kPlain[] = {
      {"weir_sessions", "Application connections and streams open now.", MetricType::kGauge,
       &S::open_sessions},
      {"weir_connections_finished", "Connections that ended.", MetricType::kCounter,
       &S::connections},
      {"weir_requests_finished", "Requests of HTTP and commands of databases that ended.",
       MetricType::kCounter, &S::requests},
      {"weir_database_commands_untraced",
       "Commands without a record, as too many before them were unanswered.", MetricType::kCounter,
       &S::database_untraced},
      {"weir_self_probes_answered", "Self-probes answered.", MetricType::kCounter, &S::probes},
      {"weir_accept_pauses", "Times that accepting paused for want of descriptors.",
       MetricType::kCounter, &S::accept_pauses},
      {"weir_detect_timeouts", "Protocol detections that ran out of time.", MetricType::kCounter,
       &S::detect_timeouts},
      {"weir_witnesses", "Witness connections made for same-node joins.", MetricType::kCounter,
       &S::witnesses},
      {"weir_delivery_retries", "Delivery connections tried again from another port.",
       MetricType::kCounter, &S::delivery_retries},
      {"weir_deliveries_untracked",
       "Delivery connections whose requests can be nobody's inferred parents: no slot was free, "
       "or the kernel lacks the hooks.",
       MetricType::kCounter, &S::deliveries_untracked},
      {"weir_snapshots_installed", "Snapshots that workers installed.", MetricType::kCounter,
       &S::snapshots},
  };
  for (const Plain& plain : kPlain) {
    MetricFamily family = Family(plain.name, plain.help, plain.type);
    AddSample(family, workers, "", "",
              [&](const S& s) -> const Counter& { return s.*plain.counter; });
    all.push_back(std::move(family));
  }
}

void AddTurns(std::vector<MetricFamily>& all, Workers workers) {
  using T = TurnHistogram;
  MetricFamily family =
      Family("weir_loop_turn_seconds", "Time that a turn of a worker's event loop took.",
             MetricType::kHistogram);
  std::uint64_t count = 0;
  std::uint64_t nanoseconds = 0;
  for (std::size_t i = 0; i <= T::kBounds.size(); ++i) {
    for (const WorkerStats* worker : workers) {
      count += worker->turns.buckets[i].value();
      nanoseconds += i == 0 ? worker->turns.nanoseconds.value() : 0;
    }
    family.samples.push_back(
        {.labels = {{"le", i < T::kBounds.size() ? observe::BoundText(T::kBounds[i]) : "+Inf"}},
         .value = static_cast<double>(count),
         .suffix = "_bucket"});
  }
  family.samples.push_back({.labels = {}, .value = static_cast<double>(count), .suffix = "_count"});
  family.samples.push_back(
      {.labels = {}, .value = static_cast<double>(nanoseconds) / 1e9, .suffix = "_sum"});
  all.push_back(std::move(family));
}

}  // namespace

void TurnHistogram::Add(base::Nanoseconds turn) {
  const double seconds = std::chrono::duration<double>(turn).count();
  const auto* const bound = std::ranges::lower_bound(kBounds, seconds);
  buckets[static_cast<std::size_t>(bound - kBounds.begin())].Add();
  nanoseconds.Add(static_cast<std::uint64_t>(turn.count()));
}

std::vector<MetricFamily> CollectMetrics(Workers workers) {
  std::vector<MetricFamily> all;
  AddConnections(all, workers);
  AddDecisions(all, workers);
  AddTunnels(all, workers);
  AddHttp2(all, workers);
  AddDatabases(all, workers);
  AddPlain(all, workers);
  AddTurns(all, workers);
  return all;
}

}  // namespace weir::proxy
