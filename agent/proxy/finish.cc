// StreamSession: the end step.
#include "agent/observe/finish.h"

#include <utility>

#include "agent/proxy/stream_session.h"

namespace weir::proxy {
namespace {

using observe::Reason;
using observe::Verdict;

// What a connection that ended for `reason` was judged. One that was served and broke
// later keeps the verdict that it was admitted with.
Verdict VerdictOf(Reason reason, bool served, Verdict admitted) {
  if (observe::IsRefusal(reason)) {
    return Verdict::kDeny;
  }
  return served || reason == Reason::kNone ? admitted : Verdict::kError;
}

// `moment`, of the connection, counted from `waited_from` instead; what was over by then did
// not happen to who began to wait there.
base::Nanoseconds Since(base::Nanoseconds waited_from, base::Nanoseconds moment) {
  return moment.count() < 0 || moment < waited_from ? base::Nanoseconds(-1) : moment - waited_from;
}

}  // namespace

void StreamSession::End(Reason reason) {
  if (phase_ == StreamPhase::kDone) {
    return;
  }
  if (phase_ != StreamPhase::kLingering) {
    MakeRecords(reason);
  }
  phase_ = StreamPhase::kDone;
  client_timer_.Cancel();
  upstream_timer_.Cancel();
  context_.sessions.Retire(*this);
}

void StreamSession::MakeRecords(Reason reason) {
  flow_.connection_id = id();
  context_.stats.connections.Add();
  if (relay_ != nullptr) {
    ReadUnserved();
    relay_->Finish(reason);
  }
  if (database_ != nullptr) {
    database_->Finish(reason);
  }
  // Each request has made its own; but of commands the server's side has none.
  const bool has_requests = exchanges_ > 0 && !switched_;
  if (has_requests && database_ == nullptr) {
    return;
  }
  flow_.reason = reason;
  flow_.verdict = VerdictOf(reason, up_open_, flow_.verdict);
  flow_.timing.total = Elapsed();
  if (client_side_ != nullptr && server_side_ != nullptr) {
    context_.Finish({.flow = ServerView(), .span = std::nullopt, .local = server_side_});
  }
  if (has_requests) {
    return;
  }
  context_.stats.Count(reason);
  observe::Record record{.flow = flow_,
                         .span = std::nullopt,
                         .local = client_side_ != nullptr ? client_side_ : server_side_};
  AddConnectionSpan(record);
  context_.Finish(std::move(record));
}

// One for each connection: where it leaves the mesh's client, or where it comes from outside.
void StreamSession::AddConnectionSpan(observe::Record& record) {
  const bool is_client = client_side_ != nullptr;
  const bool wanted = record.local != nullptr && record.local->trace.enabled &&
                      record.local->trace.connections && relay_ == nullptr;
  if (!wanted || (!is_client && flow_.mtls != observe::MtlsState::kOff)) {
    return;
  }
  const model::TraceSettings& trace = record.local->trace;
  const RequestTracer tracer(is_client ? TracerOptions{.client = &trace}
                                       : TracerOptions{.server = &trace});
  observe::ExchangeResult exchange;
  tracer.Begin(context_.http.notes);
  tracer.Start(context_.http.notes, context_.http.ids, exchange);
  observe::AddConnectionSpan(exchange, record);
}

// What was asked for and never reached an upstream is a request that failed all the same.
void StreamSession::ReadUnserved() {
  if (up_open_ || held_.empty()) {
    return;
  }
  (void)relay_->OnDownstreamBytes(held_.Readable(), {context_.to_upstream, context_.to_downstream});
  context_.to_upstream.Clear();
  context_.to_downstream.Clear();
}

// The flow as the workload where the connection arrives sees it.
observe::Flow StreamSession::ServerView() const {
  observe::Flow view = flow_;
  view.direction = observe::Direction::kInbound;
  if (client_side_ != nullptr) {
    view.pid = 0;  // the process that connected is the other side's
    view.comm = {};
  }
  return view;
}

// The first request waited here for the upstream, before the relay saw it.
void StreamSession::AddWait(observe::Timing& timing) const {
  const base::MonotonicTime until = up_open_ ? upstream_opened_ : context_.loop.now();
  if (until <= first_client_byte_) {
    return;
  }
  const base::Nanoseconds waited = until - first_client_byte_;
  timing.start -= waited;
  timing.total += waited;
  if (timing.first_byte.count() >= 0) {
    timing.first_byte += waited;
  }
  const base::Nanoseconds began = first_client_byte_ - start_;
  timing.tunnel_wait = Since(began, flow_.timing.tunnel_wait);
  timing.upstream_connect = Since(began, flow_.timing.upstream_connect);
}

void StreamSession::OnExchange(observe::ExchangeResult&& exchange) noexcept {
  flow_.connection_id = id();
  context_.stats.requests.Add();
  context_.stats.Count(exchange.reason);
  ++exchanges_;
  if (relay_ != nullptr && (exchange.http.request_index == 0 || !up_open_)) {
    AddWait(exchange.timing);
  }
  if (!up_open_) {
    exchange.bytes_sent = 0;
  }
  if (server_side_ != nullptr && exchange.database == nullptr) {
    context_.Finish(observe::FinishRequest(ServerView(), exchange, server_side_));
  }
  if (client_side_ != nullptr) {
    context_.Finish(observe::FinishRequest(flow_, exchange, client_side_));
  }
}

}  // namespace weir::proxy
