#pragma once

#include <string>
#include <string_view>

#include "agent/model/snapshot.h"

namespace weir::telemetry {

// Appends `spans`, fields `spans` of OTLP's ScopeSpans as SpanEncoder makes them, to `out`
// as objects of Zipkin's JSON format v2, separated by commas, by OpenTelemetry's mapping
// ("OpenTelemetry to Zipkin Transformation"). Their service is that of `local` (null:
// unknown). Links and tracestate have no place in Zipkin. With `short_trace_ids` only the
// last 64 bits of trace ids are given. Each span keeps an id of its own: none is shared
// between client and server. Pure.
void AppendZipkinSpans(const model::LocalWorkload* local, std::string_view spans,
                       bool short_trace_ids, std::string& out);

}  // namespace weir::telemetry
