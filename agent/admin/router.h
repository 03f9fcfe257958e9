#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/admin/admin_server.h"
#include "agent/admin/flow_reader.h"
#include "agent/admin/flow_store.h"
#include "agent/admin/target.h"
#include "agent/base/clock.h"

namespace google::protobuf {
class Message;
}

// From a request to its answer, without any I/O. Internal to the admin module.
namespace weir::admin {

// What whoever asks may do.
enum class Access : std::uint8_t {
  kNone,     // is neither root nor in the socket's group
  kMetrics,  // came by TCP: /metrics, /ready and /live only
  kRead,
  kChange,
};

struct Request {
  std::string_view method;
  std::string_view target;
  Access access = Access::kNone;
};

// An answer with a body, or, when `flows` is set, one that streams flows.
struct Answer {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body{};
  std::optional<FlowQuery> flows{};
};

// Counts that the connections keep and status shows.
struct AdminCounters {
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::uint64_t> bad_requests{0};
  std::atomic<std::uint64_t> denied{0};
  std::atomic<std::uint64_t> connections_refused{0};
  std::atomic<std::uint64_t> timeouts{0};
  std::atomic<std::uint64_t> connections{0};  // open now
  std::atomic<std::uint64_t> followers{0};    // open now
};

// The counters as /metrics shows them, beside what the provider gives.
std::vector<observe::MetricFamily> AdminMetrics(const AdminCounters& counters);

// Admin thread; all references outlive it.
class Router {
 public:
  Router(const AdminOptions& options, const Providers& providers, const FlowStore& store,
         AdminCounters& counters, const base::Clock& clock);
  Answer Handle(const Request& request);

 private:
  using Handler = Answer (Router::*)(const Target&);
  struct Route {
    std::string_view path;
    std::string_view method;
    bool open;  // served by TCP too
    Handler handler;
  };
  static const Route* Find(std::string_view path);
  static Answer NotFound(std::string_view path);
  Answer Forbidden(const Request& request);

  Answer GetStatus(const Target& target);
  Answer GetWorkloads(const Target& target);
  Answer GetFlows(const Target& target);
  Answer GetChecks(const Target& target);
  Answer GetTraces(const Target& target);
  Answer GetTrace(const Target& target);
  Answer GetMap(const Target& target);
  Answer GetTop(const Target& target);
  Answer GetMetrics(const Target& target);
  Answer GetReady(const Target& target);
  Answer GetLive(const Target& target);
  Answer PostLogLevel(const Target& target);
  Answer PostDrain(const Target& target);

  const AdminOptions& options_;
  const Providers& providers_;
  const FlowStore& store_;
  AdminCounters& counters_;
  const base::Clock& clock_;
};

}  // namespace weir::admin
