#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "agent/model/snapshot.h"

// What spans, log records and metrics have in common in OTLP's wire format.
namespace weir::telemetry {

// Appends a KeyValue with a text or a whole number as field `field` of the message at hand.
// Text that is not UTF-8 is mended, since a collector refuses a whole request for it. Pure.
void AppendTextAttribute(int field, std::string_view key, std::string_view value, std::string& out);
void AppendIntAttribute(int field, std::string_view key, std::int64_t value, std::string& out);

// `service.name` of `local`'s resource, or what stands in for it; null: an unknown service.
// Pure.
std::string ServiceName(const model::LocalWorkload* local);

// Appends field 1 of an Export*ServiceRequest: the resource of `local` (null: an unknown
// service), the scope weir, and `items`, encoded as fields `spans` of ScopeSpans, `log_records`
// of ScopeLogs or `metrics` of ScopeMetrics; the three signals have the same numbers. Pure.
void AppendResource(const model::LocalWorkload* local, std::span<const std::string_view> items,
                    std::string& out);

}  // namespace weir::telemetry
