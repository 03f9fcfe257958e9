#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/http/http1_parser.h"
#include "agent/http/trace_context.h"
#include "agent/io/byte_buffer.h"
#include "agent/model/snapshot.h"
#include "agent/observe/finish.h"
#include "agent/proxy/request_trace.h"
#include "agent/seam/causality.h"

namespace weir::proxy {

// What the relays of one worker share: nothing of it outlives one call, except the ids.
struct Http1Context {
  explicit Http1Context(const base::Clock& used_clock) : clock(used_clock) {}

  const base::Clock& clock;
  http::IdGenerator ids;
  http::RequestHead request;    // scratch
  http::ResponseHead response;  // scratch
  RequestNotes notes;           // scratch
};

// Requests of one connection that may be unanswered; more are left in the socket.
inline constexpr std::size_t kMaxOpenRequests = 64;

// How one connection is relayed. If neither side makes spans, the trace headers pass
// unchanged. The settings are not kept.
struct Http1Options {
  http::Http1Limits limits;
  TracerOptions trace{};
  bool keep_query_values = false;
  // Requests that may be unanswered at the upstream; others wait here.
  std::size_t max_open_requests = kMaxOpenRequests;
};

// ExchangeHandler is told of each request when it begins, if it is a good one, and exactly
// once when it has ended: well, by an error, or because the connection ended. Worker.
class ExchangeHandler {
 public:
  ExchangeHandler() = default;
  ExchangeHandler(const ExchangeHandler&) = delete;
  ExchangeHandler& operator=(const ExchangeHandler&) = delete;
  virtual ~ExchangeHandler() = default;
  virtual void OnExchange(observe::ExchangeResult&& exchange) noexcept = 0;
  // Asked for a request that came without a trace: what is known of its parent.
  virtual std::optional<seam::ParentHint> TakeParentHint() noexcept { return std::nullopt; }
  // The request's trace is settled, and it is about to be passed on.
  virtual void OnRequestStart(const observe::ExchangeResult& exchange) noexcept { (void)exchange; }
};

// Http1Relay follows the HTTP/1 messages of one application connection: downstream is who
// sends requests, upstream who answers. Every byte passes as it came, except the trace
// headers of requests. A head is passed on only when all of it was seen and found good, so
// the upstream never sees a part of a bad one. Sans I/O: bytes in, bytes out. Worker.
class Http1Relay {
 public:
  enum class Action : std::uint8_t {
    kContinue,
    kOpaque,  // after Upgrade or CONNECT: pass everything on from now, do not call again
    kClose,   // send what is for the downstream, then close it; reset the upstream
    kReset,   // reset both: what was sent so far cannot be completed
  };
  struct Result {
    Action action = Action::kContinue;
    observe::Reason reason = observe::Reason::kNone;  // of kClose and kReset
    // The rest of the call's input, to be passed on as it is behind what was appended to
    // the buffer of that direction: a body is not copied. Dies with the input.
    io::Bytes direct;
  };
  // Where output is appended. A call may write to both.
  struct Output {
    io::ByteBuffer& to_upstream;
    io::ByteBuffer& to_downstream;
  };

  Http1Relay(Http1Context& context, const Http1Options& options, ExchangeHandler& handler);

  // Input is taken whole. While wants_downstream() is false neither of the two downstream
  // calls may be made: leave the bytes, and the FIN, in the socket.
  Result OnDownstreamBytes(io::Bytes bytes, const Output& out);
  Result OnUpstreamBytes(io::Bytes bytes, const Output& out);
  // A side sent its last byte (FIN). kContinue: pass the FIN on.
  Result OnDownstreamEnd(const Output& out);
  Result OnUpstreamEnd(const Output& out);
  // waiting_for_headers() was true for too long: answered 408.
  Result OnHeaderTimeout(const Output& out);
  // The connection has ended, or is about to: reports each request that has not ended,
  // with `reason`. Idempotent; call it always, last.
  void Finish(observe::Reason reason);

  // A request's head has begun and is not complete: the time for the header timeout.
  // False on an idle connection, which may stay idle.
  [[nodiscard]] bool waiting_for_headers() const { return !request_head_.empty(); }
  // When that head began; meaningful while waiting_for_headers().
  [[nodiscard]] base::MonotonicTime head_began() const { return head_begin_; }
  // False while requests must not be read: too many are unanswered or wait here for their
  // turn, or an Upgrade or CONNECT waits for its answer. Ask again after OnUpstreamBytes.
  [[nodiscard]] bool wants_downstream() const;
  // No request is open and none has begun.
  [[nodiscard]] bool idle() const { return open_.empty() && request_head_.empty(); }

 private:
  // One request that was passed on and has not ended, in the order of the requests.
  struct Exchange {
    observe::ExchangeResult result;
    base::MonotonicTime start;
    http::RequestKind kind;
    std::uint16_t local_status = 0;  // not 0: answered with this by the relay, in its turn
    std::string_view local_detail;   // what was wrong; static text
    bool request_done = false;
    bool response_started = false;  // the final head was passed on
    bool response_done = false;
  };
  // Where in the messages a direction is; kFailed: its input is dropped until the answer.
  enum class Part : std::uint8_t { kHead, kBody, kFailed };
  // What of a call's input is passed on as it is and not yet appended: [begin, next).
  struct Run {
    std::string_view input;
    std::size_t begin = 0;
    std::size_t next = 0;

    [[nodiscard]] std::string_view rest() const { return input.substr(next); }
    [[nodiscard]] std::string_view pending() const { return input.substr(begin, next - begin); }
    void Flush(io::ByteBuffer& out);
    // Passes over bytes of the input that went out by a copy.
    void Skip(std::size_t count) { begin = next = next + count; }
  };
  // A message's head, in the input or in the buffer where its parts were gathered.
  struct Head {
    http::Progress progress = http::Progress::kNeedMore;
    std::string_view bytes;
    std::size_t from_input = 0;  // of its bytes, those that the input of this call has
    bool in_input = false;       // all of them
  };

  Head TakeHead(http::HeadScanner& scanner, io::ByteBuffer& gathered, std::string_view rest) const;
  io::Bytes ProcessDownstream(std::string_view input, const Output& out);
  bool TakeRequestHead(Run& run, const Output& out);
  bool TakeRequestBody(Run& run);
  void PassRequestHead(const Head& head, Exchange& exchange, Run& run, const Output& out);
  Exchange& OpenExchange();
  void FailRequest(Exchange& exchange, std::uint16_t status, std::string_view detail);
  void EndRequest();

  bool TakeResponseHead(Run& run, const Output& out, Result& result);
  bool TakeResponseBody(Run& run, const Output& out, Result& result);
  void FailResponse(http::Http1Error error, Run& run, const Output& out, Result& result);
  void SwitchToOpaque(Run& run, const Output& out, Result& result);
  void EndResponse();

  void ResumeDownstream(const Output& out);
  void AnswerIfFailed(const Output& out, Result& result);
  void ReportFront();
  void SettleTrace(Exchange& exchange);
  [[nodiscard]] bool blocked() const;

  Http1Context& context_;
  ExchangeHandler& handler_;
  http::Http1Limits limits_;
  RequestTracer tracer_;
  std::list<Exchange> open_;
  io::ByteBuffer request_head_;   // a head that is not complete
  io::ByteBuffer response_head_;  // the same from the upstream
  io::ByteBuffer held_;           // behind a request that blocks; bounded by one read
  http::HeadScanner request_scanner_;
  http::HeadScanner response_scanner_;
  http::BodyReader request_body_;
  http::BodyReader response_body_;
  base::MonotonicTime head_begin_;
  base::WallTime head_begin_wall_;
  std::uint32_t request_count_ = 0;
  Part downstream_ = Part::kHead;
  Part upstream_ = Part::kHead;
  std::size_t max_open_requests_;
  bool keep_query_values_;
  bool upgrade_pending_ = false;
  bool upstream_ended_ = false;
};

}  // namespace weir::proxy
