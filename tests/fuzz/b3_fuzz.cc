// B3 in one header, or in several: trace id, span id, sampled and flags split at NULs. The
// input is read both ways. Properties: what parses has both ids or a decision alone, and is
// written so that it parses to the same.
#include <array>
#include <string>
#include <string_view>

#include "agent/http/trace_formats.h"
#include "tests/fuzz/property.h"

namespace {

namespace http = weir::http;

void CheckAgain(const http::ForeignContext& context) {
  const bool has_trace = context.trace_id != http::TraceId{};
  WEIR_PROPERTY(has_trace == (context.span_id != http::SpanId{}));
  WEIR_PROPERTY(has_trace || context.decision != http::SamplingDecision::kNone);
  if (!has_trace) {
    return;
  }
  const bool debug = context.decision == http::SamplingDecision::kDebug;
  const bool sampled = debug || context.decision == http::SamplingDecision::kKeep;
  const std::string text =
      http::FormatB3Single({.parent = {.trace_id = context.trace_id,
                                       .span_id = context.span_id,
                                       .flags = sampled ? http::kSampledFlag : std::uint8_t{0}},
                            .debug = debug});
  const auto again = http::ParseB3Single(text);
  WEIR_PROPERTY(again.has_value());
  WEIR_PROPERTY(again->trace_id == context.trace_id && again->span_id == context.span_id);
  WEIR_PROPERTY(context.decision == http::SamplingDecision::kNone
                    ? again->decision == http::SamplingDecision::kDrop
                    : again->decision == context.decision);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  if (const auto single = http::ParseB3Single(all)) {
    CheckAgain(*single);
  }
  std::array<std::string_view, 4> parts;
  std::string_view rest = all;
  for (std::string_view& part : parts) {
    part = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(part.size() < rest.size() ? part.size() + 1 : rest.size());
  }
  if (const auto multi = http::ParseB3Multi(
          {.trace_id = parts[0], .span_id = parts[1], .sampled = parts[2], .flags = parts[3]})) {
    CheckAgain(*multi);
  }
  return 0;
}
