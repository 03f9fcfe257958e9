#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <variant>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/base/mailbox.h"
#include "agent/model/snapshot.h"
#include "agent/observe/record.h"
#include "agent/proxy/stats.h"
#include "agent/seam/causality.h"
#include "agent/seam/interception.h"
#include "agent/tls/workload_tls.h"

namespace weir::proxy {

// What a worker is told. Values are handed over whole; order per sender is kept.
struct InstallSnapshot {
  model::SnapshotPtr snapshot;
};
struct AddListeners {
  std::vector<seam::Listener> listeners;
};
// The workload is gone: its listeners, sessions, tunnels and credential are closed at once.
struct RemoveWorkload {
  model::LocalId id = model::LocalId::kNone;
};
// A null credential takes the present one away.
struct InstallCredential {
  model::LocalId id = model::LocalId::kNone;
  std::shared_ptr<const tls::WorkloadTls> credential;
};
// A witness connection of this worker arrived at the hook of its destination; sent by the
// worker that accepted it. `accepted` is as the accepting side sees it.
struct WitnessArrived {
  base::ConnectionTuple accepted;
};
// Takes no new connection; closes those that are between two requests, and at the end of
// `grace` all that are left.
struct Drain {
  base::Nanoseconds grace{0};
};
struct Stop {};

using Command = std::variant<InstallSnapshot, AddListeners, RemoveWorkload, InstallCredential,
                             WitnessArrived, Drain, Stop>;

// What workers are made of; all references must outlive them.
struct WorkerOptions {
  std::uint32_t index = 0;
  std::uint32_t worker_count = 1;
  seam::SocketFactory& sockets;
  seam::Redirections& redirections;
  seam::Causality* causality = nullptr;  // null: parents come from headers only
  observe::RecordSink& records;
  const base::Clock& clock = base::SystemClock();
  bool keep_query_values = false;
  // Hands a command to another worker of the same agent, by index. Any thread.
  std::function<void(std::uint32_t worker, Command command)> post_to_worker;
};

// Worker is one thread with one event loop that owns its listeners' connections, tunnels,
// credentials and counters. It is told what to do by commands, and tells the world by
// records and figures.
class Worker {
 public:
  static base::Result<std::unique_ptr<Worker>> Create(const WorkerOptions& options);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker();  // stops and joins

  // Starts the thread. `cpu` >= 0 pins it there (a failure to pin is ignored: it is a
  // matter of speed only).
  base::Result<void> Start(int cpu);
  // Any thread.
  void Post(Command command);
  [[nodiscard]] const WorkerStats& stats() const { return *stats_; }
  // Whether a Drain has ended: no session is left. Any thread.
  [[nodiscard]] bool drained() const;
  // Waits for the thread to end after a Stop.
  void Join();

 private:
  class Core;
  Worker(base::Mailbox<Command> mailbox, std::unique_ptr<WorkerStats> stats);

  base::Mailbox<Command> mailbox_;
  std::unique_ptr<WorkerStats> stats_;
  std::unique_ptr<Core> core_;
  std::thread thread_;
};

// WorkerSet is all workers of one agent.
class WorkerSet {
 public:
  // Makes `count` workers; `options.index`, worker_count and post_to_worker are set here.
  static base::Result<std::unique_ptr<WorkerSet>> Create(WorkerOptions options,
                                                         std::uint32_t count);
  WorkerSet(const WorkerSet&) = delete;
  WorkerSet& operator=(const WorkerSet&) = delete;
  ~WorkerSet();

  // Starts all threads, each pinned to a CPU that this process may use if `pin`.
  base::Result<void> Start(bool pin);
  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(workers_.size()); }
  [[nodiscard]] Worker& at(std::uint32_t index) { return *workers_[index]; }
  // The same for every worker. Any thread.
  void InstallSnapshot(const model::SnapshotPtr& snapshot);
  void InstallCredential(model::LocalId id, const std::shared_ptr<const tls::WorkloadTls>& tls);
  void RemoveWorkload(model::LocalId id);
  void Drain(base::Nanoseconds grace);
  [[nodiscard]] bool drained() const;
  // Stops and joins all.
  void Stop();
  // Any thread.
  [[nodiscard]] std::vector<observe::MetricFamily> Metrics() const;
  [[nodiscard]] std::uint64_t open_sessions() const;

 private:
  WorkerSet() = default;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace weir::proxy
