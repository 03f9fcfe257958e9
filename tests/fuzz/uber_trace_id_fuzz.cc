// An uber-trace-id. Properties: what parses has both ids and a decision, and is written so
// that it parses to the same.
#include <string>
#include <string_view>

#include "agent/http/trace_formats.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace http = weir::http;
  const auto context = http::ParseUberTraceId({reinterpret_cast<const char*>(data), size});
  if (!context) {
    return 0;
  }
  WEIR_PROPERTY(context->trace_id != http::TraceId{} && context->span_id != http::SpanId{});
  WEIR_PROPERTY(context->decision != http::SamplingDecision::kNone);
  const bool debug = context->decision == http::SamplingDecision::kDebug;
  const bool sampled = debug || context->decision == http::SamplingDecision::kKeep;
  const auto again = http::ParseUberTraceId(
      http::FormatUberTraceId({.parent = {.trace_id = context->trace_id,
                                          .span_id = context->span_id,
                                          .flags = sampled ? http::kSampledFlag : std::uint8_t{0}},
                               .debug = debug}));
  WEIR_PROPERTY(again.has_value());
  WEIR_PROPERTY(again->trace_id == context->trace_id && again->span_id == context->span_id);
  WEIR_PROPERTY(again->decision == context->decision);
  return 0;
}
