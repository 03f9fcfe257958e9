#include "agent/daemon/trace_view.h"

#include <chrono>
#include <set>

#include "agent/base/utf8.h"
#include "agent/daemon/timestamp.h"
#include "agent/observe/database_attributes.h"
#include "agent/observe/span_event.h"
#include "weir/v1/admin.pb.h"

namespace weir::daemon {
namespace {

std::optional<observe::TraceId> ParseTraceId(std::string_view text) {
  observe::TraceId id{};
  if (text.size() != id.size() * 2) {
    return std::nullopt;
  }
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') {
      return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  for (std::size_t i = 0; i < id.size(); ++i) {
    const int high = digit(text[i * 2]);
    const int low = digit(text[i * 2 + 1]);
    if (high < 0 || low < 0) {
      return std::nullopt;
    }
    id[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return id;
}

// Texts of requests come from peers and may be any bytes; a message holds only UTF-8.
std::string Clean(const std::string& text) {
  std::string scratch;
  return std::string(base::ToUtf8(text, scratch));
}

void FillDatabase(const observe::DatabaseCall& call,
                  google::protobuf::Map<std::string, std::string>& attributes) {
  observe::DescribeCall(
      call,
      [&](const char* name, std::string_view value) {
        attributes[name] = Clean(std::string(value));
      },
      [&](const char* name, std::int64_t value) { attributes[name] = std::to_string(value); });
}

void FillSpan(const telemetry::StoredSpan& from, const std::string& node, v1::TraceSpan& to) {
  to.set_span_id(observe::ToHex(from.span_id));
  if (from.parent_span_id != observe::SpanId{}) {
    to.set_parent_span_id(observe::ToHex(from.parent_span_id));
  }
  to.set_service(from.service);
  to.set_kind(from.is_client ? "client" : "server");
  to.set_name(Clean(from.name()));
  *to.mutable_start() = ToTimestamp(from.start());
  to.set_duration_seconds(ToSeconds(from.timing.total));
  for (const observe::SpanEvent& event : observe::SpanEvents(from.timing)) {
    auto& added = *to.add_events();
    added.set_name(std::string(event.name));
    added.set_offset_seconds(ToSeconds(event.after));
  }
  to.set_status_code(from.status);
  to.set_error(from.is_error);
  to.set_error_type(from.error_type);
  to.set_parent_source(std::string(observe::ToString(from.parent_source)));
  to.set_node(node);
  auto& attributes = *to.mutable_attributes();
  attributes["source"] = from.source;
  attributes["destination"] = from.destination;
  if (from.database != nullptr) {
    FillDatabase(*from.database, attributes);
  } else if (!from.is_connection) {
    attributes["http.host"] = Clean(from.host);
  }
  attributes["weir.mtls"] = std::string(observe::ToString(from.mtls));
  attributes["weir.verdict"] = std::string(observe::ToString(from.verdict));
  if (from.reason != observe::Reason::kNone) {
    attributes["weir.reason"] = std::string(observe::ToString(from.reason));
  }
  if (from.sampled_by != observe::SampledBy::kHead) {
    attributes["weir.sampled.by"] = std::string(observe::ToString(from.sampled_by));
  }
  if (!from.links.empty()) {
    attributes["links"] = from.links;
  }
}

}  // namespace

v1::TraceList ListTraces(const telemetry::TraceStore& store, const admin::TraceQuery& query,
                         const std::string& node) {
  v1::TraceList list;
  list.set_api_version("weir/v1");
  list.set_node(node);
  const auto found = store.List({.since = query.since,
                                 .min_duration = query.min_duration,
                                 .errors_only = query.errors_only,
                                 .service = query.service,
                                 .slowest_first = query.slowest_first,
                                 .limit = query.limit});
  for (const auto& trace : found.traces) {
    auto& to = *list.add_traces();
    to.set_trace_id(observe::ToHex(trace.trace_id));
    *to.mutable_start() = ToTimestamp(trace.start);
    to.set_duration_seconds(ToSeconds(trace.duration));
    to.set_root_service(trace.root_service);
    to.set_root_name(Clean(trace.root_name));
    to.set_span_count(static_cast<std::uint32_t>(trace.spans));
    to.set_service_count(static_cast<std::uint32_t>(trace.services));
    to.set_error_count(static_cast<std::uint32_t>(trace.errors));
  }
  list.set_seen(found.seen);
  list.set_matched(found.matched);
  list.set_evicted_spans(store.counters().evicted);
  return list;
}

std::optional<v1::Trace> ShowTrace(const telemetry::TraceStore& store, std::string_view id,
                                   const std::string& node) {
  const auto parsed = ParseTraceId(id);
  if (!parsed) {
    return std::nullopt;
  }
  const auto nodes = store.Get(*parsed);
  if (nodes.empty()) {
    return std::nullopt;
  }
  v1::Trace trace;
  trace.set_api_version("weir/v1");
  trace.set_node(node);
  auto& summary = *trace.mutable_summary();
  base::WallTime start = nodes.front().span.start();
  base::WallTime end = start;
  std::set<std::string> services;
  std::uint32_t errors = 0;
  for (const auto& entry : nodes) {
    FillSpan(entry.span, node, *trace.add_spans());
    start = std::min(start, entry.span.start());
    end = std::max(end, entry.span.end());
    services.insert(entry.span.service);
    errors += entry.span.is_error ? 1 : 0;
  }
  summary.set_trace_id(std::string(id));
  *summary.mutable_start() = ToTimestamp(start);
  summary.set_duration_seconds(ToSeconds(end - start));
  summary.set_root_service(nodes.front().span.service);
  summary.set_root_name(Clean(nodes.front().span.name()));
  summary.set_service_count(static_cast<std::uint32_t>(services.size()));
  summary.set_span_count(static_cast<std::uint32_t>(nodes.size()));
  summary.set_error_count(errors);
  return trace;
}

v1::ServiceMap MakeServiceMap(const telemetry::ServiceGraphView& view, const std::string& node) {
  v1::ServiceMap map;
  map.set_api_version("weir/v1");
  map.set_node(node);
  map.set_window_seconds(ToSeconds(view.window));
  map.set_folded(view.folded);
  for (const auto& edge : view.edges) {
    auto& to = *map.add_edges();
    to.set_source(edge.source);
    to.set_destination(edge.destination);
    to.set_requests(edge.requests);
    to.set_connections(edge.connections);
    to.set_errors(edge.errors);
    to.set_tunnel(edge.tunnel);
    to.set_local(edge.local);
    to.set_plain(edge.plain);
    to.set_p50_seconds(ToSeconds(edge.p50));
    to.set_p99_seconds(ToSeconds(edge.p99));
    for (std::size_t i = 0; i < edge.by_parent_source.size(); ++i) {
      if (edge.by_parent_source[i] > 0) {
        const auto source = static_cast<observe::ParentSource>(i);
        (*to.mutable_parent_sources())[std::string(observe::ToString(source))] =
            edge.by_parent_source[i];
      }
    }
  }
  return map;
}

}  // namespace weir::daemon
