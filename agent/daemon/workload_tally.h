#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "agent/observe/record.h"

namespace weir::daemon {

// What has ended for one workload since the agent started.
struct WorkloadFigures {
  std::uint64_t outbound = 0;
  std::uint64_t inbound = 0;
  std::uint64_t refused = 0;  // of both
};

// WorkloadTally counts finished flows by local workload, for `weir status`. Consume on the
// telemetry thread, Figures on any.
class WorkloadTally final : public observe::RecordConsumer {
 public:
  void Consume(const std::vector<observe::Record>& records) noexcept override {
    const std::lock_guard lock(mutex_);
    for (const auto& record : records) {
      if (record.local == nullptr) {
        continue;
      }
      WorkloadFigures& figures = figures_[record.local->id];
      const bool is_outbound = record.flow.direction == observe::Direction::kOutbound;
      ++(is_outbound ? figures.outbound : figures.inbound);
      const auto verdict = record.flow.verdict;
      if (verdict == observe::Verdict::kDeny || verdict == observe::Verdict::kError) {
        ++figures.refused;
      }
    }
  }
  [[nodiscard]] std::map<model::LocalId, WorkloadFigures> Figures() const {
    const std::lock_guard lock(mutex_);
    return figures_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<model::LocalId, WorkloadFigures> figures_;
};

}  // namespace weir::daemon
