#include "agent/daemon/agent.h"

#include <fmt/format.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "agent/base/log.h"
#include "agent/daemon/exit_status.h"
#include "agent/daemon/export_plan.h"
#include "agent/daemon/notify.h"

namespace weir::daemon {
namespace {
constexpr auto kTickInterval = std::chrono::seconds(1);
constexpr auto kStopPoll = std::chrono::milliseconds(20);
constexpr auto kDrainGrace = std::chrono::seconds(5);
constexpr auto kExportFlush = std::chrono::seconds(3);
constexpr auto kLogFlush = std::chrono::seconds(1);
}  // namespace

Agent::~Agent() {
  // The API first: its providers look at everything else.
  metrics_server_.reset();
  admin_.reset();
  enroller_.reset();
  if (datapath_ != nullptr) {
    datapath_->Stop();
  }
  if (workers_ != nullptr) {
    workers_->Stop();
  }
  if (pipeline_ != nullptr) {
    pipeline_->Stop();
  }
  if (access_log_ != nullptr) {
    access_log_->Stop(kLogFlush);
  }
  if (pusher_ != nullptr) {
    pusher_->Stop(kLogFlush);
  }
  if (exporters_ != nullptr) {
    exporters_->Stop(kExportFlush);
  }
}

int Agent::Run() {
  loop_->Run();
  return kExitDone;
}

void Agent::OnEvents(std::uint32_t /*events*/) noexcept {
  signalfd_siginfo info{};
  while (::read(signal_fd_.get(), &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo == SIGHUP) {
      Reload();
    } else if (stopping_) {
      loop_->Stop();
    } else {
      BeginStop();
    }
  }
}

std::set<std::string> Agent::PresentNames() const {
  std::set<std::string> names;
  for (const auto& where : discovery_->Present()) {
    names.insert(where.workload);
  }
  return names;
}

void Agent::OnPresenceChanged() {
  // While discovery and source are being made there is nobody to tell yet; and a burst of
  // changes is one change.
  if (source_ == nullptr || source_->current() == nullptr || presence_due_) {
    return;
  }
  presence_due_ = true;
  loop_->AtEndOfTurn([this] {
    presence_due_ = false;
    source_->SetPresent(PresentNames());
  });
}

void Agent::OnPublished(const config::BuildResult& result) {
  if (enroller_ == nullptr) {
    return;  // the first publication is taken once the data path stands
  }
  if (!result.extra_bundles.empty()) {
    Warn("MeshTrust: bundles of other trust domains are not used yet; only " +
         agent_.ca.root_bundle + " is trusted");
  }
  enroller_->Install(result.snapshot, discovery_->Present());
  SetBackends(result);
  spdlog::info("config revision={} workloads={} local={} warnings={}", result.snapshot->revision(),
               result.snapshot->workloads().size(), result.snapshot->locals().size(),
               result.diagnostics.Warnings().size());
  for (const auto& [name, why] : enroller_->problems()) {
    Warn(fmt::format("workload={} enrolled=no error=\"{}\"", name, why));
  }
  PublishFacts();
}

void Agent::OnRejected(const config::Rejection& rejection) {
  if (enroller_ == nullptr) {
    return;  // the start ends and says why
  }
  Warn(fmt::format("config=refused errors={} first=\"{}\"; revision {} stays in force",
                   rejection.errors.size(),
                   rejection.errors.empty() ? "" : rejection.errors.front().ToString(),
                   source_->status().revision));
  PublishFacts();
}

void Agent::SetBackends(const config::BuildResult& result) {
  const telemetry::GetEnvironment environment = [](const char* name) {
    return std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody changes it
  };
  ExportPlan plan = PlanExport(result, environment);
  for (const std::string& problem : plan.problems) {
    Warn(problem);
  }
  if (const auto done = exporters_->SetRoutes(std::move(plan.routes)); !done) {
    Warn(done.error().ToString());
  }
  if (auto done = access_log_->SetRules(result.access_logs, std::move(plan.logs)); !done) {
    Warn("access logs: " + done.error().ToString() + "; those before stay in force");
  }
  if (auto done = pusher_->SetTargets(std::move(plan.metrics)); !done) {
    Warn(done.error().ToString());
  }
  metrics_ports_.clear();
  for (const config::MetricsPort& port : result.metrics_ports) {
    metrics_ports_.push_back({.port = port.port, .path = port.path, .filter = port.filter});
  }
  OpenMetricsPorts();
}

void Agent::OpenMetricsPorts() {
  std::string problem;
  for (const base::Error& error : metrics_server_->SetPorts(metrics_ports_)) {
    problem += (problem.empty() ? "" : "; ") + error.ToString();
  }
  if (!problem.empty() && problem != metrics_problem_) {
    Warn(problem);
  }
  metrics_problem_ = std::move(problem);
}

void Agent::Tick() {
  tick_.Arm(kTickInterval);
  if (stopping_) {
    return;
  }
  ExpectCgroups();  // a parent directory may have come
  const auto gone = datapath_->Sweep();
  enroller_->Drop(gone);
  enroller_->Reconcile();
  ProbeNext();
  exporters_->Reap();
  access_log_->Reap();
  pusher_->Reap();
  pusher_->Tick(loop_->now(), [this] { return MetricsWithAdmin(); });
  if (!metrics_problem_.empty()) {
    OpenMetricsPorts();
  }
  const auto counters = pipeline_->counters();
  if (counters.records.dropped > lost_flows_) {
    flows_.NoteLost(counters.records.dropped - lost_flows_);
    lost_flows_ = counters.records.dropped;
  }
  PublishFacts();
  if (WatchdogInterval()) {
    NotifySystemd("WATCHDOG=1");
  }
}

void Agent::ExpectCgroups() {
  if (auto done = datapath_->Expect(ExpectedCgroups(agent_, datapath_->cgroup_path())); !done) {
    Warn("units that start are not closed at once: " + done.error().ToString());
  }
}

// One workload a tick, newly enrolled ones first: a probe that hangs takes a second.
void Agent::ProbeNext() {
  const auto enrolled = enroller_->enrolled();
  if (enrolled.empty()) {
    return;
  }
  std::erase_if(probed_at_, [&](const auto& entry) {
    return std::ranges::find(enrolled, entry.first) == enrolled.end();
  });
  bool probed = false;
  for (const model::LocalId id : enrolled) {
    if (!probed_at_.contains(id)) {
      Probe(id);
      probed = true;
    }
  }
  if (!probed) {
    Probe(enrolled[next_probe_++ % enrolled.size()]);
  }
}

void Agent::Probe(model::LocalId id) {
  const auto result = datapath_->Probe(id);
  probed_at_[id] = base::SystemClock().WallNow();
  if (!result || !result->ok) {
    Warn(fmt::format("workload={} self-probe=failed detail=\"{}\"", static_cast<std::uint32_t>(id),
                     result ? result->detail : result.error().ToString()));
  }
}

void Agent::PublishFacts() {
  facts_.agent = agent_;
  facts_.source = source_->status();
  const config::BuildResult* current = source_->current();
  facts_.snapshot = current != nullptr ? current->snapshot : nullptr;
  facts_.present = discovery_->Present();
  facts_.enrolments = datapath_->Status();
  facts_.hooks = datapath_->Hooks();
  facts_.kernel_counters = datapath_->Counters();
  facts_.preexisting = datapath_->Preexisting();
  facts_.svids = identities_->Status();
  facts_.ca = identities_->ca_status();
  facts_.problems = enroller_->problems();
  facts_.probed_at = probed_at_;
  board_.Publish(facts_);
}

void Agent::Warn(const std::string& text) {
  spdlog::warn("{}", text);
  facts_.last_problem = text;
  facts_.last_problem_at = base::SystemClock().WallNow();
}

// SIGHUP: agent.yaml and the certificate authority's files, whole or not at all; and the access
// log is opened anew, whatever agent.yaml says, since whoever rotated it is waiting.
void Agent::Reload() {
  access_log_->Reopen();
  config::Diagnostics findings;
  auto next = config::LoadAgentConfig(config_path_, findings);
  if (!findings.ok()) {
    Warn(fmt::format("{}=refused errors={} first=\"{}\"; what was read before stays in force",
                     config_path_, findings.error_count(), findings.Errors().front().ToString()));
    return;
  }
  for (const auto& change : config::Diff(agent_, next)) {
    if (change.needs_restart) {
      Warn(fmt::format("{}: {} changed, which needs a restart of the agent", config_path_,
                       change.field));
    } else {
      spdlog::info("{}: {} changed", config_path_, change.field);
    }
  }
  auto applicable = config::Applicable(agent_, next);
  if (auto done = source_->SetAgentConfig(applicable); !done) {
    Warn(config_path_ + "=refused: " + done.error().ToString());
    return;
  }
  agent_ = std::move(applicable);
  (void)base::SetLogLevel(agent_.log_level);  // validated with the file
  ExpectCgroups();
  discovery_->SetWorkloads(agent_.workloads);
  if (auto done = identities_->Reload(); !done) {
    Warn("certificate authority: " + done.error().ToString() + "; the one before stays in use");
  }
  PublishFacts();
}

// No new connection is intercepted for open workloads, closed ones are refused by the
// pinned hooks; what is being served gets a grace time.
void Agent::BeginStop() {
  stopping_ = true;
  facts_.state = "draining";
  NotifySystemd("STOPPING=1");
  PublishFacts();
  spdlog::info("stopping: draining {} sessions for at most {} s", workers_->open_sessions(),
               std::chrono::seconds(kDrainGrace).count());
  workers_->Drain(kDrainGrace);
  stop_deadline_ = loop_->now() + kDrainGrace + std::chrono::milliseconds(500);
  stop_poll_.Arm(kStopPoll);
}

void Agent::EndStop() {
  if (workers_->drained() || loop_->now() >= stop_deadline_) {
    loop_->Stop();
    return;
  }
  stop_poll_.Arm(kStopPoll);
}

}  // namespace weir::daemon
