#include "agent/proxy/http1_relay.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "agent/base/clock.h"
#include "agent/http/http1_parser.h"
#include "agent/http/trace_headers.h"
#include "agent/io/byte_buffer.h"
#include "agent/observe/finish.h"
#include "agent/observe/record.h"
#include "agent/proxy/describe_request.h"
#include "agent/proxy/inferred_parent.h"
#include "agent/proxy/request_trace.h"
#include "agent/proxy/text.h"

namespace weir::proxy {
namespace {

using http::Http1Error;
using http::Progress;
using observe::Reason;

constexpr std::uint16_t kForbiddenStatus = 403;

Reason ReasonFor(std::uint16_t status) {
  switch (status) {
    case 403:
      return Reason::kPolicyDenied;
    case 408:
      return Reason::kHeaderTimeout;
    case 414:
      return Reason::kUriTooLong;
    case 431:
      return Reason::kHeadersTooLarge;
    default:
      return Reason::kBadRequest;
  }
}

std::string_view StatusText(std::uint16_t status) {
  switch (status) {
    case 403:
      return "403 Forbidden";
    case 408:
      return "408 Request Timeout";
    case 414:
      return "414 URI Too Long";
    case 431:
      return "431 Request Header Fields Too Large";
    case 502:
      return "502 Bad Gateway";
    default:
      return "400 Bad Request";
  }
}

// The whole answer of the relay itself; the connection is closed behind it.
void AppendAnswer(std::uint16_t status, std::string_view detail, bool with_body,
                  io::ByteBuffer& out) {
  std::string body = "weir: ";
  body += detail;
  body += '\n';
  std::string answer = "HTTP/1.1 ";
  answer += StatusText(status);
  answer += "\r\nContent-Type: text/plain\r\nContent-Length: ";
  answer += std::to_string(body.size());
  answer += "\r\nConnection: close\r\n\r\n";
  if (with_body) {
    answer += body;
  }
  AppendText(answer, out);
}

void Describe(const http::RequestHead& head, bool keep_query_values,
              observe::HttpExchange& exchange) {
  DescribeRequest({.method = head.method,
                   .host = head.host,
                   .path = head.path,
                   .query = head.query,
                   .user_agent = head.user_agent},
                  keep_query_values, exchange);
  exchange.version_minor = head.version_minor;
}

// name ": " value CRLF
void AppendHeader(const http::HeaderView& header, io::ByteBuffer& out) {
  AppendText(header.name, out);
  AppendText(": ", out);
  AppendText(header.value, out);
  AppendText("\r\n", out);
}

void Release(io::ByteBuffer& buffer) {
  buffer.Clear();
  buffer.Trim();
}

}  // namespace

void Http1Relay::Run::Flush(io::ByteBuffer& out) {
  AppendText(pending(), out);
  begin = next;
}

Http1Relay::Http1Relay(Http1Context& context, const Http1Options& options, ExchangeHandler& handler)
    : context_(context),
      handler_(handler),
      limits_(options.limits),
      h2_limits_(options.h2_limits),
      tracer_(options.trace),
      gate_(options.gate),
      max_open_requests_(options.max_open_requests),
      keep_query_values_(options.keep_query_values) {}

bool Http1Relay::blocked() const {
  return upgrade_pending_ || open_.size() >= max_open_requests_;
}

bool Http1Relay::wants_downstream() const {
  return downstream_ == Part::kBody || (downstream_ == Part::kHead && !upgrade_pending_ &&
                                        held_.empty() && open_.size() < kMaxOpenRequests);
}

// A head that comes whole is used where it lies; only one that comes in parts is gathered.
Http1Relay::Head Http1Relay::TakeHead(http::HeadScanner& scanner, io::ByteBuffer& gathered,
                                      std::string_view rest) const {
  const std::size_t before = gathered.size();
  if (before > 0) {
    gathered.Append(AsBytes(rest));
  }
  const std::string_view bytes = before > 0 ? AsText(gathered.Readable()) : rest;
  Head head{.progress = scanner.Scan(bytes, limits_), .bytes = {}, .in_input = before == 0};
  switch (head.progress) {
    case Progress::kNeedMore:
      if (before == 0) {
        gathered.Append(AsBytes(rest));
      }
      break;
    case Progress::kComplete:
      head.bytes = bytes.substr(0, scanner.size());
      head.from_input = scanner.size() - before;
      scanner.Reset();
      break;
    case Progress::kError:
      break;
  }
  return head;
}

// ---- requests ----

io::Bytes Http1Relay::ProcessDownstream(std::string_view input, const Output& out) {
  Run run{.input = input};
  bool more = true;
  while (more && run.next < input.size()) {
    if (downstream_ == Part::kBody) {
      more = TakeRequestBody(run);
    } else if (downstream_ == Part::kHead && !blocked()) {
      more = TakeRequestHead(run, out);
    } else {
      if (downstream_ == Part::kHead) {
        held_.Append(AsBytes(run.rest()));
      }
      more = false;
    }
  }
  return AsBytes(run.pending());
}

Http1Relay::Exchange& Http1Relay::OpenExchange() {
  Exchange& exchange = open_.emplace_back();
  exchange.start = head_begin_;
  exchange.result.timing.start = head_begin_wall_;
  exchange.result.http.request_index = request_count_++;
  return exchange;
}

bool Http1Relay::TakeRequestHead(Run& run, const Output& out) {
  if (request_head_.empty()) {
    head_begin_ = context_.clock.Now();
    head_begin_wall_ = context_.clock.WallNow();
  }
  const Head head = TakeHead(request_scanner_, request_head_, run.rest());
  if (head.progress == Progress::kNeedMore) {
    return false;
  }
  Exchange& exchange = OpenExchange();
  const http::RequestHead& request = context_.request;
  Http1Error error = request_scanner_.error();
  if (head.progress == Progress::kComplete) {
    error = http::ParseRequestHead(head.bytes, context_.request);
    Describe(request, keep_query_values_, exchange.result.http);
    exchange.kind = {.is_head = request.is_head,
                     .is_connect = request.is_connect,
                     .wants_upgrade = request.wants_upgrade};
  }
  if (error != Http1Error::kNone) {
    FailRequest(exchange, http::StatusFor(error), http::ToString(error));
    return false;
  }
  tracer_.Begin(context_.notes);
  for (const http::Field& field : request.fields) {
    (void)tracer_.Note(field.name, field.value, context_.notes);  // asked again when it is sent on
  }
  tracer_.Start(context_.notes, context_.ids, exchange.result);
  SettleTrace(exchange);
  if (!Admits(exchange.result)) {
    FailRequest(exchange, kForbiddenStatus, "forbidden by policy");
    return false;
  }
  handler_.OnRequestStart(exchange.result, open_.size());
  PassRequestHead(head, exchange, run, out);
  upgrade_pending_ = exchange.kind.is_connect || exchange.kind.wants_upgrade;
  request_body_ = http::BodyReader(request.framing);
  Release(request_head_);
  if (request_body_.complete()) {
    EndRequest();
  } else {
    downstream_ = Part::kBody;
  }
  return true;
}

// Behind the headers: what the kernel knows of a request that brought none.
void Http1Relay::SettleTrace(Exchange& exchange) {
  if (tracer_.rewrites() && exchange.result.parent_source == observe::ParentSource::kNone) {
    if (const auto hint = handler_.TakeParentHint()) {
      AdoptParent(*hint, exchange.result);
    }
  }
}

bool Http1Relay::Admits(observe::ExchangeResult& exchange) const {
  const http::RequestHead& request = context_.request;
  return gate_ == nullptr ||
         gate_->AdmitsRequest(
             {.method = request.method, .host = request.host, .path = request.path}, exchange);
}

void Http1Relay::PassRequestHead(const Head& head, Exchange& exchange, Run& run,
                                 const Output& out) {
  constexpr std::string_view kEmptyLine = "\r\n";
  std::uint64_t& sent = exchange.result.bytes_sent;
  const std::optional<http::H2cOffer> offer = http::ReadH2cOffer(context_.request, h2_limits_);
  if (!tracer_.rewrites() && !offer) {
    sent += head.bytes.size();
    if (head.in_input) {
      run.next += head.from_input;
    } else {
      AppendText(head.bytes, out.to_upstream);
      run.Skip(head.from_input);
    }
    return;
  }
  run.Flush(out.to_upstream);
  const std::size_t before = out.to_upstream.size();
  AppendRequestHead(head.bytes.substr(0, head.bytes.size() - kEmptyLine.size()), offer,
                    exchange.result, out.to_upstream);
  if (offer) {
    exchange.offers_h2c = offer->notes;
  }
  sent += out.to_upstream.size() - before + kEmptyLine.size();
  run.Skip(head.from_input);
  if (head.in_input) {
    run.begin -= kEmptyLine.size();  // goes out with the body behind it
  } else {
    AppendText(kEmptyLine, out.to_upstream);
  }
}

// The head without its last, empty line, and with the fields that are the relay's.
void Http1Relay::AppendRequestHead(std::string_view head,
                                   const std::optional<http::H2cOffer>& offer,
                                   const observe::ExchangeResult& exchange,
                                   io::ByteBuffer& out) const {
  const char* kept = head.data();
  const auto keep_until = [&](const char* end) {
    AppendText({kept, static_cast<std::size_t>(end - kept)}, out);
  };
  for (const http::Field& field : context_.request.fields) {
    const bool is_trace =
        tracer_.rewrites() && http::IdentifyTraceHeader(field.name) != http::TraceHeader::kNone;
    const bool is_settings = offer && offer->settings == &field;
    if (is_trace || is_settings) {
      keep_until(field.line.data());
      kept = field.line.data() + field.line.size();
    }
    if (is_settings) {
      AppendHeader({.name = field.name, .value = offer->value}, out);
    }
  }
  keep_until(head.data() + head.size());
  if (tracer_.rewrites()) {
    const http::OutgoingTraceHeaders headers = RequestTracer::HeadersOf(exchange);
    for (const http::HeaderView& header : headers.all()) {
      AppendHeader(header, out);
    }
  }
}

bool Http1Relay::TakeRequestBody(Run& run) {
  Exchange& exchange = open_.back();
  const http::BodyReader::Step step = request_body_.Read(run.rest(), limits_);
  run.next += step.consumed;
  exchange.result.bytes_sent += step.consumed;
  switch (step.progress) {
    case Progress::kNeedMore:
      break;
    case Progress::kComplete:
      EndRequest();
      break;
    case Progress::kError:
      FailRequest(exchange, http::StatusFor(request_body_.error()),
                  http::ToString(request_body_.error()));
      return false;
  }
  return true;
}

void Http1Relay::EndRequest() {
  downstream_ = Part::kHead;
  open_.back().request_done = true;
  if (open_.back().response_done) {
    // Answered early: nothing before it can be open.
    ReportFront();
  }
}

// Nothing more is read. The answer waits until those before it were given.
void Http1Relay::FailRequest(Exchange& exchange, std::uint16_t status, std::string_view detail) {
  exchange.local_status = status;
  exchange.local_detail = detail;
  exchange.request_done = true;
  exchange.result.reason = ReasonFor(status);
  downstream_ = Part::kFailed;
  request_scanner_.Reset();
  Release(request_head_);
}

Http1Relay::Result Http1Relay::OnDownstreamBytes(io::Bytes bytes, const Output& out) {
  Result result;
  result.direct = ProcessDownstream(AsText(bytes), out);
  AnswerIfFailed(out, result);
  return result;
}

Http1Relay::Result Http1Relay::OnDownstreamEnd(const Output& out) {
  // Half a head was never passed on and never will be.
  request_scanner_.Reset();
  Release(request_head_);
  Release(held_);
  Result result;
  AnswerIfFailed(out, result);
  return result;
}

Http1Relay::Result Http1Relay::OnHeaderTimeout(const Output& out) {
  Result result;
  if (waiting_for_headers()) {
    FailRequest(OpenExchange(), 408, "the request's head took too long");
    AnswerIfFailed(out, result);
  }
  return result;
}

// ---- responses ----

Http1Relay::Result Http1Relay::OnUpstreamBytes(io::Bytes bytes, const Output& out) {
  Result result;
  Run run{.input = AsText(bytes)};
  bool more = true;
  while (more && run.next < run.input.size()) {
    more = upstream_ == Part::kBody ? TakeResponseBody(run, out, result)
                                    : TakeResponseHead(run, out, result);
  }
  if (result.action == Action::kContinue) {
    ResumeDownstream(out);
    if (!open_.empty() && open_.front().local_status != 0) {
      run.Flush(out.to_downstream);
    }
    AnswerIfFailed(out, result);
  }
  result.direct = AsBytes(run.pending());
  return result;
}

bool Http1Relay::TakeResponseHead(Run& run, const Output& out, Result& result) {
  if (open_.empty() || open_.front().response_done) {
    // RFC 9112 section 9.2: what answers no request is no response.
    result.action = Action::kClose;
    result.reason = Reason::kBadResponse;
    return false;
  }
  Exchange& exchange = open_.front();
  if (exchange.result.timing.first_byte < base::Nanoseconds(0)) {
    exchange.result.timing.first_byte = context_.clock.Now() - exchange.start;
  }
  const Head head = TakeHead(response_scanner_, response_head_, run.rest());
  if (head.progress == Progress::kNeedMore) {
    return false;
  }
  Http1Error error = response_scanner_.error();
  if (head.progress == Progress::kComplete) {
    error = http::ParseResponseHead(head.bytes, exchange.kind, context_.response);
  }
  if (error != Http1Error::kNone) {
    FailResponse(error, run, out, result);
    return false;
  }
  exchange.result.bytes_received += head.bytes.size();
  if (head.in_input) {
    run.next += head.from_input;
  } else {
    AppendText(head.bytes, out.to_downstream);
    run.Skip(head.from_input);
  }
  Release(response_head_);
  const http::ResponseHead& response = context_.response;
  if (response.is_interim) {
    return true;
  }
  exchange.result.http.status = response.status;
  exchange.response_started = true;
  if (response.switches_protocol) {
    SwitchProtocol(run, out, result);
    return false;
  }
  if (exchange.kind.is_connect || exchange.kind.wants_upgrade) {
    upgrade_pending_ = false;
  }
  response_body_ = http::BodyReader(response.framing);
  upstream_ = Part::kBody;
  if (response_body_.complete()) {
    EndResponse();
  }
  return true;
}

bool Http1Relay::TakeResponseBody(Run& run, const Output& out, Result& result) {
  const http::BodyReader::Step step = response_body_.Read(run.rest(), limits_);
  run.next += step.consumed;
  open_.front().result.bytes_received += step.consumed;
  switch (step.progress) {
    case Progress::kNeedMore:
      break;
    case Progress::kComplete:
      EndResponse();
      break;
    case Progress::kError:
      FailResponse(response_body_.error(), run, out, result);
      return false;
  }
  return true;
}

// RFC 9112 section 6.3: a gateway answers 502 in place of a response that it cannot read.
void Http1Relay::FailResponse(Http1Error error, Run& run, const Output& out, Result& result) {
  run.Flush(out.to_downstream);
  Exchange& exchange = open_.front();
  exchange.result.reason = Reason::kBadResponse;
  result.reason = Reason::kBadResponse;
  result.action = Action::kReset;
  if (!exchange.response_started) {
    result.action = Action::kClose;
    exchange.result.http.status = 502;
    AppendAnswer(502, http::ToString(error), !exchange.kind.is_head, out.to_downstream);
  }
  ReportFront();
}

void Http1Relay::SwitchProtocol(Run& run, const Output& out, Result& result) {
  upgrade_pending_ = false;
  const Exchange& exchange = open_.front();
  // While the request's body is still to come the bytes behind it cannot be told apart.
  if (exchange.offers_h2c && exchange.request_done && http::AcceptsH2c(context_.response)) {
    result.action = Action::kHttp2;
    result.rest = AsBytes(run.rest());
    return;
  }
  result.action = Action::kOpaque;
  run.next = run.input.size();
  out.to_upstream.Append(held_.Readable());
  Release(held_);
  ReportFront();
}

Http1Upgrade Http1Relay::TakeUpgrade() {
  Exchange& exchange = open_.front();
  Http1Upgrade upgrade{.exchange = std::move(exchange.result),
                       .start = exchange.start,
                       .settings = *exchange.offers_h2c,
                       .held = std::exchange(held_, io::ByteBuffer())};
  upgrade.exchange.http.status = 0;  // the answer is still to come
  open_.pop_front();
  return upgrade;
}

void Http1Relay::EndResponse() {
  Exchange& exchange = open_.front();
  upstream_ = Part::kHead;
  exchange.response_done = true;
  exchange.result.timing.total = context_.clock.Now() - exchange.start;
  if (exchange.request_done) {
    ReportFront();
  }
}

void Http1Relay::ResumeDownstream(const Output& out) {
  if (held_.empty() || blocked()) {
    return;
  }
  const io::ByteBuffer held = std::exchange(held_, io::ByteBuffer());
  out.to_upstream.Append(ProcessDownstream(AsText(held.Readable()), out));
}

Http1Relay::Result Http1Relay::OnUpstreamEnd(const Output& out) {
  Result result;
  upstream_ended_ = true;
  // Half a head is passed on as it is: the downstream sees what the upstream sent.
  out.to_downstream.Append(response_head_.Readable());
  Release(response_head_);
  if (upstream_ == Part::kBody && response_body_.ends_with_connection()) {
    EndResponse();
  }
  AnswerIfFailed(out, result);
  if (downstream_ == Part::kFailed && result.action == Action::kContinue) {
    // Those before the bad request will not be answered, so neither is that.
    result.action = Action::kClose;
    result.reason = open_.empty() ? Reason::kUpstreamReset : open_.back().result.reason;
  }
  return result;
}

// ---- ends ----

// Answers a request that failed here, once it is the oldest open one.
void Http1Relay::AnswerIfFailed(const Output& out, Result& result) {
  if (open_.empty() || open_.front().local_status == 0) {
    return;
  }
  Exchange& exchange = open_.front();
  result.reason = exchange.result.reason;
  result.action = Action::kReset;
  if (!exchange.response_started) {
    result.action = Action::kClose;
    exchange.result.http.status = exchange.local_status;
    AppendAnswer(exchange.local_status, exchange.local_detail, !exchange.kind.is_head,
                 out.to_downstream);
  }
  ReportFront();
}

void Http1Relay::ReportFront() {
  Exchange& exchange = open_.front();
  if (!exchange.response_done) {
    exchange.result.timing.total = context_.clock.Now() - exchange.start;
  }
  handler_.OnExchange(std::move(exchange.result));
  open_.pop_front();
}

void Http1Relay::Finish(Reason reason) {
  while (!open_.empty()) {
    Exchange& exchange = open_.front();
    Reason& ended = exchange.result.reason;
    if (!exchange.response_done && ended == Reason::kNone) {
      const bool by_upstream = exchange.request_done && upstream_ended_;
      const Reason inferred = by_upstream ? Reason::kUpstreamReset : Reason::kDownstreamReset;
      ended = reason != Reason::kNone ? reason : inferred;
    }
    ReportFront();
  }
}

}  // namespace weir::proxy
