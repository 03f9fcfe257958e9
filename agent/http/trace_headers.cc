#include "agent/http/trace_headers.h"

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "agent/http/token.h"
#include "agent/http/trace_context.h"
#include "agent/http/trace_formats.h"

namespace weir::http {
namespace {

// By TraceHeader.
constexpr std::array<std::string_view, kTraceHeaderCount> kNames = {
    "",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "uber-trace-id",
};

constexpr std::string_view NameOf(TraceHeader which) {
  return kNames[static_cast<std::size_t>(which)];
}

constexpr std::array kB3MultiHeaders = {TraceHeader::kB3TraceId, TraceHeader::kB3SpanId,
                                        TraceHeader::kB3ParentSpanId, TraceHeader::kB3Sampled,
                                        TraceHeader::kB3Flags};

bool IsSampled(SamplingDecision decision) {
  return decision == SamplingDecision::kKeep || decision == SamplingDecision::kDebug;
}

}  // namespace

TraceHeader IdentifyTraceHeader(std::string_view name) {
  for (std::size_t i = 1; i < kNames.size(); ++i) {
    if (EqualsIgnoreCase(name, kNames[i])) {
      return static_cast<TraceHeader>(i);
    }
  }
  return TraceHeader::kNone;
}

void TraceHeaders::Clear() {
  slots_ = {};
  joined_state_.clear();
}

bool TraceHeaders::Note(std::string_view name, std::string_view value) {
  const TraceHeader which = IdentifyTraceHeader(name);
  if (which == TraceHeader::kNone) {
    return false;
  }
  value = TrimOws(value);
  Slot& slot = slots_[static_cast<std::size_t>(which)];
  ++slot.count;
  if (which != TraceHeader::kTraceState || slot.count == 1) {
    slot.value = value;
    return true;
  }
  if (slot.count == 2) {
    joined_state_ = slot.value;
  }
  joined_state_ += ',';
  joined_state_ += value;
  slot.value = joined_state_;
  return true;
}

bool TraceHeaders::Came(TraceFormat format) const {
  const auto has_value = [&](TraceHeader which) { return !At(which).value.empty(); };
  switch (format) {
    case TraceFormat::kW3c:
      return has_value(TraceHeader::kTraceParent);
    case TraceFormat::kB3Single:
      return has_value(TraceHeader::kB3);
    case TraceFormat::kB3Multi:
      return has_value(TraceHeader::kB3TraceId) || has_value(TraceHeader::kB3SpanId) ||
             has_value(TraceHeader::kB3Sampled) || has_value(TraceHeader::kB3Flags);
    case TraceFormat::kUber:
      return has_value(TraceHeader::kUberTraceId);
  }
  return false;
}

std::optional<ForeignContext> TraceHeaders::ReadForeign(TraceFormat format) const {
  switch (format) {
    case TraceFormat::kW3c:
      return std::nullopt;
    case TraceFormat::kB3Single: {
      const Slot& slot = At(TraceHeader::kB3);
      return slot.count == 1 ? ParseB3Single(slot.value) : std::nullopt;
    }
    case TraceFormat::kB3Multi:
      for (const TraceHeader which : kB3MultiHeaders) {
        if (At(which).count > 1) {
          return std::nullopt;
        }
      }
      return ParseB3Multi({.trace_id = At(TraceHeader::kB3TraceId).value,
                           .span_id = At(TraceHeader::kB3SpanId).value,
                           .sampled = At(TraceHeader::kB3Sampled).value,
                           .flags = At(TraceHeader::kB3Flags).value});
    case TraceFormat::kUber: {
      const Slot& slot = At(TraceHeader::kUberTraceId);
      return slot.count == 1 ? ParseUberTraceId(slot.value) : std::nullopt;
    }
  }
  return std::nullopt;
}

TraceContext TraceHeaders::Read(bool with_state) const {
  TraceContext context;
  if (Came(TraceFormat::kW3c)) {
    context.formats.Add(TraceFormat::kW3c);
    const Slot& slot = At(TraceHeader::kTraceParent);
    if (const auto parent = ParseTraceParent(slot.value); parent && slot.count == 1) {
      context.trace_id = parent->trace_id;
      context.parent_span_id = parent->span_id;
      context.flags = parent->flags;
      context.decision =
          (parent->flags & kSampledFlag) != 0 ? SamplingDecision::kKeep : SamplingDecision::kDrop;
      if (with_state) {
        context.trace_state =
            ParseTraceState(At(TraceHeader::kTraceState).value).value_or(std::string());
      }
    }
  }
  bool decided = context.has_parent();
  for (const TraceFormat format :
       {TraceFormat::kB3Single, TraceFormat::kB3Multi, TraceFormat::kUber}) {
    if (!Came(format)) {
      continue;
    }
    context.formats.Add(format);
    const auto foreign = ReadForeign(format);
    if (!foreign) {
      continue;
    }
    if (!decided) {
      decided = true;
      context.trace_id = foreign->trace_id;
      context.parent_span_id = foreign->span_id;
      context.decision = foreign->decision;
    } else if (foreign->trace_id == context.trace_id &&
               foreign->decision == SamplingDecision::kDebug) {
      context.decision = SamplingDecision::kDebug;
    }
  }
  if (IsSampled(context.decision)) {
    context.flags |= kSampledFlag;
  }
  return context;
}

OutgoingTraceHeaders::OutgoingTraceHeaders(const OutgoingContext& context,
                                           std::string_view trace_state, TraceFormats formats) {
  parent_ = FormatTraceParent(context.parent);
  Add(NameOf(TraceHeader::kTraceParent), {parent_.data(), parent_.size()});
  if (!trace_state.empty()) {
    Add(NameOf(TraceHeader::kTraceState), trace_state);
  }
  if (formats.Has(TraceFormat::kB3Single)) {
    b3_ = FormatB3Single(context);
    Add(NameOf(TraceHeader::kB3), b3_);
  }
  if (formats.Has(TraceFormat::kB3Multi)) {
    trace_id_ = FormatTraceId(context.parent.trace_id);
    span_id_ = FormatSpanId(context.parent.span_id);
    Add(NameOf(TraceHeader::kB3TraceId), trace_id_);
    Add(NameOf(TraceHeader::kB3SpanId), span_id_);
    if (context.debug) {
      Add(NameOf(TraceHeader::kB3Flags), "1");  // stands for sampled, too
    } else {
      Add(NameOf(TraceHeader::kB3Sampled), context.sampled() ? "1" : "0");
    }
  }
  if (formats.Has(TraceFormat::kUber)) {
    uber_ = FormatUberTraceId(context);
    Add(NameOf(TraceHeader::kUberTraceId), uber_);
  }
}

}  // namespace weir::http
