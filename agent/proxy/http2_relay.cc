#include "agent/proxy/http2_relay.h"

#include <algorithm>
#include <string>
#include <utility>

#include "agent/http/trace_headers.h"
#include "agent/proxy/buffer_sink.h"
#include "agent/proxy/describe_request.h"

namespace weir::proxy {
namespace {

using http::H2Side;
using observe::Reason;

// Output of the session as the codec wants it, for one call.
struct Sinks {
  explicit Sinks(const HttpRelay::Output& out)
      : upstream(out.to_upstream), downstream(out.to_downstream) {}
  BufferSink upstream;
  BufferSink downstream;
  http::H2Relay::Output output{.to_server = upstream, .to_client = downstream};
};

std::size_t TextBytes(const observe::ExchangeResult& exchange) {
  const observe::HttpExchange& http = exchange.http;
  return http.method.size() + http.host.size() + http.path.size() + http.query_keys.size() +
         http.user_agent.size() + exchange.trace_state.size();
}

Reason ReasonOf(const http::H2StreamEnd& end) {
  switch (end.by) {
    case http::H2StreamEnd::By::kBothSides:
      return Reason::kNone;
    case http::H2StreamEnd::By::kClient:
      return Reason::kDownstreamReset;
    case http::H2StreamEnd::By::kServer:
      return Reason::kUpstreamReset;
    case http::H2StreamEnd::By::kRelay:
      return Reason::kBadResponse;
  }
  return Reason::kInternal;
}

// How http::H2Relay answers a request that may not be made.
void NoteDenial(observe::HttpExchange& http) {
  http.status = http.is_grpc ? 200 : http::kH2ForbiddenStatus;
  http.grpc_status = http.is_grpc ? http::kGrpcPermissionDenied : std::int16_t{-1};
}

void NoteGrpcStatus(std::string_view value, observe::HttpExchange& http) {
  if (const auto code = http::ParseGrpcStatus(value); code && http.is_grpc) {
    http.grpc_status = static_cast<std::int16_t>(*code);
  }
}

}  // namespace

Http2Relay::Http2Relay(Http1Context& context, const Http2Options& options, ExchangeHandler& handler)
    : context_(context),
      handler_(handler),
      tracer_(options.trace),
      gate_(options.gate),
      relay_(options.limits, context.h2_scratch, *this),
      head_began_(context.clock.Now()),
      keep_query_values_(options.keep_query_values) {}

void Http2Relay::BeginUpgraded(Http1Upgrade&& upgrade) {
  constexpr std::uint32_t kUpgradedStream = 1;
  Exchange& exchange = open_[kUpgradedStream];
  exchange.result = std::move(upgrade.exchange);
  exchange.result.http.version_major = 2;
  exchange.result.http.version_minor = 0;
  exchange.start = upgrade.start;
  ++unanswered_;
  exchange.text_bytes = TextBytes(exchange.result);
  text_bytes_ += exchange.text_bytes;
  request_count_ = exchange.result.http.request_index + 1;
  relay_.BeginUpgraded(upgrade.settings);
}

HttpRelay::Result Http2Relay::Receive(H2Side from, io::Bytes bytes, const Output& out) {
  const Sinks sinks(out);
  const bool waited = relay_.waiting_for_headers();
  const base::MonotonicTime now = context_.clock.Now();
  const io::Bytes direct = relay_.Receive(from, bytes, now, sinks.output);
  if (!waited && relay_.waiting_for_headers()) {
    head_began_ = now;
  }
  Result result = ResultOf();
  result.direct = direct;
  return result;
}

HttpRelay::Result Http2Relay::ResultOf() const {
  Result result;
  if (relay_.closed()) {
    result.action = Action::kClose;
    result.reason = relay_.violation() == http::H2Violation::kSlowHeaders ? Reason::kHeaderTimeout
                                                                          : Reason::kHttp2Protocol;
  }
  return result;
}

HttpRelay::Result Http2Relay::OnDownstreamBytes(io::Bytes bytes, const Output& out) {
  return Receive(H2Side::kClient, bytes, out);
}

HttpRelay::Result Http2Relay::OnUpstreamBytes(io::Bytes bytes, const Output& out) {
  return Receive(H2Side::kServer, bytes, out);
}

HttpRelay::Result Http2Relay::OnDownstreamEnd(const Output& /*out*/) {
  downstream_ended_first_ = !upstream_ended_;
  return {};
}

HttpRelay::Result Http2Relay::OnUpstreamEnd(const Output& /*out*/) {
  upstream_ended_ = true;
  return {};
}

HttpRelay::Result Http2Relay::OnHeaderTimeout(const Output& out) {
  const Sinks sinks(out);
  if (relay_.waiting_for_headers()) {
    relay_.Close(H2Side::kClient, http::H2Error::kEnhanceYourCalm, http::H2Violation::kSlowHeaders,
                 sinks.output);
  }
  return ResultOf();
}

void Http2Relay::OnDrain(const Output& out) {
  const Sinks sinks(out);
  relay_.Drain(sinks.output);
}

// ---- streams ----

Http2Relay::Exchange Http2Relay::Describe(const http::H2RequestHead& head) {
  Exchange exchange;
  exchange.start = context_.clock.Now();
  exchange.result.timing.start = context_.clock.WallNow();
  observe::HttpExchange& http = exchange.result.http;
  http.request_index = request_count_++;
  http.version_major = 2;
  http.version_minor = 0;
  http.is_grpc = http::IsGrpcContentType(head.content_type);
  DescribeRequest({.method = head.method,
                   .host = head.authority,
                   .path = head.path,
                   .query = head.query,
                   .user_agent = head.user_agent},
                  keep_query_values_, http);
  return exchange;
}

http::H2Admission Http2Relay::OnRequest(std::uint32_t id, const http::H2RequestHead& head,
                                        std::vector<http::H2Field>& fields) noexcept {
  if (text_bytes_ >= kMaxOpenTextBytes) {
    return http::H2Admission::kRefuse;
  }
  Exchange& exchange = open_[id];
  exchange = Describe(head);
  Trace(fields, exchange);
  if (!Admits(head, exchange.result)) {
    Exchange denied = std::move(exchange);
    open_.erase(id);
    NoteDenial(denied.result.http);
    Report(denied, Reason::kPolicyDenied);
    return http::H2Admission::kForbid;
  }
  exchange.text_bytes = TextBytes(exchange.result);
  text_bytes_ += exchange.text_bytes;
  ++unanswered_;
  handler_.OnRequestStart(exchange.result, unanswered_);
  return http::H2Admission::kPass;
}

bool Http2Relay::Admits(const http::H2RequestHead& head, observe::ExchangeResult& exchange) const {
  return gate_ == nullptr || gate_->AdmitsRequest({.method = head.method,
                                                   .host = head.authority,
                                                   .path = head.path,
                                                   .is_grpc = exchange.http.is_grpc},
                                                  exchange);
}

// Decides on the request's trace, and puts its headers in the place of those that came.
void Http2Relay::Trace(std::vector<http::H2Field>& fields, Exchange& exchange) {
  RequestNotes& notes = context_.notes;
  tracer_.Begin(notes);
  const bool rewrites = tracer_.rewrites();
  std::erase_if(fields, [&](const http::H2Field& field) {
    return tracer_.Note(field.name, field.value, notes) && rewrites;
  });
  tracer_.Start(notes, context_.ids, exchange.result);
  if (!rewrites) {
    return;
  }
  const http::OutgoingTraceHeaders headers = RequestTracer::HeadersOf(exchange.result);
  context_.h2_added.Clear();
  for (const http::HeaderView& header : headers.all()) {
    context_.h2_added.Add(header.name, header.value);
  }
  for (std::size_t i = 0; i < context_.h2_added.size(); ++i) {
    http::H2Field field = context_.h2_added[i];
    field.never_indexed = true;  // another in each request: it would only fill the table
    fields.push_back(field);
  }
}

void Http2Relay::OnRejected(http::H2Reject why, const http::H2RequestHead& head) noexcept {
  constexpr std::uint16_t kHeadersTooLargeStatus = 431;
  if (why == http::H2Reject::kForbidden) {
    return;  // was reported when it was decided
  }
  Exchange exchange = Describe(head);
  switch (why) {
    case http::H2Reject::kBadRequest:
      Report(exchange, Reason::kBadRequest);
      return;
    case http::H2Reject::kHeadersTooLarge:
      exchange.result.http.status = kHeadersTooLargeStatus;
      Report(exchange, Reason::kHeadersTooLarge);
      return;
    case http::H2Reject::kRefused:
      Report(exchange, Reason::kLimitReached);
      return;
    case http::H2Reject::kBadResponse:
      Report(exchange, Reason::kBadResponse);
      return;
    case http::H2Reject::kForbidden:
      return;
  }
}

void Http2Relay::OnResponse(std::uint32_t id, const http::H2ResponseHead& head) noexcept {
  const auto found = open_.find(id);
  if (found == open_.end()) {
    return;
  }
  Exchange& exchange = found->second;
  if (exchange.result.timing.first_byte < base::Nanoseconds(0)) {
    exchange.result.timing.first_byte = context_.clock.Now() - exchange.start;
  }
  if (!head.is_interim()) {
    SettleAnswer(exchange, /*broken_off=*/false);
    exchange.result.http.status = head.status;
    NoteGrpcStatus(head.grpc_status, exchange.result.http);  // of an answer without a body
  }
}

void Http2Relay::SettleAnswer(Exchange& exchange, bool broken_off) {
  if (std::exchange(exchange.answered, true)) {
    return;
  }
  broken_off_ = broken_off_ || broken_off;
  if (--unanswered_ == 0) {
    handler_.OnAllAnswered(std::exchange(broken_off_, false));
  }
}

void Http2Relay::OnTrailers(std::uint32_t id, const http::H2FieldList& fields) noexcept {
  if (const auto found = open_.find(id); found != open_.end()) {
    NoteGrpcStatus(fields.Find("grpc-status").value_or(""), found->second.result.http);
  }
}

void Http2Relay::OnStreamEnd(std::uint32_t id, const http::H2StreamEnd& end) noexcept {
  const auto found = open_.find(id);
  if (found == open_.end()) {
    return;
  }
  Exchange exchange = std::move(found->second);
  open_.erase(found);
  text_bytes_ -= exchange.text_bytes;
  SettleAnswer(exchange,
               end.by == http::H2StreamEnd::By::kClient || end.by == http::H2StreamEnd::By::kRelay);
  // An upgraded request has sent bytes before.
  exchange.result.bytes_sent += end.bytes_to_server;
  exchange.result.bytes_received += end.bytes_to_client;
  Report(exchange, ReasonOf(end));
}

void Http2Relay::Report(Exchange& exchange, Reason reason) {
  exchange.result.timing.total = context_.clock.Now() - exchange.start;
  exchange.result.reason = reason;
  handler_.OnExchange(std::move(exchange.result));
}

void Http2Relay::Finish(Reason reason) {
  const bool by_upstream = upstream_ended_ && !downstream_ended_first_;
  const Reason inferred = by_upstream ? Reason::kUpstreamReset : Reason::kDownstreamReset;
  for (auto& [id, exchange] : open_) {
    const http::H2StreamEnd end = relay_.StateOf(id);
    exchange.result.bytes_sent += end.bytes_to_server;
    exchange.result.bytes_received += end.bytes_to_client;
    Report(exchange, reason != Reason::kNone ? reason : inferred);
  }
  open_.clear();
  text_bytes_ = 0;
}

}  // namespace weir::proxy
