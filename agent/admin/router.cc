#include "agent/admin/router.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>
#include <vector>

#include "agent/admin/flow_message.h"
#include "agent/base/nearest_name.h"
#include "weir/v1/admin.pb.h"

namespace weir::admin {
namespace {

constexpr char kApiVersion[] = "weir/v1";
constexpr std::string_view kTracePrefix = "/v1/traces/";

struct Failure {
  unsigned status;
  std::string_view code;
  std::string message;
  std::string remedy{};
};

Answer Json(const google::protobuf::Message& message) {
  return {.body = ToJson(message, /*with_defaults=*/true) + "\n"};
}

Answer Fail(const Failure& failure) {
  v1::ErrorReply reply;
  reply.set_code(std::string(failure.code));
  reply.set_message(failure.message);
  reply.set_remedy(failure.remedy);
  Answer answer = Json(reply);
  answer.status = failure.status;
  return answer;
}

Answer Refuse(const QueryError& error) {
  v1::ErrorReply reply;
  reply.set_code("invalid-argument");
  reply.set_message(error.message);
  reply.set_column(static_cast<std::uint32_t>(error.column));
  for (const std::string& candidate : error.candidates) {
    reply.add_candidates(candidate);
  }
  Answer answer = Json(reply);
  answer.status = 400;
  return answer;
}

Answer Absent(std::string_view what) {
  return Fail({404, "not-found", "this agent does not serve " + std::string(what)});
}

unsigned StatusOf(base::ErrorCode code) {
  switch (code) {
    case base::ErrorCode::kInvalidArgument:
      return 400;
    case base::ErrorCode::kNotFound:
      return 404;
    case base::ErrorCode::kPermission:
      return 403;
    case base::ErrorCode::kAlreadyExists:
      return 409;
    case base::ErrorCode::kUnavailable:
    case base::ErrorCode::kLimit:
    case base::ErrorCode::kTimeout:
      return 503;
    case base::ErrorCode::kUnsupported:
    case base::ErrorCode::kProtocol:
    case base::ErrorCode::kSystem:
    case base::ErrorCode::kInternal:
      return 500;
  }
  return 500;
}

Answer Plain(unsigned status, std::string text) {
  return {.status = status, .content_type = "text/plain; charset=utf-8", .body = std::move(text)};
}

observe::MetricFamily Metric(std::string name, std::string help, observe::MetricType type,
                             double value) {
  observe::MetricFamily family{
      .name = std::move(name), .help = std::move(help), .type = type, .samples = {}};
  family.samples.push_back({.labels = {}, .value = value});
  return family;
}

}  // namespace

std::vector<observe::MetricFamily> AdminMetrics(const AdminCounters& counters) {
  using observe::MetricType;
  const auto value = [](const std::atomic<std::uint64_t>& counter) {
    return static_cast<double>(counter.load(std::memory_order_relaxed));
  };
  std::vector<observe::MetricFamily> families;
  families.push_back(Metric("weir_admin_requests", "Requests to the admin API.",
                            MetricType::kCounter, value(counters.requests)));
  observe::MetricFamily refused{.name = "weir_admin_refused",
                                .help = "Connections and requests that the admin API refused.",
                                .type = MetricType::kCounter,
                                .samples = {}};
  for (const auto& [reason, counter] : {std::pair{"bad-request", &counters.bad_requests},
                                        {"permission", &counters.denied},
                                        {"connection-limit", &counters.connections_refused},
                                        {"timeout", &counters.timeouts}}) {
    refused.samples.push_back({.labels = {{"reason", reason}}, .value = value(*counter)});
  }
  families.push_back(std::move(refused));
  families.push_back(Metric("weir_admin_connections", "Open connections of the admin API.",
                            MetricType::kGauge, value(counters.connections)));
  families.push_back(Metric("weir_admin_followers", "Readers that follow the flows.",
                            MetricType::kGauge, value(counters.followers)));
  return families;
}

Router::Router(const AdminOptions& options, const Providers& providers, const FlowStore& store,
               AdminCounters& counters, const base::Clock& clock)
    : options_(options), providers_(providers), store_(store), counters_(counters), clock_(clock) {}

const Router::Route* Router::Find(std::string_view path) {
  static constexpr std::array<Route, 13> kRoutes = {{
      {"/v1/status", "GET", false, &Router::GetStatus},
      {"/v1/workloads", "GET", false, &Router::GetWorkloads},
      {"/v1/flows", "GET", false, &Router::GetFlows},
      {"/v1/checks", "GET", false, &Router::GetChecks},
      {"/v1/traces", "GET", false, &Router::GetTraces},
      {kTracePrefix, "GET", false, &Router::GetTrace},
      {"/v1/map", "GET", false, &Router::GetMap},
      {"/v1/top", "GET", false, &Router::GetTop},
      {"/metrics", "GET", true, &Router::GetMetrics},
      {"/ready", "GET", true, &Router::GetReady},
      {"/live", "GET", true, &Router::GetLive},
      {"/v1/log-level", "POST", false, &Router::PostLogLevel},
      {"/v1/drain", "POST", false, &Router::PostDrain},
  }};
  const auto found = std::ranges::find_if(kRoutes, [&](const Route& route) {
    return route.path.ends_with('/') ? path.starts_with(route.path) : path == route.path;
  });
  return found == kRoutes.end() ? nullptr : &*found;
}

Answer Router::NotFound(std::string_view path) {
  static constexpr std::array<std::string_view, 13> kPaths = {
      "/v1/status",    "/v1/workloads", "/v1/flows", "/v1/checks", "/v1/traces",
      "/v1/traces/ID", "/v1/map",       "/metrics",  "/ready",     "/v1/log-level",
      "/live",         "/v1/drain",     "/v1/top"};
  const std::string near(base::NearestName(path, kPaths));
  return Fail({404, "not-found",
               "no such path '" + std::string(path) + "'" +
                   (near.empty() ? "" : ", did you mean '" + near + "'")});
}

Answer Router::Forbidden(const Request& request) {
  counters_.denied.fetch_add(1, std::memory_order_relaxed);
  if (request.access == Access::kRead) {
    return Fail({403, "permission", "only root may change the agent", "run it with sudo"});
  }
  const std::string group = options_.group.empty() ? "root" : options_.group;
  return Fail({403, "permission", "only root and group " + group + " may read this agent",
               "sudo usermod --append --groups " + group + " USER"});
}

Answer Router::Handle(const Request& request) {
  counters_.requests.fetch_add(1, std::memory_order_relaxed);
  const auto target = ParseTarget(request.target);
  if (!target) {
    return Fail({400, "invalid-argument", target.error().message()});
  }
  const Route* route = Find(target->path);
  if (request.access == Access::kMetrics && (route == nullptr || !route->open)) {
    return Fail({404, "not-found", "only /metrics, /ready and /live are served here",
                 "use the Unix socket"});
  }
  if (request.access == Access::kNone) {
    return Forbidden(request);
  }
  if (route == nullptr) {
    return NotFound(target->path);
  }
  if (request.method != route->method) {
    return Fail(
        {405, "invalid-argument", target->path + " takes " + std::string(route->method) + " only"});
  }
  if (route->method != "GET" && request.access != Access::kChange) {
    return Forbidden(request);
  }
  return (this->*route->handler)(*target);
}

Answer Router::GetStatus(const Target&) {
  if (!providers_.status) {
    return Absent("status");
  }
  v1::Status status = providers_.status();
  status.set_api_version(kApiVersion);
  const FlowStoreUsage usage = store_.usage();
  v1::FlowStoreStatus* flows = status.mutable_flow_store();
  flows->set_records(usage.records);
  flows->set_bytes(usage.bytes);
  flows->set_limit_records(store_.limits().max_records);
  flows->set_limit_bytes(store_.limits().max_bytes);
  flows->set_lost(usage.lost);
  flows->set_followers(static_cast<std::uint32_t>(counters_.followers.load()));
  if (usage.oldest) {
    flows->mutable_oldest()->set_seconds(
        std::chrono::floor<std::chrono::seconds>(*usage.oldest).time_since_epoch().count());
  }
  return Json(status);
}

Answer Router::GetWorkloads(const Target&) {
  if (!providers_.status) {
    return Absent("workloads");
  }
  v1::Status status = providers_.status();
  v1::WorkloadList list;
  list.set_api_version(kApiVersion);
  list.set_node(options_.node_name);
  list.mutable_workloads()->Swap(status.mutable_workloads());
  return Json(list);
}

Answer Router::GetFlows(const Target& target) {
  auto query = ParseFlowQuery(target, clock_.WallNow());
  if (!query) {
    return Refuse(query.error());
  }
  return {.content_type = "application/jsonl", .flows = std::move(*query)};
}

Answer Router::GetChecks(const Target& target) {
  if (!providers_.checks) {
    return Absent("checks");
  }
  const auto subject = ParseCheckSubject(target);
  if (!subject) {
    return Refuse(subject.error());
  }
  auto report = providers_.checks(*subject);
  if (!report) {
    return Fail({404, "not-found", "no workload '" + *subject + "' is configured on this node",
                 "weir workloads; one of a unit is also unit:NAME"});
  }
  report->set_api_version(kApiVersion);
  return Json(*report);
}

Answer Router::GetTraces(const Target& target) {
  if (!providers_.traces) {
    return Absent("traces");
  }
  const auto query = ParseTraceQuery(target, clock_.WallNow());
  if (!query) {
    return Refuse(query.error());
  }
  v1::TraceList list = providers_.traces(*query);
  list.set_api_version(kApiVersion);
  list.set_node(options_.node_name);
  return Json(list);
}

Answer Router::GetTrace(const Target& target) {
  if (!providers_.trace) {
    return Absent("traces");
  }
  const std::string id = target.path.substr(kTracePrefix.size());
  if (id.size() != 32 || id.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return Fail({400, "invalid-argument", "a trace id has 32 lower-case hex digits"});
  }
  auto trace = providers_.trace(id);
  if (!trace) {
    return Fail({404, "not-found", "no trace " + id + " on this node",
                 "weir traces lists those that are there; the oldest give way to new ones"});
  }
  trace->set_api_version(kApiVersion);
  trace->set_node(options_.node_name);
  return Json(*trace);
}

Answer Router::GetMap(const Target& target) {
  if (!providers_.map) {
    return Absent("the map");
  }
  const auto window = ParseMapWindow(target);
  if (!window) {
    return Refuse(window.error());
  }
  v1::ServiceMap map = providers_.map(*window);
  map.set_api_version(kApiVersion);
  map.set_node(options_.node_name);
  return Json(map);
}

Answer Router::GetTop(const Target& target) {
  if (!providers_.top) {
    return Absent("top");
  }
  const auto query = ParseTopQuery(target);
  if (!query) {
    return Refuse(query.error());
  }
  v1::TopList top = providers_.top(*query);
  top.set_api_version(kApiVersion);
  top.set_node(options_.node_name);
  return Json(top);
}

Answer Router::GetMetrics(const Target&) {
  if (!providers_.metrics) {
    return Absent("metrics");
  }
  auto families = providers_.metrics();
  std::ranges::move(AdminMetrics(counters_), std::back_inserter(families));
  return {.content_type = std::string(observe::kOpenMetricsContentType),
          .body = observe::RenderOpenMetrics(families)};
}

Answer Router::GetReady(const Target&) {
  const bool ready = providers_.ready && providers_.ready();
  return Plain(ready ? 200 : 503, ready ? "ready\n" : "not ready\n");
}

Answer Router::GetLive(const Target&) {
  return Plain(200, "live\n");
}

Answer Router::PostLogLevel(const Target& target) {
  if (!providers_.set_log_level) {
    return Absent("the log level");
  }
  const auto level = target.parameters.find("level");
  if (level == target.parameters.end()) {
    return Fail({400, "invalid-argument", "parameter level is missing",
                 "one of debug, info, warn and error"});
  }
  const auto set = providers_.set_log_level(level->second);
  if (!set) {
    return Fail({StatusOf(set.error().code()), base::ToString(set.error().code()),
                 set.error().message(), set.error().remedy()});
  }
  return Plain(200, "log level " + level->second + "\n");
}

Answer Router::PostDrain(const Target&) {
  if (!providers_.drain) {
    return Absent("draining");
  }
  providers_.drain();
  return Plain(202, "draining\n");
}

}  // namespace weir::admin
