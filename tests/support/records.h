#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "agent/observe/record.h"

// Records as the workers make them, for tests of what becomes of them.
namespace weir::test {

inline std::shared_ptr<const model::Workload> MakeWorkload(const std::string& name) {
  return std::make_shared<model::Workload>(
      model::Workload{.name = name,
                      .ns = "crm",
                      .service_account = name,
                      .identity = *model::SpiffeId::Make("demo.test", "/ns/crm/sa/" + name),
                      .node = "node-a",
                      .addresses = {},
                      .inbounds = {},
                      .labels = {}});
}

inline std::shared_ptr<const model::LocalWorkload> MakeLocal(const std::string& name) {
  auto local = std::make_shared<model::LocalWorkload>();
  local->workload = MakeWorkload(name);
  local->resource.service_name = name;
  local->resource.service_namespace = "crm";
  return local;
}

// A request from crm/front to crm/back, answered 200 after 3 ms; the caller changes what
// matters to it.
inline observe::Record MakeRequest(bool is_client, std::uint8_t trace = 1, std::uint8_t span = 1) {
  observe::Record record;
  record.flow.direction = is_client ? observe::Direction::kOutbound : observe::Direction::kInbound;
  record.flow.protocol = observe::Protocol::kHttp1;
  record.flow.is_request = true;
  record.flow.mtls = observe::MtlsState::kTunnel;
  record.flow.connection_id = 7;
  record.flow.source = {MakeWorkload("front"), *base::Endpoint::Parse("198.18.0.1:40000")};
  record.flow.destination = {MakeWorkload("back"), *base::Endpoint::Parse("198.18.0.2:8080")};
  record.flow.http = observe::HttpExchange{.method = "GET",
                                           .host = "back:8080",
                                           .path = "/items/1",
                                           .query_keys = "a&b",
                                           .user_agent = "probe/1",
                                           .status = 200};
  record.flow.timing.start = base::WallTime(std::chrono::seconds(1'800'000'000));
  record.flow.timing.total = std::chrono::milliseconds(3);
  record.span = observe::Span{};
  record.span->trace_id[15] = trace;
  record.span->span_id[7] = span;
  record.span->is_client = is_client;
  record.flow.trace_id = record.span->trace_id;
  record.flow.span_id = record.span->span_id;
  record.local = MakeLocal(is_client ? "front" : "back");
  return record;
}

}  // namespace weir::test
