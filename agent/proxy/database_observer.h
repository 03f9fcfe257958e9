#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "agent/base/clock.h"
#include "agent/database/tap.h"
#include "agent/io/byte_buffer.h"
#include "agent/observe/finish.h"
#include "agent/proxy/http1_relay.h"
#include "agent/proxy/request_trace.h"
#include "agent/proxy/stats.h"

namespace weir::proxy {

// DatabaseObserver reads what a client's database connection says, beside its data path: it is
// given bytes that were passed on, and reports each command that ends to an ExchangeHandler,
// with a trace of its own. When its tap has ended it does nothing more. Worker.
class DatabaseObserver final : private database::CommandHandler {
 public:
  DatabaseObserver(database::System system, Http1Context& context, WorkerStats& stats,
                   const TracerOptions& trace, ExchangeHandler& handler);
  DatabaseObserver(const DatabaseObserver&) = delete;
  DatabaseObserver& operator=(const DatabaseObserver&) = delete;
  ~DatabaseObserver() override = default;

  void OnClientBytes(io::Bytes bytes);
  void OnServerBytes(io::Bytes bytes);
  // One end has sent its last byte.
  void OnEnd(bool of_server) {
    server_ended_first_ = server_ended_first_ || (of_server && !ended_);
    ended_ = true;
  }
  // The connection has ended: commands without an answer are reported, with `reason`.
  void Finish(observe::Reason reason);

  // Why it does nothing more, or kFollowing.
  [[nodiscard]] database::TapEnd end() const { return tap_->end(); }
  [[nodiscard]] observe::Protocol protocol() const { return protocol_; }

 private:
  struct Command {
    observe::ExchangeResult result;
    base::MonotonicTime start;
  };

  void OnCommandStart(bool is_alone) noexcept override;
  void OnCommandEnd(observe::DatabaseCall&& call) noexcept override;
  void OnCommandDrop() noexcept override { open_.pop_front(); }
  void OnCommandsUntraced(std::uint32_t count) noexcept override {
    stats_.database_untraced.Add(count);
  }
  void LookAtEnd();

  Http1Context& context_;
  WorkerStats& stats_;
  ExchangeHandler& handler_;
  RequestTracer tracer_;
  std::unique_ptr<database::Tap> tap_;
  std::deque<Command> open_;  // in the order of the answers
  // Bytes since a command ended; those of several that came together count with the first.
  std::uint64_t bytes_sent_ = 0;
  std::uint64_t bytes_received_ = 0;
  observe::Reason reason_ = observe::Reason::kNone;  // of commands that end now
  observe::Protocol protocol_;
  bool ended_ = false;  // one end has
  bool server_ended_first_ = false;
  bool counted_ = false;  // the tap's end was
};

}  // namespace weir::proxy
