#pragma once

#include <expected>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/admin/admin_server.h"
#include "agent/admin/flow_store.h"
#include "agent/admin/metrics_server.h"
#include "agent/base/error.h"
#include "agent/config/discovery.h"
#include "agent/config/source.h"
#include "agent/daemon/arrivals.h"
#include "agent/daemon/enroller.h"
#include "agent/daemon/facts.h"
#include "agent/daemon/workload_tally.h"
#include "agent/datapath/datapath.h"
#include "agent/export/access_log.h"
#include "agent/export/exporter_set.h"
#include "agent/export/metrics_pusher.h"
#include "agent/export/pipeline.h"
#include "agent/export/red_metrics.h"
#include "agent/export/service_graph.h"
#include "agent/export/trace_store.h"
#include "agent/identity/svid_manager.h"
#include "agent/io/event_loop.h"
#include "agent/proxy/worker.h"

namespace weir::daemon {

// Why the agent did not start, and the exit status that says so.
struct StartFailure {
  int status = 0;
  base::Error error;
};

// What Datapath needs of agent.yaml.
datapath::Options DatapathOptions(const config::AgentConfig& agent, std::uint32_t workers);

// Agent is the running daemon: it owns every part, in the order in which they depend on
// each other, and its thread is the control thread. Signals: SIGTERM and SIGINT stop it
// (a second one at once), SIGHUP rereads agent.yaml and the certificates.
class Agent final : private io::EventHandler {
 public:
  // Starts everything, or nothing: on failure what was done is undone.
  static std::expected<std::unique_ptr<Agent>, StartFailure> Start(config::AgentConfig agent,
                                                                   std::string config_path);
  virtual ~Agent();
  // Serves until a signal ends it; gives the exit status.
  int Run();

 private:
  Agent(config::AgentConfig agent, std::string config_path, std::unique_ptr<io::EventLoop> loop);

  std::expected<void, StartFailure> StartTelemetry();
  std::expected<void, StartFailure> StartAccessLog();
  std::expected<void, StartFailure> StartConfiguration();
  std::expected<void, StartFailure> StartDataPath();
  std::expected<void, StartFailure> BindAdmin();
  std::expected<void, StartFailure> WatchSignals();
  admin::Providers MakeProviders();
  std::vector<observe::MetricFamily> AllMetrics() const;
  // The same with what the admin API has of its own.
  std::vector<observe::MetricFamily> MetricsWithAdmin() const;

  void OnEvents(std::uint32_t events) noexcept override;  // signals
  void OnPublished(const config::BuildResult& result);
  void OnRejected(const config::Rejection& rejection);
  void OnPresenceChanged();
  void SetBackends(const config::BuildResult& result);
  // Tries the ports of MeshMetric that are not open; warns of what is new.
  void OpenMetricsPorts();
  [[nodiscard]] std::vector<telemetry::ExportStatus> Exports() const;
  void Tick();
  void ExpectCgroups();
  void ProbeNext();
  void Probe(model::LocalId id);
  [[nodiscard]] std::set<std::string> PresentNames() const;
  void PublishFacts();
  void Reload();
  void BeginStop();
  void EndStop();
  void Warn(const std::string& text);

  config::AgentConfig agent_;
  const std::string config_path_;
  const std::uint32_t worker_count_;
  ControlFacts facts_;
  FactsBoard board_;

  std::unique_ptr<io::EventLoop> loop_;
  base::UniqueFd signal_fd_;
  io::Watch signal_watch_;
  io::Timer tick_;
  io::Timer stop_poll_;
  base::MonotonicTime stop_deadline_{};
  bool stopping_ = false;
  bool presence_due_ = false;

  admin::FlowStore flows_;
  telemetry::TraceStore traces_;
  telemetry::ServiceGraph graph_{base::SystemClock()};
  telemetry::RedMetrics red_;
  WorkloadTally tally_;
  std::unique_ptr<telemetry::ExporterSet> exporters_;
  std::unique_ptr<telemetry::AccessLog> access_log_;
  std::unique_ptr<telemetry::MetricsPusher> pusher_;
  std::unique_ptr<telemetry::Pipeline> pipeline_;

  std::unique_ptr<config::WorkloadDiscovery> discovery_;
  std::unique_ptr<config::ConfigSource> source_;
  std::unique_ptr<identity::SvidManager> identities_;
  std::unique_ptr<datapath::Datapath> datapath_;
  std::unique_ptr<Arrivals> arrivals_;
  std::unique_ptr<proxy::WorkerSet> workers_;
  std::unique_ptr<Enroller> enroller_;
  std::unique_ptr<admin::AdminServer> admin_;
  std::unique_ptr<admin::MetricsServer> metrics_server_;
  std::vector<admin::MetricsPort> metrics_ports_;  // that MeshMetric asks for
  std::string metrics_problem_;                    // with them; empty: none
  std::map<model::LocalId, base::WallTime> probed_at_;
  std::size_t next_probe_ = 0;
  std::uint64_t lost_flows_ = 0;
};

}  // namespace weir::daemon
