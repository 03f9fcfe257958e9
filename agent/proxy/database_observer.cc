#include "agent/proxy/database_observer.h"

#include <utility>

#include "agent/proxy/inferred_parent.h"

namespace weir::proxy {

using database::TapEnd;
using observe::Reason;

DatabaseObserver::DatabaseObserver(database::System system, Http1Context& context,
                                   WorkerStats& stats, const TracerOptions& trace,
                                   ExchangeHandler& handler)
    : context_(context),
      stats_(stats),
      handler_(handler),
      tracer_(trace),
      tap_(database::MakeTap(system, *this)),
      protocol_(database::ProtocolOf(system)) {}

void DatabaseObserver::OnClientBytes(io::Bytes bytes) {
  if (tap_->end() == TapEnd::kFollowing) {
    bytes_sent_ += bytes.size();
    tap_->OnClientBytes(bytes);
    LookAtEnd();
  }
}

void DatabaseObserver::OnServerBytes(io::Bytes bytes) {
  if (tap_->end() != TapEnd::kFollowing) {
    return;
  }
  bytes_received_ += bytes.size();
  if (!open_.empty() && open_.front().result.timing.first_byte.count() < 0) {
    open_.front().result.timing.first_byte = context_.clock.Now() - open_.front().start;
  }
  tap_->OnServerBytes(bytes);
  LookAtEnd();
}

// Commands that a tap cannot follow to their ends have none.
void DatabaseObserver::LookAtEnd() {
  if (tap_->end() == TapEnd::kFollowing || std::exchange(counted_, true)) {
    return;
  }
  stats_.database_ends[static_cast<std::size_t>(tap_->end())].Add();
  std::deque<Command>().swap(open_);
}

void DatabaseObserver::Finish(Reason reason) {
  if (tap_->end() != TapEnd::kFollowing) {
    return;
  }
  const Reason inferred = server_ended_first_ ? Reason::kUpstreamReset : Reason::kDownstreamReset;
  reason_ = reason != Reason::kNone ? reason : inferred;
  tap_->Finish();
}

// What the kernel knows is of the first command that the application wrote behind an answer: of
// one that others wait for theirs beside nobody can say.
void DatabaseObserver::OnCommandStart(bool is_alone) noexcept {
  Command command;
  command.start = context_.clock.Now();
  command.result.timing.start = context_.clock.WallNow();
  tracer_.Begin(context_.notes);
  tracer_.Start(context_.notes, context_.ids, command.result);
  if (is_alone && tracer_.rewrites()) {
    if (const auto hint = handler_.TakeParentHint()) {
      AdoptParent(*hint, command.result);
    }
  }
  open_.push_back(std::move(command));
}

void DatabaseObserver::OnCommandEnd(observe::DatabaseCall&& call) noexcept {
  Command command = std::move(open_.front());
  open_.pop_front();
  observe::ExchangeResult& result = command.result;
  result.timing.total = context_.clock.Now() - command.start;
  if (result.timing.first_byte.count() < 0 && reason_ == Reason::kNone) {
    result.timing.first_byte = result.timing.total;  // came together with what was before it
  }
  result.bytes_sent = std::exchange(bytes_sent_, 0);
  result.bytes_received = std::exchange(bytes_received_, 0);
  // What the server said before it went tells more than that it went.
  result.reason = call.is_error ? Reason::kNone : reason_;
  result.database = std::make_shared<const observe::DatabaseCall>(std::move(call));
  handler_.OnExchange(std::move(result));
}

}  // namespace weir::proxy
