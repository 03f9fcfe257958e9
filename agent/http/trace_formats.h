#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/http/trace_context.h"

// The formats of trace context beside W3C's: B3 in one header and in several (openzipkin's
// b3-propagation), and Jaeger's uber-trace-id. Values come without white space around.
namespace weir::http {

// What a caller decided about sampling.
enum class SamplingDecision : std::uint8_t {
  kNone,  // left to whoever reads it
  kDrop,
  kKeep,
  kDebug,  // keep, whatever a sampler says
};

// A context of one of these formats. Ids of 64 bits are filled up with zeros on the left.
struct ForeignContext {
  TraceId trace_id{};  // zero: a decision only, for the trace that begins here
  SpanId span_id{};    // zero with the above
  SamplingDecision decision = SamplingDecision::kNone;
};

// "b3: TRACE-SPAN[-STATE[-PARENT]]" or "b3: STATE", STATE one of 0, 1 and d. Empty if it is
// malformed. Digits of either case are read. Pure; any thread.
std::optional<ForeignContext> ParseB3Single(std::string_view value);

// The values of the X-B3-* headers, each empty when it is absent or empty.
struct B3Fields {
  std::string_view trace_id{};
  std::string_view span_id{};
  std::string_view sampled{};  // 0, 1, and the older true and false
  std::string_view flags{};    // 1: debug, which implies sampled
};

// Empty if nothing is said, one id is there without the other, or one of them is malformed.
std::optional<ForeignContext> ParseB3Multi(const B3Fields& fields);

// "uber-trace-id: TRACE:SPAN:PARENT:FLAGS", the colons as %3A too; ids may be short. Empty if
// it is malformed.
std::optional<ForeignContext> ParseUberTraceId(std::string_view value);

// What goes out for one request, in all formats: the ids of the context's span, whether it is
// sampled, and whether the caller asked for debugging (which implies sampled).
struct OutgoingContext {
  TraceParent parent;
  bool debug = false;

  [[nodiscard]] bool sampled() const { return debug || (parent.flags & kSampledFlag) != 0; }
};

// Ids are written whole, 32 and 16 digits; the parent's id never is (0 in uber-trace-id,
// which demands one).
std::string FormatB3Single(const OutgoingContext& context);
std::string FormatUberTraceId(const OutgoingContext& context);
std::string FormatTraceId(const TraceId& id);
std::string FormatSpanId(const SpanId& id);

}  // namespace weir::http
