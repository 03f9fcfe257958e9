#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/observe/record.h"

// The end step of a request, a command or a connection: from what the codec saw to the record.
// Pure; any thread.
namespace weir::observe {

// What the data path knows of one request or command when it ends, well or not. One per request, on
// every ending; a same-node join makes two records of it.
struct ExchangeResult {
  HttpExchange http;
  std::shared_ptr<const DatabaseCall> database{};  // a command: `http` says nothing
  Reason reason = Reason::kNone;
  std::string policy{};          // the rule that decided on it; empty: the connection's
  Timing timing;                 // of tunnel and upstream only what this request waited for itself
  std::uint64_t bytes_sent = 0;  // of the request, head and body, as it went upstream
  std::uint64_t bytes_received = 0;  // of all its responses, 1xx included
  TraceId trace_id{};                // zero: no trace
  SpanId parent_span_id{};           // from the request's trace headers; zero: root
  SpanId client_span_id{};           // zero: no CLIENT span here
  SpanId server_span_id{};           // zero: no SERVER span here
  std::uint8_t trace_flags = 0;      // bit 0 sampled, bit 1 random
  ParentSource parent_source = ParentSource::kNone;
  std::string trace_state;
  bool trace_debug = false;            // the caller asked for debugging (B3, Jaeger)
  std::uint8_t trace_formats = 0;      // written besides W3C's: bits of http::TraceFormats
  std::vector<SpanLink> links{};       // of the first span made here; at most kMaxSpanLinks
  std::vector<SpanTag> client_tags{};  // of the CLIENT span, from headers
  std::vector<SpanTag> server_tags{};  // of the SERVER span

  [[nodiscard]] bool sampled() const { return (trace_flags & 1U) != 0; }
};

// Makes the record of a finished request. `connection` is the flow of the connection that
// carried it, as seen from this side: its direction says which of the two spans is meant
// (kOutbound CLIENT, kInbound SERVER), its parties, verdict, mtls and so on are taken over,
// its times and byte counts replaced. A command has a CLIENT span at most. No span unless the trace
// is sampled, or `local` keeps the spans of failed or slow requests and this is one.
Record FinishRequest(const Flow& connection, const ExchangeResult& exchange,
                     std::shared_ptr<const model::LocalWorkload> local);

// Whether `reason` is a refusal, here or by the far agent, of who somebody is or by the policy:
// the verdict is deny. Any other reason is an error. Pure.
bool IsRefusal(Reason reason);

// Puts the span of a whole connection, in the trace that `exchange` names, to its record.
// None unless the trace is sampled or `record.local` keeps such an end, as above.
void AddConnectionSpan(const ExchangeResult& exchange, Record& record);

// `text` cut to at most `limit_bytes` on a character border, with an ellipsis at the end if
// it was cut, and with every byte that is not part of a UTF-8 character replaced by '?':
// records are UTF-8, peers' bytes need not be.
std::string CleanText(std::string_view text, std::size_t limit_bytes);

// The keys of a query string, "a&b" for "a=1&b=2"; whole pairs with `keep_values`, but for
// signatures and keys of storage services, "sig=REDACTED". Cut like CleanText.
std::string RedactQuery(std::string_view query, bool keep_values, std::size_t limit_bytes);

}  // namespace weir::observe
