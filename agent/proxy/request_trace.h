#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "agent/http/forwarded.h"
#include "agent/http/trace_context.h"
#include "agent/http/trace_headers.h"
#include "agent/model/snapshot.h"
#include "agent/observe/finish.h"

namespace weir::proxy {

// What a node adds to a request's header fields at most: a traceparent, the tracestate of a
// trace that begins here, and the same context in every other format that a workload asks
// for. The node that it comes to by a tunnel leaves this much room above its limits, so that
// a request at the limit is not refused for what weir added.
inline constexpr std::uint32_t kAddedHeaderCount = 7;
inline constexpr std::uint32_t kAddedHeaderBytes = 384;

// What of one request's headers matters to its spans. Scratch memory, reused from request to
// request; its views die with the request's head.
struct RequestNotes {
  http::TraceHeaders trace;
  http::ForwardedHeaders forwarded;
  bool wants_trace = false;                   // x-client-trace-id came
  std::vector<std::string_view> client_tags;  // values, by the tracer's tags
  std::vector<std::string_view> server_tags;
};

// For whom the requests of one connection are traced. Null or disabled: no span of that kind.
struct TracerOptions {
  const model::TraceSettings* client = nullptr;  // of the workload that the requests leave
  const model::TraceSettings* server = nullptr;  // of the one where they arrive
  bool from_outside = false;                     // the caller is nobody of the mesh
  bool joins_headers = true;                     // false: whatever came, a trace begins here
};

// RequestTracer decides, for the requests of one connection, which trace they belong to and
// what is written into them: by the trace headers that came, in any format that weir knows,
// or as the root of a new trace. It is the same for HTTP/1 and HTTP/2:
//   Begin; Note for each header, leaving out those that it claims if rewrites(); Start; and
//   if rewrites(), HeadersOf for those to be added.
// Worker; pure but for the ids that it draws.
class RequestTracer {
 public:
  // The settings are not kept.
  explicit RequestTracer(const TracerOptions& options);

  // Empties `notes` for another request.
  void Begin(RequestNotes& notes) const;
  // Takes one header; `value` must live until Start. True if it is a trace header: it is not
  // to be sent on when rewrites().
  bool Note(std::string_view name, std::string_view value, RequestNotes& notes) const;
  // Fills the trace fields of `exchange`, and the forwarded ones of its HTTP facts, from what
  // was noted. The sampling of a root is decided here; below a parent it is the parent's,
  // unless that left it open.
  void Start(const RequestNotes& notes, http::IdGenerator& ids,
             observe::ExchangeResult& exchange) const;

  // Whether the trace headers are replaced at all. If not, none is touched.
  [[nodiscard]] bool rewrites() const { return makes_client_ || makes_server_; }

  // The headers that the request is sent on with: W3C's and the formats that came. The parent
  // that they name is the last span made here: what the next hop, or the application, links
  // to. `exchange` must outlive them.
  static http::OutgoingTraceHeaders HeadersOf(const observe::ExchangeResult& exchange);

 private:
  void StartRoot(const http::TraceContext& context, const RequestNotes& notes,
                 http::IdGenerator& ids, observe::ExchangeResult& exchange) const;

  bool makes_client_;
  bool makes_server_;
  bool restarts_;  // a caller's trace is linked to, not continued
  bool joins_headers_;
  http::TraceFormats formats_;  // written always
  http::RatioSampler sampler_;
  http::RatioSampler client_sampler_;  // of requests with x-client-trace-id
  std::vector<model::HeaderTag> client_tags_;
  std::vector<model::HeaderTag> server_tags_;
};

}  // namespace weir::proxy
