#pragma once

#include <cstdint>

#include "agent/http/http1_parser.h"
#include "agent/http/trace_context.h"
#include "agent/io/byte_buffer.h"
#include "agent/model/snapshot.h"
#include "agent/observe/finish.h"

namespace weir::proxy {

// What a node adds to a request's header fields at most: a traceparent, and the tracestate
// of a trace that begins here. The node that it comes to by a tunnel leaves this much room
// above its limits, so that a request at the limit is not refused for what weir added.
inline constexpr std::uint32_t kAddedHeaderCount = 2;
inline constexpr std::uint32_t kAddedHeaderBytes = 128;

// RequestTracer decides, for the requests of one connection, which trace they belong to and
// what is written into them: by the request's own traceparent and tracestate, or as the
// root of a new trace. Worker; pure but for the ids that it draws.
class RequestTracer {
 public:
  // `client` and `server` are the trace settings of the workload that the requests leave
  // and of the one where they arrive; null or disabled: no span of that kind. They are not
  // kept.
  RequestTracer(const model::TraceSettings* client, const model::TraceSettings* server);

  // Fills the trace fields of `exchange` from the fields of `head`. A root's sampling is
  // decided here; below a parent it is the parent's.
  void Start(const http::RequestHead& head, http::IdGenerator& ids,
             observe::ExchangeResult& exchange) const;

  // Whether the trace headers are replaced at all. If not, neither is touched.
  [[nodiscard]] bool rewrites() const { return makes_client_ || makes_server_; }

  // Appends the header lines, each with its CRLF, that the request is sent on with. The
  // parent named is the last span made here: what the next hop, or the application, links to.
  static void AppendHeaderLines(const observe::ExchangeResult& exchange, io::ByteBuffer& out);

 private:
  bool makes_client_;
  bool makes_server_;
  http::RatioSampler sampler_;
};

}  // namespace weir::proxy
