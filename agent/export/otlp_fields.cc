#include "agent/export/otlp_fields.h"

#include <otlp/logs_service.pb.h>
#include <otlp/metrics_service.pb.h>
#include <otlp/trace_service.pb.h>

#include <utility>

#include "agent/base/utf8.h"
#include "agent/export/wire.h"

namespace weir::telemetry {
namespace {

namespace otlp = opentelemetry::proto;
using otlp::common::v1::AnyValue;
using otlp::common::v1::InstrumentationScope;
using otlp::common::v1::KeyValue;
using otlp::logs::v1::ResourceLogs;
using otlp::logs::v1::ScopeLogs;
using otlp::metrics::v1::ResourceMetrics;
using otlp::metrics::v1::ScopeMetrics;
using otlp::resource::v1::Resource;
using otlp::trace::v1::ResourceSpans;
using otlp::trace::v1::ScopeSpans;

constexpr std::string_view kSchemaUrl = "https://opentelemetry.io/schemas/1.44.0";

// AppendResource writes the three signals alike.
constexpr int kResources =
    otlp::collector::trace::v1::ExportTraceServiceRequest::kResourceSpansFieldNumber;
static_assert(kResources ==
              otlp::collector::logs::v1::ExportLogsServiceRequest::kResourceLogsFieldNumber);
static_assert(
    kResources ==
    otlp::collector::metrics::v1::ExportMetricsServiceRequest::kResourceMetricsFieldNumber);
static_assert(int{ResourceSpans::kResourceFieldNumber} == ResourceLogs::kResourceFieldNumber &&
              int{ResourceSpans::kResourceFieldNumber} == ResourceMetrics::kResourceFieldNumber);
static_assert(int{ResourceSpans::kScopeSpansFieldNumber} == ResourceLogs::kScopeLogsFieldNumber &&
              int{ResourceSpans::kScopeSpansFieldNumber} ==
                  ResourceMetrics::kScopeMetricsFieldNumber);
static_assert(int{ScopeSpans::kScopeFieldNumber} == ScopeLogs::kScopeFieldNumber &&
              int{ScopeSpans::kScopeFieldNumber} == ScopeMetrics::kScopeFieldNumber);
static_assert(int{ScopeSpans::kSchemaUrlFieldNumber} == ScopeLogs::kSchemaUrlFieldNumber &&
              int{ScopeSpans::kSchemaUrlFieldNumber} == ScopeMetrics::kSchemaUrlFieldNumber);

std::string MakeResource(const model::LocalWorkload* local) {
  static const model::ServiceResource kUnknown;
  const model::ServiceResource& resource = local != nullptr ? local->resource : kUnknown;
  std::string message;
  const auto add = [&](std::string_view key, std::string_view value) {
    AppendTextAttribute(Resource::kAttributesFieldNumber, key, value, message);
  };
  add("service.name", ServiceName(local));
  for (const auto& [key, value] :
       {std::pair("service.namespace", &resource.service_namespace),
        std::pair("service.version", &resource.service_version),
        std::pair("service.instance.id", &resource.service_instance_id)}) {
    if (!value->empty()) {
      add(key, *value);
    }
  }
  for (const auto& [key, value] : resource.attributes) {
    add(key, value);
  }
  return message;
}

}  // namespace

void AppendTextAttribute(int field, std::string_view key, std::string_view value,
                         std::string& out) {
  std::string scratch;
  value = base::ToUtf8(value, scratch);
  const std::size_t any_size = wire::BytesFieldBytes(value.size());
  wire::AppendLength(field, wire::BytesFieldBytes(key.size()) + wire::BytesFieldBytes(any_size),
                     out);
  wire::AppendBytes(KeyValue::kKeyFieldNumber, key, out);
  wire::AppendLength(KeyValue::kValueFieldNumber, any_size, out);
  wire::AppendBytes(AnyValue::kStringValueFieldNumber, value, out);
}

void AppendIntAttribute(int field, std::string_view key, std::int64_t value, std::string& out) {
  const auto bits = static_cast<std::uint64_t>(value);
  const std::size_t any_size = 1 + wire::VarintBytes(bits);
  wire::AppendLength(field, wire::BytesFieldBytes(key.size()) + wire::BytesFieldBytes(any_size),
                     out);
  wire::AppendBytes(KeyValue::kKeyFieldNumber, key, out);
  wire::AppendLength(KeyValue::kValueFieldNumber, any_size, out);
  wire::AppendUnsigned(AnyValue::kIntValueFieldNumber, bits, out);
}

std::string ServiceName(const model::LocalWorkload* local) {
  if (local != nullptr && !local->resource.service_name.empty()) {
    return local->resource.service_name;
  }
  const bool has_workload = local != nullptr && local->workload != nullptr;
  return has_workload ? local->workload->display_name() : "unknown_service";
}

void AppendResource(const model::LocalWorkload* local, std::span<const std::string_view> items,
                    std::string& out) {
  std::string head;
  wire::AppendBytes(ResourceSpans::kResourceFieldNumber, MakeResource(local), head);
  std::string scope;
  wire::AppendBytes(InstrumentationScope::kNameFieldNumber, "weir", scope);
  std::string scope_head;
  wire::AppendBytes(ScopeSpans::kScopeFieldNumber, scope, scope_head);
  std::string scope_tail;
  wire::AppendBytes(ScopeSpans::kSchemaUrlFieldNumber, kSchemaUrl, scope_tail);
  std::size_t scope_size = scope_head.size() + scope_tail.size();
  for (const std::string_view item : items) {
    scope_size += item.size();
  }
  const std::size_t size = head.size() + wire::BytesFieldBytes(scope_size);
  wire::AppendLength(kResources, size, out);
  out += head;
  wire::AppendLength(ResourceSpans::kScopeSpansFieldNumber, scope_size, out);
  out += scope_head;
  for (const std::string_view item : items) {
    out += item;
  }
  out += scope_tail;
}

}  // namespace weir::telemetry
