// A traceparent and a tracestate, split at the first NUL. Properties: what parses is
// written so that it parses to the same, within the limits.
#include <algorithm>
#include <string>
#include <string_view>

#include "agent/http/trace_context.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace http = weir::http;
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::size_t split = all.find('\0');
  if (const auto parent = http::ParseTraceParent(all.substr(0, split))) {
    const auto text = http::FormatTraceParent(*parent);
    const auto again = http::ParseTraceParent({text.data(), text.size()});
    WEIR_PROPERTY(again.has_value());
    WEIR_PROPERTY(again->trace_id == parent->trace_id && again->span_id == parent->span_id);
    WEIR_PROPERTY(again->flags == parent->flags && parent->flags <= 3);
  }
  const std::string_view list = split == std::string_view::npos ? all : all.substr(split + 1);
  if (const auto state = http::ParseTraceState(list)) {
    WEIR_PROPERTY(state->size() <= http::kMaxTraceStateBytes);
    WEIR_PROPERTY(http::ParseTraceState(*state).value_or("!") == *state);
    WEIR_PROPERTY(static_cast<std::size_t>(std::count(state->begin(), state->end(), ',')) <
                  http::kMaxTraceStateMembers);
    const std::string kept = http::WithThreshold(*state, "fd70a4");
    WEIR_PROPERTY(kept.starts_with("ot=th:fd70a4"));
    WEIR_PROPERTY(http::ParseTraceState(kept).value_or("!") == kept);
    if (kept.size() > state->size()) {  // nothing had to give way to it
      WEIR_PROPERTY(http::RandomnessOf({}, kept) == http::RandomnessOf({}, *state));
    }
  }
  return 0;
}
