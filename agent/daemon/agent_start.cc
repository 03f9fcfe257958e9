// The start of an agent, step by step; see agent.cc for what it does afterwards.
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <utility>

#include "agent/base/log.h"
#include "agent/daemon/agent.h"
#include "agent/daemon/checks.h"
#include "agent/daemon/exit_status.h"
#include "agent/daemon/notify.h"
#include "agent/daemon/status.h"
#include "agent/daemon/top_view.h"
#include "agent/daemon/trace_view.h"
#include "weir/v1/admin.pb.h"

namespace weir::daemon {
namespace {

std::unexpected<StartFailure> Fail(int status, base::Error error) {
  return std::unexpected(StartFailure{.status = status, .error = std::move(error)});
}

std::uint32_t WorkerCount(const config::AgentConfig& agent) {
  return agent.workers != 0 ? agent.workers : std::max(1U, std::thread::hardware_concurrency());
}

// Log records and metrics that wait for collectors, besides the spans' queue.
constexpr std::size_t kLogQueueBytes = 16U << 20U;
constexpr std::size_t kMetricsQueueBytes = 4U << 20U;

// Each connection takes two descriptors: as many as the kernel lets us have.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &limit);  // WK109 says when it is too low
  }
}

}  // namespace

datapath::Options DatapathOptions(const config::AgentConfig& agent, std::uint32_t workers) {
  datapath::Options options;
  options.cgroup_path = agent.cgroup_root;
  options.bpffs_dir = agent.bpffs_directory;
  options.worker_count = workers;
  return options;
}

Agent::Agent(config::AgentConfig agent, std::string config_path,
             std::unique_ptr<io::EventLoop> loop)
    : agent_(std::move(agent)),
      config_path_(std::move(config_path)),
      worker_count_(WorkerCount(agent_)),
      loop_(std::move(loop)),
      tick_(*loop_, [this] { Tick(); }),
      stop_poll_(*loop_, [this] { EndStop(); }),
      flows_({.max_records = agent_.telemetry.flow_store_records}),
      traces_({.spans = agent_.telemetry.trace_store_spans}) {
  facts_.started_at = base::SystemClock().WallNow();
}

std::expected<std::unique_ptr<Agent>, StartFailure> Agent::Start(config::AgentConfig agent,
                                                                 std::string config_path) {
  if (auto machine = datapath::CheckMachine(); !machine) {
    return Fail(ExitStatusOf(machine.error().code()), std::move(machine).error());
  }
  auto loop = io::EventLoop::Create(base::SystemClock());
  if (!loop) {
    return Fail(kExitOther, std::move(loop).error());
  }
  RaiseDescriptorLimit();
  // Keys are in this process: no core dump, and /proc/PID belongs to root alone.
  (void)::prctl(PR_SET_DUMPABLE, 0);
  std::unique_ptr<Agent> self(
      new Agent(std::move(agent), std::move(config_path), std::move(*loop)));
  using Step = std::expected<void, StartFailure> (Agent::*)();
  // The data path last: what fails before it leaves the node as it was.
  for (const Step step : {&Agent::WatchSignals, &Agent::StartTelemetry, &Agent::StartConfiguration,
                          &Agent::BindAdmin, &Agent::StartDataPath}) {
    if (auto done = (self.get()->*step)(); !done) {
      return std::unexpected(std::move(done).error());
    }
  }
  self->facts_.state = "ready";
  self->Tick();
  self->admin_->Serve(self->MakeProviders());
  NotifySystemd("READY=1");
  spdlog::info("agent={} node={} trust_domain={} workers={} workloads={} ready", WEIR_VERSION,
               self->agent_.node_name, self->agent_.trust_domain, self->worker_count_,
               self->enroller_->enrolled().size());
  return self;
}

// Before any thread exists, so that all of them inherit the blocked signals.
std::expected<void, StartFailure> Agent::WatchSignals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    ::sigaddset(&signals, signal);
  }
  if (::pthread_sigmask(SIG_BLOCK, &signals, nullptr) != 0) {
    return Fail(kExitOther, base::SystemError("block signals").error());
  }
  (void)std::signal(SIGPIPE, SIG_IGN);
  signal_fd_.Reset(::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signal_fd_.valid()) {
    return Fail(kExitOther, base::SystemError("create signalfd").error());
  }
  auto watch = loop_->Add(signal_fd_.get(), EPOLLIN, *this);
  if (!watch) {
    return Fail(kExitOther, std::move(watch).error());
  }
  signal_watch_ = std::move(*watch);
  return {};
}

std::expected<void, StartFailure> Agent::StartTelemetry() {
  telemetry::ExporterOptions options;
  options.queue_limit_bytes = agent_.telemetry.queue_bytes;
  exporters_ = std::make_unique<telemetry::ExporterSet>(options);
  pusher_ = std::make_unique<telemetry::MetricsPusher>(
      agent_.node_name, facts_.started_at,
      telemetry::ExporterOptions{.queue_limit_bytes = kMetricsQueueBytes,
                                 .batch_age = std::chrono::milliseconds(0)});
  auto pipeline = telemetry::Pipeline::Create({});
  if (!pipeline) {
    return Fail(kExitOther, std::move(pipeline).error());
  }
  pipeline_ = std::move(*pipeline);
  pipeline_->AddConsumer(flows_);
  pipeline_->AddConsumer(traces_);
  pipeline_->AddConsumer(graph_);
  pipeline_->AddConsumer(red_);
  pipeline_->AddConsumer(tally_);
  pipeline_->AddConsumer(*exporters_);
  if (auto done = StartAccessLog(); !done) {
    return done;
  }
  if (auto done = pipeline_->Start(); !done) {
    return Fail(kExitOther, std::move(done).error());
  }
  return {};
}

std::expected<void, StartFailure> Agent::StartAccessLog() {
  auto log =
      telemetry::AccessLog::Start({.node = agent_.node_name,
                                   .file = {.path = agent_.telemetry.access_log,
                                            .rotate_bytes = agent_.telemetry.access_log_max_bytes,
                                            .keep = agent_.telemetry.access_log_keep},
                                   .exporter = {.queue_limit_bytes = kLogQueueBytes}});
  if (!log) {
    return Fail(kExitOther, std::move(log).error());
  }
  access_log_ = std::move(*log);
  pipeline_->AddConsumer(*access_log_);
  return {};
}

std::expected<void, StartFailure> Agent::StartConfiguration() {
  std::string cgroup_root = agent_.cgroup_root;
  if (cgroup_root.empty()) {
    auto found = config::FindCgroup2Root();
    if (!found) {
      return Fail(kExitKernel, std::move(found).error());
    }
    cgroup_root = *found;
  }
  auto discovery = config::WorkloadDiscovery::Create(
      *loop_, {.cgroup_root = cgroup_root,
               .on_appeared = [this](const config::Appeared&) { OnPresenceChanged(); },
               .on_vanished = [this](const config::Vanished&) { OnPresenceChanged(); }});
  if (!discovery) {
    return Fail(kExitOther, std::move(discovery).error());
  }
  discovery_ = std::move(*discovery);
  discovery_->SetWorkloads(agent_.workloads);
  auto source = config::ConfigSource::Create(
      *loop_, agent_,
      {.on_published = [this](const config::BuildResult& result) { OnPublished(result); },
       .on_rejected = [this](const config::Rejection& rejection) { OnRejected(rejection); }});
  if (!source) {
    return Fail(kExitConfiguration, std::move(source).error());
  }
  source_ = std::move(*source);
  if (auto done = source_->Start(PresentNames()); !done) {
    return Fail(kExitConfiguration, std::move(done).error());
  }
  return {};
}

std::expected<void, StartFailure> Agent::StartDataPath() {
  identities_ = std::make_unique<identity::SvidManager>(
      identity::SvidManager::Settings{.files = {.certificate = agent_.ca.certificate,
                                                .key = agent_.ca.key,
                                                .bundle = agent_.ca.root_bundle},
                                      .node = agent_.node_name,
                                      .trust_domain = agent_.trust_domain,
                                      .svid_lifetime = agent_.ca.svid_lifetime},
      base::SystemClock(),
      [this](model::LocalId id, const std::shared_ptr<const tls::WorkloadTls>& svid) {
        workers_->InstallCredential(id, svid);
      });
  if (auto loaded = identities_->Reload(); !loaded) {
    return Fail(kExitCertificate, std::move(loaded).error());
  }
  auto datapath = datapath::Datapath::Create(DatapathOptions(agent_, worker_count_));
  if (!datapath) {
    return Fail(ExitStatusOf(datapath.error().code()), std::move(datapath).error());
  }
  datapath_ = std::move(*datapath);
  facts_.features = datapath_->Features();
  ExpectCgroups();
  auto arrivals = Arrivals::Create(*loop_, *datapath_, [this] { discovery_->LookNow(); });
  if (!arrivals) {
    return Fail(kExitOther, std::move(arrivals).error());
  }
  arrivals_ = std::move(*arrivals);
  auto workers = proxy::WorkerSet::Create({.sockets = *datapath_,
                                           .redirections = *datapath_,
                                           .causality = datapath_.get(),
                                           .records = *pipeline_,
                                           .keep_query_values = agent_.telemetry.keep_query_values,
                                           .post_to_worker = {}},
                                          worker_count_);
  if (!workers) {
    return Fail(kExitOther, std::move(workers).error());
  }
  workers_ = std::move(*workers);
  if (auto done = workers_->Start(/*pin=*/worker_count_ > 1); !done) {
    return Fail(kExitOther, std::move(done).error());
  }
  enroller_ = std::make_unique<Enroller>(*datapath_, *identities_, *workers_);
  OnPublished(*source_->current());
  if (const unsigned dropped = datapath_->DropUnclaimed(); dropped > 0) {
    spdlog::info("released={} workloads of an earlier run that are no longer configured", dropped);
  }
  return {};
}

std::expected<void, StartFailure> Agent::BindAdmin() {
  const std::string directory =
      std::filesystem::path(agent_.admin.socket_path).parent_path().string();
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return Fail(kExitAdminSocket, base::Error(base::ErrorCode::kPermission,
                                              "create " + directory + ": " + error.message())
                                      .WithRemedy("give admin.socket another directory"));
  }
  auto admin = admin::AdminServer::Bind({.socket_path = agent_.admin.socket_path,
                                         .group = agent_.admin.group,
                                         .mode = agent_.admin.mode,
                                         .node_name = agent_.node_name,
                                         .metrics_endpoint = agent_.metrics_address},
                                        flows_);
  if (!admin) {
    return Fail(kExitAdminSocket, std::move(admin).error());
  }
  admin_ = std::move(*admin);
  admin::MetricsServerOptions options{.metrics = [this] { return MetricsWithAdmin(); }};
  if (agent_.metrics_address) {
    options.address = agent_.metrics_address->address;
  }
  auto metrics = admin::MetricsServer::Start(std::move(options));
  if (!metrics) {
    return Fail(kExitOther, std::move(metrics).error());
  }
  metrics_server_ = std::move(*metrics);
  return {};
}

admin::Providers Agent::MakeProviders() {
  admin::Providers providers;
  providers.status = [this] {
    return MakeStatus({.facts = board_.Get(),
                       .exports = Exports(),
                       .pipeline = pipeline_->counters(),
                       .spans = telemetry::TotalSpans(*exporters_, *pipeline_),
                       .logs = access_log_->totals(),
                       .worker_metrics = workers_->Metrics(),
                       .figures = tally_.Figures(),
                       .workers = worker_count_,
                       .log_level = board_.Get()->agent.log_level});
  };
  providers.checks = [this](std::string_view subject) -> std::optional<v1::CheckReport> {
    const auto facts = board_.Get();
    const CheckInput input{.facts = facts,
                           .datapath = DatapathOptions(facts->agent, worker_count_),
                           .exports = Exports(),
                           .pipeline = pipeline_->counters()};
    return subject.empty() ? RunChecks(input) : RunChecksOf(input, subject);
  };
  providers.traces = [this](const admin::TraceQuery& query) {
    return ListTraces(traces_, query, agent_.node_name);
  };
  providers.trace = [this](std::string_view id) {
    return ShowTrace(traces_, id, agent_.node_name);
  };
  providers.map = [this](base::Nanoseconds window) {
    return MakeServiceMap(graph_.View(window), agent_.node_name);
  };
  providers.top = [this](const admin::TopQuery& query) {
    return MakeTop(flows_, query, board_.Get()->started_at, agent_.node_name);
  };
  providers.metrics = [this] { return AllMetrics(); };
  providers.ready = [this] {
    std::vector<std::string> reasons;
    return IsReady(*board_.Get(), reasons);
  };
  providers.set_log_level = [](std::string_view level) { return base::SetLogLevel(level); };
  // A drain is what SIGTERM begins, so it is asked for in the same way.
  providers.drain = [] { (void)::kill(::getpid(), SIGTERM); };
  return providers;
}

std::vector<observe::MetricFamily> Agent::AllMetrics() const {
  std::vector<observe::MetricFamily> all = workers_->Metrics();
  const auto add = [&](std::vector<observe::MetricFamily> more) {
    std::move(more.begin(), more.end(), std::back_inserter(all));
  };
  const auto facts = board_.Get();
  add(ControlMetrics(*facts));
  add(ProcessMetrics(facts->started_at));
  add(telemetry::PipelineMetrics(*pipeline_));
  add(telemetry::ExportMetrics(Exports()));
  add(red_.Collect());
  add(access_log_->Metrics());
  add(metrics_server_->Metrics());
  return all;
}

std::vector<observe::MetricFamily> Agent::MetricsWithAdmin() const {
  std::vector<observe::MetricFamily> all = AllMetrics();
  std::vector<observe::MetricFamily> own = admin_->Metrics();
  std::move(own.begin(), own.end(), std::back_inserter(all));
  return all;
}

std::vector<telemetry::ExportStatus> Agent::Exports() const {
  return {exporters_->status(), access_log_->exports(), pusher_->status()};
}

}  // namespace weir::daemon
