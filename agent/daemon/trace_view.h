#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/admin/admin_server.h"
#include "agent/export/service_graph.h"
#include "agent/export/trace_store.h"

namespace weir::v1 {
class ServiceMap;
class Trace;
class TraceList;
}  // namespace weir::v1

// The stores of the exporter as messages of the admin API. Any thread.
namespace weir::daemon {

v1::TraceList ListTraces(const telemetry::TraceStore& store, const admin::TraceQuery& query,
                         const std::string& node);
// `id`: 32 lower-case hex digits; empty if the store does not have the trace.
std::optional<v1::Trace> ShowTrace(const telemetry::TraceStore& store, std::string_view id,
                                   const std::string& node);

v1::ServiceMap MakeServiceMap(const telemetry::ServiceGraphView& view, const std::string& node);

}  // namespace weir::daemon
