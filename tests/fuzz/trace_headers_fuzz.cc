// The headers of one request, "name NUL value NUL" and so on. Properties: what is read is
// bounded; what is written for it, in all the formats that came, is read as the same context;
// and what Forwarded gives is a host, a scheme that is known and an address.
#include <string_view>

#include "agent/base/ip.h"
#include "agent/http/forwarded.h"
#include "agent/http/trace_headers.h"
#include "tests/fuzz/property.h"

namespace {

namespace http = weir::http;

std::string_view TakePart(std::string_view& rest) {
  const std::string_view part = rest.substr(0, rest.find('\0'));
  rest.remove_prefix(part.size() < rest.size() ? part.size() + 1 : rest.size());
  return part;
}

void CheckWritten(const http::TraceContext& context) {
  const bool debug = context.decision == http::SamplingDecision::kDebug;
  const http::OutgoingTraceHeaders written({.parent = {.trace_id = context.trace_id,
                                                       .span_id = context.parent_span_id,
                                                       .flags = context.flags},
                                            .debug = debug},
                                           context.trace_state, context.formats);
  http::TraceHeaders headers;
  for (const http::HeaderView& header : written.all()) {
    WEIR_PROPERTY(headers.Note(header.name, header.value));
  }
  const http::TraceContext again = headers.Read(/*with_state=*/true);
  WEIR_PROPERTY(again.trace_id == context.trace_id);
  WEIR_PROPERTY(again.parent_span_id == context.parent_span_id);
  WEIR_PROPERTY(again.flags == context.flags);
  WEIR_PROPERTY(again.trace_state == context.trace_state);
  const bool debug_again = again.decision == http::SamplingDecision::kDebug;
  const bool has_room = context.formats != http::TraceFormats() &&
                        (context.formats.bits() != 1U);  // W3C's has none for it
  WEIR_PROPERTY(debug_again == (debug && has_room));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  http::TraceHeaders headers;
  http::ForwardedHeaders forwarded;
  while (!rest.empty()) {
    const std::string_view name = TakePart(rest);
    const std::string_view value = TakePart(rest);
    (void)headers.Note(name, value);
    forwarded.Note(name, value);
  }
  const http::TraceContext context = headers.Read(/*with_state=*/true);
  WEIR_PROPERTY(context.trace_state.size() <= http::kMaxTraceStateBytes);
  if (context.has_parent()) {
    WEIR_PROPERTY(context.parent_span_id != http::SpanId{});
    CheckWritten(context);
  }
  const http::ForwardedFacts facts = forwarded.Read();
  WEIR_PROPERTY(facts.scheme.empty() || facts.scheme == "http" || facts.scheme == "https");
  WEIR_PROPERTY(facts.client.empty() || weir::base::IpAddress::Parse(facts.client).has_value());
  return 0;
}
