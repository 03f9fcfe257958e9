#include <sched.h>

#include <algorithm>
#include <utility>

#include "agent/proxy/worker.h"

namespace weir::proxy {
namespace {

// The CPUs that this process may use.
std::vector<int> AllowedCpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) {
        cpus.push_back(cpu);
      }
    }
  }
  return cpus;
}

}  // namespace

base::Result<std::unique_ptr<WorkerSet>> WorkerSet::Create(WorkerOptions options,
                                                           std::uint32_t count) {
  std::unique_ptr<WorkerSet> set(new WorkerSet());
  options.worker_count = std::max(count, 1U);
  // The set is complete before any worker runs, and outlives them all.
  options.post_to_worker = [raw = set.get()](std::uint32_t worker, Command command) {
    if (worker < raw->workers_.size()) {
      raw->workers_[worker]->Post(std::move(command));
    }
  };
  for (std::uint32_t i = 0; i < options.worker_count; ++i) {
    options.index = i;
    auto worker = Worker::Create(options);
    if (!worker) {
      return std::unexpected(worker.error());
    }
    set->workers_.push_back(std::move(*worker));
  }
  return set;
}

WorkerSet::~WorkerSet() {
  Stop();
}

base::Result<void> WorkerSet::Start(bool pin) {
  const std::vector<int> cpus = pin ? AllowedCpus() : std::vector<int>{};
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    if (auto started = workers_[i]->Start(cpus.empty() ? -1 : cpus[i % cpus.size()]); !started) {
      return started;
    }
  }
  return {};
}

void WorkerSet::InstallSnapshot(const model::SnapshotPtr& snapshot) {
  for (const auto& worker : workers_) {
    worker->Post(proxy::InstallSnapshot{.snapshot = snapshot});
  }
}

void WorkerSet::InstallCredential(model::LocalId id,
                                  const std::shared_ptr<const tls::WorkloadTls>& tls) {
  for (const auto& worker : workers_) {
    worker->Post(proxy::InstallCredential{.id = id, .credential = tls});
  }
}

void WorkerSet::RemoveWorkload(model::LocalId id) {
  for (const auto& worker : workers_) {
    worker->Post(proxy::RemoveWorkload{.id = id});
  }
}

void WorkerSet::Drain(base::Nanoseconds grace) {
  for (const auto& worker : workers_) {
    worker->Post(proxy::Drain{.grace = grace});
  }
}

bool WorkerSet::drained() const {
  return std::ranges::all_of(workers_, [](const auto& worker) { return worker->drained(); });
}

void WorkerSet::Stop() {
  for (const auto& worker : workers_) {
    worker->Post(proxy::Stop{});
  }
  for (const auto& worker : workers_) {
    worker->Join();
  }
}

std::vector<observe::MetricFamily> WorkerSet::Metrics() const {
  std::vector<const WorkerStats*> stats;
  for (const auto& worker : workers_) {
    stats.push_back(&worker->stats());
  }
  return CollectMetrics(stats);
}

std::uint64_t WorkerSet::open_sessions() const {
  std::uint64_t sum = 0;
  for (const auto& worker : workers_) {
    sum += worker->stats().open_sessions.value();
  }
  return sum;
}

}  // namespace weir::proxy
