#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/base/ip.h"
#include "agent/model/metric_filter.h"
#include "agent/observe/metrics.h"

namespace weir::admin {

// A port that answers GET PATH with the metrics that `filter` admits, and nothing else.
struct MetricsPort {
  std::uint16_t port = 0;  // 0: any that is free, in tests
  std::string path = "/metrics";
  model::MetricFilter filter{};
};

struct MetricsServerOptions {
  // Where all ports are; empty: every address of the machine.
  std::optional<base::IpAddress> address{};
  // Called on the server's thread; must be safe beside the threads that own the metrics.
  std::function<std::vector<observe::MetricFamily>()> metrics;
  std::size_t max_connections = 64;  // on all ports together; beyond: closed at once and counted
  base::Nanoseconds request_timeout = std::chrono::seconds(10);  // to read one, and to answer it
};

// MetricsServer serves metrics where MeshMetric documents say, to whoever can connect, by
// HTTP/1.1, on a thread of its own with a lower priority than the workers.
class MetricsServer {
 public:
  static base::Result<std::unique_ptr<MetricsServer>> Start(MetricsServerOptions options);
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;
  ~MetricsServer();  // ends every answer that is under way

  // Serves exactly `ports` from now on; those that are served already stay open. What cannot be
  // opened, because another program listens there, is told, and is tried again by the next
  // call; the others are served all the same. Control thread.
  std::vector<base::Error> SetPorts(std::vector<MetricsPort> ports);

  // The ports that are open, in the order of SetPorts. Control thread.
  [[nodiscard]] std::vector<std::uint16_t> ports() const;
  // weir_metrics_port_open, weir_metrics_requests, weir_metrics_refused. Any thread.
  [[nodiscard]] std::vector<observe::MetricFamily> Metrics() const;

 private:
  class Impl;
  explicit MetricsServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir::admin
