#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/admin/flow_store.h"
#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/base/ip.h"
#include "agent/observe/metrics.h"

namespace weir::v1 {
class CheckReport;
class ServiceMap;
class Status;
class TopList;
class Trace;
class TraceList;
}  // namespace weir::v1

namespace weir::admin {

// Which traces GET /v1/traces is asked for.
struct TraceQuery {
  std::optional<base::WallTime> since{};  // traces that began then or later
  base::Nanoseconds min_duration{0};
  bool errors_only = false;
  std::string service{};       // traces with a span of this service; empty: any
  bool slowest_first = false;  // else the newest first
  std::size_t limit = 20;
};

// What GET /v1/top is asked for.
struct TopQuery {
  std::string by = "pair";  // pair, workload, path, policy, pid
  base::Nanoseconds window = std::chrono::seconds(10);
};

// Where the answers come from. Every function is called on the admin thread, must be
// safe beside the threads that own the facts, and must not block. One that is empty makes
// its path answer 404.
struct Providers {
  std::function<v1::Status()> status;  // flow_store is filled in by the server
  // `subject`: a workload; empty: the node. Empty when there is no such workload.
  std::function<std::optional<v1::CheckReport>(std::string_view subject)> checks;
  std::function<v1::TraceList(const TraceQuery&)> traces;
  // `id`: 32 lower-case hex digits.
  std::function<std::optional<v1::Trace>(std::string_view id)> trace;
  std::function<v1::ServiceMap(base::Nanoseconds window)> map;
  std::function<v1::TopList(const TopQuery&)> top;
  std::function<std::vector<observe::MetricFamily>()> metrics;
  std::function<bool()> ready;
  // What only root may ask for.
  std::function<base::Result<void>(std::string_view level)> set_log_level;
  std::function<void()> drain;
};

struct AdminOptions {
  std::string socket_path = "/run/weir/admin.sock";
  std::string group{};  // may read; empty: the process's
  unsigned mode = 0660;
  std::string node_name{};  // named in answers
  // Serves /metrics, /ready and /live, and nothing else, to whoever can connect.
  std::optional<base::Endpoint> metrics_endpoint{};
  std::size_t max_connections = 2048;  // beyond: closed at once and counted
  base::Nanoseconds request_timeout = std::chrono::seconds(10);
};

// AdminServer answers the local API: HTTP/1.1 on a Unix socket (mode 0660), and if asked
// the three harmless paths on a TCP port. It runs on a thread of its own with a lower
// priority than the workers. docs/admin-api.md lists the paths.
class AdminServer {
 public:
  // Binds the socket and the port; who connects waits for Serve. kAlreadyExists when an
  // agent is running on the socket already or something that is not a socket has its path;
  // a dead agent's socket is replaced. `store` must outlive the server.
  static base::Result<std::unique_ptr<AdminServer>> Bind(AdminOptions options,
                                                         const FlowStore& store);
  // Begins to answer, on a thread of its own. Once.
  void Serve(Providers providers);
  // Both.
  static base::Result<std::unique_ptr<AdminServer>> Start(AdminOptions options, Providers providers,
                                                          const FlowStore& store);
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;
  // Ends every answer that is under way, joins the thread, removes the socket.
  ~AdminServer();

  // Where /metrics is served; empty without a metrics endpoint.
  [[nodiscard]] std::optional<base::Endpoint> metrics_address() const;
  // The server's own counters, which /metrics shows too. Any thread.
  [[nodiscard]] std::vector<observe::MetricFamily> Metrics() const;

 private:
  class Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir::admin
