#include "agent/proxy/worker.h"

#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>

#include <cstddef>
#include <utility>

#include "agent/base/check.h"
#include "agent/io/event_loop.h"
#include "agent/proxy/acceptor.h"
#include "agent/proxy/context.h"
#include "agent/proxy/snapshot_scan.h"
#include "agent/proxy/witness.h"

namespace weir::proxy {

using observe::Reason;

// Core is what belongs to the worker's thread.
class Worker::Core final : private io::EventHandler {
 public:
  Core(const WorkerOptions& options, std::unique_ptr<io::EventLoop> loop,
       base::Mailbox<Command>& mailbox, WorkerStats& stats)
      : loop_(std::move(loop)),
        mailbox_(mailbox),
        context_(options, *loop_, stats),
        acceptor_(context_),
        scan_(*loop_, context_.sessions),
        grace_(*loop_, [this] { EndDrain(); }) {
    loop_->ObserveTurns([&stats](base::Nanoseconds turn) { stats.turns.Add(turn); });
  }
  ~Core() = default;

  base::Result<void> Watch() {
    auto watch = loop_->Add(mailbox_.event_fd(), EPOLLIN, *this);
    if (!watch) {
      return std::unexpected(watch.error());
    }
    watch_ = std::move(*watch);
    return {};
  }
  void Run() {
    loop_->Run();
    acceptor_.RemoveAll();
    AbortAll(Reason::kDraining);
    loop_->RunOnce(base::Nanoseconds(0));  // the end of the turn makes records and frees
  }
  [[nodiscard]] bool draining() const { return drain_began_.load(std::memory_order_acquire); }

 private:
  void OnEvents(std::uint32_t events) noexcept override {
    (void)events;
    for (Command& command : mailbox_.Drain()) {
      std::visit([this](auto& value) { Do(value); }, command);
    }
  }

  void Do(InstallSnapshot& command) {
    context_.stats.snapshots.Add();
    context_.snapshot = std::move(command.snapshot);
    const model::Limits& limits = context_.snapshot->limits();
    context_.tunnel_context.limits = TunnelLimits::From(limits);
    context_.window_budget.set_limit_bytes(limits.buffer_budget_bytes /
                                           context_.options.worker_count);
    scan_.Begin();
  }
  void Do(AddListeners& command) {
    if (!context_.draining) {
      acceptor_.Add(std::move(command.listeners));
    }
  }
  void Do(RemoveWorkload& command) {
    const model::LocalId id = command.id;
    acceptor_.Remove(id);
    context_.credentials.erase(id);
    context_.sessions.ForEach([id](Session& session) {
      if (session.Involves(id)) {
        session.Abort(Reason::kNamespaceGone);
      }
    });
    context_.tunnels->CloseSource(id);
    context_.witnesses->Forget(id);
  }
  void Do(InstallCredential& command) {
    if (command.credential == nullptr) {
      context_.credentials.erase(command.id);
    } else {
      context_.credentials[command.id] = std::move(command.credential);
    }
  }
  void Do(WitnessArrived& command) { context_.witnesses->Arrived(command.accepted); }
  void Do(Drain& command) {
    context_.draining = true;
    acceptor_.RemoveAll();
    context_.tunnels->Drain();
    context_.sessions.ForEach([](Session& session) { session.OnDrain(); });
    grace_.Arm(command.grace);
    drain_began_.store(true, std::memory_order_release);
  }
  void Do(Stop&) { loop_->Stop(); }

  void EndDrain() {
    context_.sessions.ForEach([](Session& session) { session.OnDrainEnd(); });
  }
  void AbortAll(Reason reason) {
    context_.sessions.ForEach([reason](Session& session) { session.Abort(reason); });
  }

  std::unique_ptr<io::EventLoop> loop_;
  base::Mailbox<Command>& mailbox_;
  WorkerContext context_;
  Acceptor acceptor_;
  SnapshotScan scan_;
  io::Timer grace_;
  io::Watch watch_;
  std::atomic<bool> drain_began_{false};
};

Worker::Worker(base::Mailbox<Command> mailbox, std::unique_ptr<WorkerStats> stats)
    : mailbox_(std::move(mailbox)), stats_(std::move(stats)) {}

base::Result<std::unique_ptr<Worker>> Worker::Create(const WorkerOptions& options) {
  auto mailbox = base::Mailbox<Command>::Create();
  if (!mailbox) {
    return std::unexpected(mailbox.error());
  }
  auto loop = io::EventLoop::Create(options.clock);
  if (!loop) {
    return std::unexpected(loop.error());
  }
  std::unique_ptr<Worker> worker(new Worker(std::move(*mailbox), std::make_unique<WorkerStats>()));
  worker->core_ =
      std::make_unique<Core>(options, std::move(*loop), worker->mailbox_, *worker->stats_);
  if (auto watched = worker->core_->Watch(); !watched) {
    return std::unexpected(watched.error());
  }
  return worker;
}

Worker::~Worker() {
  if (thread_.joinable()) {
    Post(Stop{});
    Join();
  }
}

base::Result<void> Worker::Start(int cpu) {
  WEIR_CHECK(!thread_.joinable());
  thread_ = std::thread([this] { core_->Run(); });
  (void)::pthread_setname_np(thread_.native_handle(), "weir-worker");  // for people only
  if (cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<std::size_t>(cpu), &set);
    (void)::pthread_setaffinity_np(thread_.native_handle(), sizeof(set), &set);
  }
  return {};
}

void Worker::Post(Command command) {
  mailbox_.Post(std::move(command));
}

bool Worker::drained() const {
  return core_->draining() && stats_->open_sessions.value() == 0;
}

void Worker::Join() {
  if (thread_.joinable()) {
    thread_.join();
  }
}

}  // namespace weir::proxy
