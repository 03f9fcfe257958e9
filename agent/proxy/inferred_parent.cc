#include "agent/proxy/inferred_parent.h"

#include <algorithm>
#include <span>
#include <utility>

#include "agent/observe/record.h"

namespace weir::proxy {

using observe::ParentSource;
using observe::SpanId;
using observe::TraceId;

namespace {

void LinkCandidates(const seam::ParentHint& hint, observe::ExchangeResult& exchange) {
  const auto count = std::min(hint.candidate_count, hint.candidates.size());
  for (const auto& candidate : std::span(hint.candidates).first(count)) {
    if (candidate.trace_id != TraceId{} && exchange.links.size() < observe::kMaxSpanLinks) {
      observe::SpanLink link;
      link.trace_id = candidate.trace_id;
      link.span_id = candidate.span_id;
      exchange.links.push_back(std::move(link));
    }
  }
}

ParentSource SourceOf(seam::HintSource source) {
  switch (source) {
    case seam::HintSource::kNone:
      return ParentSource::kNone;
    case seam::HintSource::kRuntime:
      return ParentSource::kRuntime;
    case seam::HintSource::kTurn:
      return ParentSource::kTurn;
    case seam::HintSource::kSole:
      return ParentSource::kSole;
  }
  return ParentSource::kNone;
}

}  // namespace

void AdoptParent(const seam::ParentHint& hint, observe::ExchangeResult& exchange) {
  if (hint.source == seam::HintSource::kNone) {
    LinkCandidates(hint, exchange);
    return;
  }
  if (hint.parent.span.trace_id == TraceId{} || hint.parent.span.span_id == SpanId{}) {
    return;
  }
  exchange.trace_id = hint.parent.span.trace_id;
  exchange.parent_span_id = hint.parent.span.span_id;
  exchange.trace_flags = hint.parent.flags;
  exchange.trace_state = hint.parent.trace_state();
  exchange.parent_source = SourceOf(hint.source);
}

seam::ParentContext ContextOf(const observe::ExchangeResult& exchange) {
  seam::ParentContext context;
  context.span.trace_id = exchange.trace_id;
  context.span.span_id = exchange.parent_span_id;
  for (const SpanId& id : {exchange.client_span_id, exchange.server_span_id}) {
    if (id != SpanId{}) {
      context.span.span_id = id;
    }
  }
  context.flags = exchange.trace_flags;
  context.SetTraceState(exchange.trace_state);
  return context;
}

}  // namespace weir::proxy
