#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/base/clock.h"
#include "agent/http/h2_relay.h"
#include "agent/io/byte_buffer.h"
#include "agent/observe/finish.h"
#include "agent/proxy/http1_relay.h"
#include "agent/proxy/http_relay.h"
#include "agent/proxy/request_gate.h"
#include "agent/proxy/request_trace.h"

namespace weir::proxy {

struct Http2Options {
  http::H2RelayLimits limits;
  TracerOptions trace{};
  bool keep_query_values = false;
  RequestGate* gate = nullptr;  // null: everything is passed on
};

// Http2Relay is HttpRelay for HTTP/2 in the clear (RFC 9113): http::H2Relay passes the
// frames, this traces and reports the streams. Texts of open requests take at most
// kMaxOpenTextBytes; streams beyond that are refused.
class Http2Relay final : public HttpRelay, private http::H2RelayHandler {
 public:
  static constexpr std::size_t kMaxOpenTextBytes = 1U << 20U;

  Http2Relay(Http1Context& context, const Http2Options& options, ExchangeHandler& handler);

  // Goes on where Http1Relay left: stream 1 is its last request. First call, if any.
  void BeginUpgraded(Http1Upgrade&& upgrade);

  Result OnDownstreamBytes(io::Bytes bytes, const Output& out) override;
  Result OnUpstreamBytes(io::Bytes bytes, const Output& out) override;
  Result OnDownstreamEnd(const Output& out) override;
  Result OnUpstreamEnd(const Output& out) override;
  Result OnHeaderTimeout(const Output& out) override;
  void OnDrain(const Output& out) override;
  void Finish(observe::Reason reason) override;
  [[nodiscard]] bool waiting_for_headers() const override { return relay_.waiting_for_headers(); }
  [[nodiscard]] base::MonotonicTime head_began() const override { return head_began_; }
  [[nodiscard]] bool wants_downstream() const override { return true; }
  [[nodiscard]] bool idle() const override { return open_.empty(); }
  [[nodiscard]] http::H2Violation violation() const override { return relay_.violation(); }

 private:
  // One stream that was passed on and has not ended.
  struct Exchange {
    observe::ExchangeResult result;
    base::MonotonicTime start;
    std::size_t text_bytes = 0;
    bool answered = false;
  };

  http::H2Admission OnRequest(std::uint32_t id, const http::H2RequestHead& head,
                              std::vector<http::H2Field>& fields) noexcept override;
  void OnRejected(http::H2Reject why, const http::H2RequestHead& head) noexcept override;
  void OnResponse(std::uint32_t id, const http::H2ResponseHead& head) noexcept override;
  void OnTrailers(std::uint32_t id, const http::H2FieldList& fields) noexcept override;
  void OnStreamEnd(std::uint32_t id, const http::H2StreamEnd& end) noexcept override;

  [[nodiscard]] Exchange Describe(const http::H2RequestHead& head);
  [[nodiscard]] bool Admits(const http::H2RequestHead& head,
                            observe::ExchangeResult& exchange) const;
  void Trace(std::vector<http::H2Field>& fields, Exchange& exchange);
  void Report(Exchange& exchange, observe::Reason reason);
  // The final answer of a stream has begun, or never will.
  void SettleAnswer(Exchange& exchange, bool broken_off);
  Result Receive(http::H2Side from, io::Bytes bytes, const Output& out);
  Result ResultOf() const;

  Http1Context& context_;
  ExchangeHandler& handler_;
  RequestTracer tracer_;
  RequestGate* gate_;
  http::H2Relay relay_;
  std::unordered_map<std::uint32_t, Exchange> open_;  // by stream
  std::size_t text_bytes_ = 0;                        // of those in open_
  base::MonotonicTime head_began_{};
  std::uint32_t request_count_ = 0;
  std::size_t unanswered_ = 0;
  bool keep_query_values_;
  bool broken_off_ = false;  // a stream was, since none was unanswered
  bool upstream_ended_ = false;
  bool downstream_ended_first_ = false;
};

}  // namespace weir::proxy
