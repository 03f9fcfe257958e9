#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/http/h2_relay.h"
#include "agent/http/h2c_upgrade.h"
#include "agent/http/http1_parser.h"
#include "agent/http/trace_context.h"
#include "agent/io/byte_buffer.h"
#include "agent/model/snapshot.h"
#include "agent/observe/finish.h"
#include "agent/proxy/http_relay.h"
#include "agent/proxy/request_gate.h"
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
  http::H2RelayScratch h2_scratch;
  http::H2FieldList h2_added;  // scratch
};

// Requests of one connection that may be unanswered; more are left in the socket.
inline constexpr std::size_t kMaxOpenRequests = 64;

// How one connection is relayed. If neither side makes spans, the trace headers pass
// unchanged. The settings are not kept.
struct Http1Options {
  http::Http1Limits limits;
  http::H2RelayLimits h2_limits{};  // for who goes on in HTTP/2
  TracerOptions trace{};
  bool keep_query_values = false;
  // Requests that may be unanswered at the upstream; others wait here.
  std::size_t max_open_requests = kMaxOpenRequests;
  RequestGate* gate = nullptr;  // null: everything is passed on
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
  // Asked for an HTTP/1 request that came without a trace, or a database command that no other
  // one is unanswered beside: what is known of its parent.
  virtual std::optional<seam::ParentHint> TakeParentHint() noexcept { return std::nullopt; }
  // The request's trace is settled, and it is about to be passed on; `open` requests of the
  // connection, with it, are not answered yet.
  virtual void OnRequestStart(const observe::ExchangeResult& exchange, std::size_t open) noexcept {
    (void)exchange;
    (void)open;
  }
  // In HTTP/2: the answer of the last one has begun. `broken_off`: not of each since none was
  // open, some were given up by others than the upstream.
  virtual void OnAllAnswered(bool broken_off) noexcept { (void)broken_off; }
};

// What goes on in HTTP/2 (stream 1) of an HTTP/1.1 connection behind its Upgrade to h2c.
struct Http1Upgrade {
  observe::ExchangeResult exchange;  // of the request, not reported yet
  base::MonotonicTime start;
  http::H2SettingsNotes settings;  // the client's
  io::ByteBuffer held;             // bytes of the downstream that were not looked at
};

// Http1Relay is HttpRelay for HTTP/1. Every byte passes as it came, except the trace headers
// of requests and the HTTP2-Settings of one that offers h2c. A head is passed on only when
// all of it was seen and found good, so the upstream never sees a part of a bad one.
class Http1Relay final : public HttpRelay {
 public:
  Http1Relay(Http1Context& context, const Http1Options& options, ExchangeHandler& handler);

  Result OnDownstreamBytes(io::Bytes bytes, const Output& out) override;
  Result OnUpstreamBytes(io::Bytes bytes, const Output& out) override;
  Result OnDownstreamEnd(const Output& out) override;
  Result OnUpstreamEnd(const Output& out) override;
  // Answered 408.
  Result OnHeaderTimeout(const Output& out) override;
  void Finish(observe::Reason reason) override;
  // After kHttp2, once: what the relay of the connection goes on with.
  Http1Upgrade TakeUpgrade();

  [[nodiscard]] bool waiting_for_headers() const override { return !request_head_.empty(); }
  [[nodiscard]] base::MonotonicTime head_began() const override { return head_begin_; }
  // False: too many requests are unanswered or wait here for their turn, or an Upgrade or
  // CONNECT waits for its answer.
  [[nodiscard]] bool wants_downstream() const override;
  [[nodiscard]] bool idle() const override { return open_.empty() && request_head_.empty(); }

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
    std::optional<http::H2SettingsNotes> offers_h2c;
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
  [[nodiscard]] bool Admits(observe::ExchangeResult& exchange) const;
  void PassRequestHead(const Head& head, Exchange& exchange, Run& run, const Output& out);
  void AppendRequestHead(std::string_view head, const std::optional<http::H2cOffer>& offer,
                         const observe::ExchangeResult& exchange, io::ByteBuffer& out) const;
  Exchange& OpenExchange();
  void FailRequest(Exchange& exchange, std::uint16_t status, std::string_view detail);
  void EndRequest();

  bool TakeResponseHead(Run& run, const Output& out, Result& result);
  bool TakeResponseBody(Run& run, const Output& out, Result& result);
  void FailResponse(http::Http1Error error, Run& run, const Output& out, Result& result);
  void SwitchProtocol(Run& run, const Output& out, Result& result);
  void EndResponse();

  void ResumeDownstream(const Output& out);
  void AnswerIfFailed(const Output& out, Result& result);
  void ReportFront();
  void SettleTrace(Exchange& exchange);
  [[nodiscard]] bool blocked() const;

  Http1Context& context_;
  ExchangeHandler& handler_;
  http::Http1Limits limits_;
  http::H2RelayLimits h2_limits_;
  RequestTracer tracer_;
  RequestGate* gate_;
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
