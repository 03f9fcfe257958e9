#include "agent/proxy/request_trace.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/http/forwarded.h"
#include "agent/http/token.h"
#include "agent/http/trace_context.h"
#include "agent/http/trace_headers.h"
#include "agent/model/snapshot.h"
#include "agent/observe/finish.h"
#include "agent/observe/record.h"

namespace weir::proxy {
namespace {

using http::SamplingDecision;
using model::HeaderTag;

// Asks for a trace of its own, as with Envoy; it is passed on.
constexpr std::string_view kClientTraceHeader = "x-client-trace-id";

bool IsEnabled(const model::TraceSettings* settings) {
  return settings != nullptr && settings->enabled;
}

// Whose settings decide on a trace that begins here; null: there is none.
const model::TraceSettings* RootSettings(const TracerOptions& options) {
  if (IsEnabled(options.client)) {
    return options.client;
  }
  return IsEnabled(options.server) ? options.server : nullptr;
}

std::vector<HeaderTag> TagsOf(const model::TraceSettings* settings) {
  return IsEnabled(settings) ? settings->header_tags : std::vector<HeaderTag>();
}

http::TraceFormats FormatsOf(const model::ExtraTraceFormats& wanted) {
  http::TraceFormats formats;
  if (wanted.b3) {
    formats.Add(http::TraceFormat::kB3Single);
  }
  if (wanted.b3_multi) {
    formats.Add(http::TraceFormat::kB3Multi);
  }
  if (wanted.jaeger) {
    formats.Add(http::TraceFormat::kUber);
  }
  return formats;
}

// The first of several counts.
void NoteTag(const std::vector<HeaderTag>& tags, std::string_view name, std::string_view value,
             std::vector<std::string_view>& values) {
  for (std::size_t i = 0; i < tags.size(); ++i) {
    if (values[i].empty() && http::EqualsIgnoreCase(name, tags[i].header)) {
      values[i] = value;
    }
  }
}

std::vector<observe::SpanTag> MakeTags(const std::vector<HeaderTag>& tags,
                                       const std::vector<std::string_view>& values) {
  std::vector<observe::SpanTag> made;
  for (std::size_t i = 0; i < tags.size(); ++i) {
    const std::string_view value = values[i].empty() ? tags[i].fallback : values[i];
    if (!value.empty()) {
      made.push_back(
          {.name = tags[i].name, .value = observe::CleanText(value, observe::kMaxTagBytes)});
    }
  }
  return made;
}

void TakeForwarded(http::ForwardedFacts facts, observe::HttpExchange& exchange) {
  constexpr std::size_t kMaxHostBytes = 255;
  exchange.forwarded_host = observe::CleanText(facts.host, kMaxHostBytes);
  exchange.forwarded_scheme = facts.scheme;
  exchange.forwarded_client = std::move(facts.client);
}

void TakeDecision(SamplingDecision decision, observe::ExchangeResult& exchange) {
  exchange.trace_debug = decision == SamplingDecision::kDebug;
  if (exchange.trace_debug || decision == SamplingDecision::kKeep) {
    exchange.trace_flags |= http::kSampledFlag;
  }
}

void Decide(const http::RatioSampler& sampler, observe::ExchangeResult& exchange) {
  const auto randomness = http::RandomnessOf(exchange.trace_id, exchange.trace_state);
  if (sampler.Keeps(randomness)) {
    exchange.trace_flags |= http::kSampledFlag;
    exchange.trace_state = exchange.trace_state.empty()
                               ? sampler.member()
                               : http::WithThreshold(exchange.trace_state, sampler.threshold());
  }
}

}  // namespace

RequestTracer::RequestTracer(const TracerOptions& options)
    : makes_client_(IsEnabled(options.client)),
      makes_server_(IsEnabled(options.server)),
      restarts_(makes_server_ && options.server->is_boundary && options.from_outside),
      joins_headers_(options.joins_headers),
      sampler_(RootSettings(options) != nullptr ? RootSettings(options)->sample_ratio : 0.0),
      client_sampler_(RootSettings(options) != nullptr ? RootSettings(options)->client_ratio : 0.0),
      client_tags_(TagsOf(options.client)),
      server_tags_(TagsOf(options.server)) {
  // What the last span's side wants: that is whom the headers are for.
  if (rewrites()) {
    formats_ = FormatsOf(makes_server_ ? options.server->formats : options.client->formats);
  }
}

void RequestTracer::Begin(RequestNotes& notes) const {
  notes.trace.Clear();
  notes.forwarded.Clear();
  notes.wants_trace = false;
  notes.client_tags.assign(client_tags_.size(), {});
  notes.server_tags.assign(server_tags_.size(), {});
}

bool RequestTracer::Note(std::string_view name, std::string_view value, RequestNotes& notes) const {
  const bool is_trace_header = notes.trace.Note(name, value);
  notes.forwarded.Note(name, value);
  notes.wants_trace =
      notes.wants_trace || (!value.empty() && http::EqualsIgnoreCase(name, kClientTraceHeader));
  NoteTag(client_tags_, name, value, notes.client_tags);
  NoteTag(server_tags_, name, value, notes.server_tags);
  return is_trace_header;
}

void RequestTracer::StartRoot(const http::TraceContext& context, const RequestNotes& notes,
                              http::IdGenerator& ids, observe::ExchangeResult& exchange) const {
  exchange.trace_id = ids.NewTraceId();
  exchange.trace_flags = http::kRandomFlag;
  if (restarts_) {
    if (context.has_parent()) {
      exchange.links.push_back({.trace_id = context.trace_id,
                                .span_id = context.parent_span_id,
                                .trace_flags = context.flags,
                                .is_remote = true,
                                .trace_state = context.trace_state});
    }
    Decide(sampler_, exchange);
  } else if (context.decision != SamplingDecision::kNone) {
    TakeDecision(context.decision, exchange);
  } else {
    Decide(notes.wants_trace ? client_sampler_ : sampler_, exchange);
  }
}

void RequestTracer::Start(const RequestNotes& notes, http::IdGenerator& ids,
                          observe::ExchangeResult& exchange) const {
  http::TraceContext context = notes.trace.Read(/*with_state=*/rewrites());
  http::TraceFormats formats = context.formats;
  formats.Add(formats_);
  exchange.trace_formats = formats.bits();
  if (!joins_headers_) {
    context = {};
  }
  if (context.has_parent() && !restarts_) {
    exchange.trace_id = context.trace_id;
    exchange.parent_span_id = context.parent_span_id;
    exchange.trace_flags = context.flags;
    exchange.parent_source = observe::ParentSource::kHeader;
    exchange.trace_state = std::move(context.trace_state);
    TakeDecision(context.decision, exchange);
    if (context.decision == SamplingDecision::kNone && rewrites()) {
      Decide(sampler_, exchange);
    }
  } else if (rewrites()) {
    StartRoot(context, notes, ids, exchange);
  }
  if (makes_client_) {
    exchange.client_span_id = ids.NewSpanId();
    exchange.client_tags = MakeTags(client_tags_, notes.client_tags);
  }
  if (makes_server_) {
    exchange.server_span_id = ids.NewSpanId();
    exchange.server_tags = MakeTags(server_tags_, notes.server_tags);
    TakeForwarded(notes.forwarded.Read(), exchange.http);
  }
}

http::OutgoingTraceHeaders RequestTracer::HeadersOf(const observe::ExchangeResult& exchange) {
  const bool has_server = exchange.server_span_id != observe::SpanId{};
  return {{.parent = {.trace_id = exchange.trace_id,
                      .span_id = has_server ? exchange.server_span_id : exchange.client_span_id,
                      .flags = exchange.trace_flags},
           .debug = exchange.trace_debug},
          exchange.trace_state,
          http::TraceFormats(exchange.trace_formats)};
}

}  // namespace weir::proxy
