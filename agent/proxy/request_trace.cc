#include "agent/proxy/request_trace.h"

#include <optional>
#include <string>
#include <string_view>

#include "agent/http/http1_parser.h"
#include "agent/http/trace_context.h"
#include "agent/io/byte_buffer.h"
#include "agent/model/snapshot.h"
#include "agent/observe/finish.h"
#include "agent/observe/record.h"
#include "agent/proxy/text.h"

namespace weir::proxy {
namespace {

bool IsEnabled(const model::TraceSettings* settings) {
  return settings != nullptr && settings->enabled;
}

double RootRatio(const model::TraceSettings* client, const model::TraceSettings* server) {
  if (IsEnabled(client)) {
    return client->sample_ratio;
  }
  return IsEnabled(server) ? server->sample_ratio : 0.0;
}

// The one valid traceparent; a second one makes both void.
std::optional<http::TraceParent> FindParent(const http::RequestHead& head) {
  const http::Field* only = nullptr;
  for (const http::Field& field : head.fields) {
    if (field.id != http::FieldId::kTraceParent) {
      continue;
    }
    if (only != nullptr) {
      return std::nullopt;
    }
    only = &field;
  }
  if (only == nullptr) {
    return std::nullopt;
  }
  const auto parent = http::ParseTraceParent(only->value);
  return parent ? std::optional(*parent) : std::nullopt;
}

// All tracestate fields as one; empty when they do not parse.
std::string FindState(const http::RequestHead& head) {
  std::string_view first;
  std::string joined;
  for (const http::Field& field : head.fields) {
    if (field.id != http::FieldId::kTraceState) {
      continue;
    }
    if (first.empty() && joined.empty()) {
      first = field.value;
      continue;
    }
    if (joined.empty()) {
      joined = first;
    }
    joined += ',';
    joined += field.value;
  }
  return http::ParseTraceState(joined.empty() ? first : joined).value_or(std::string());
}

}  // namespace

RequestTracer::RequestTracer(const model::TraceSettings* client, const model::TraceSettings* server)
    : makes_client_(IsEnabled(client)),
      makes_server_(IsEnabled(server)),
      sampler_(RootRatio(client, server)) {}

void RequestTracer::Start(const http::RequestHead& head, http::IdGenerator& ids,
                          observe::ExchangeResult& exchange) const {
  if (const auto parent = FindParent(head)) {
    exchange.trace_id = parent->trace_id;
    exchange.parent_span_id = parent->span_id;
    exchange.trace_flags = parent->flags;
    exchange.parent_source = observe::ParentSource::kHeader;
    exchange.trace_state = rewrites() ? FindState(head) : std::string();
  } else if (rewrites()) {
    exchange.trace_id = ids.NewTraceId();
    exchange.trace_flags = http::kRandomFlag;
    if (sampler_.Keeps(exchange.trace_id)) {
      exchange.trace_flags |= http::kSampledFlag;
      exchange.trace_state = sampler_.member();
    }
  }
  if (makes_client_) {
    exchange.client_span_id = ids.NewSpanId();
  }
  if (makes_server_) {
    exchange.server_span_id = ids.NewSpanId();
  }
}

void RequestTracer::AppendHeaderLines(const observe::ExchangeResult& exchange,
                                      io::ByteBuffer& out) {
  const bool has_server = exchange.server_span_id != observe::SpanId{};
  const auto parent = http::FormatTraceParent(
      {.trace_id = exchange.trace_id,
       .span_id = has_server ? exchange.server_span_id : exchange.client_span_id,
       .flags = exchange.trace_flags});
  AppendText("traceparent: ", out);
  AppendText({parent.data(), parent.size()}, out);
  AppendText("\r\n", out);
  if (!exchange.trace_state.empty()) {
    AppendText("tracestate: ", out);
    AppendText(exchange.trace_state, out);
    AppendText("\r\n", out);
  }
}

}  // namespace weir::proxy
