#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "agent/base/clock.h"
#include "agent/observe/record.h"

namespace weir::admin {

// One flow and its number. Numbers rise by one; a record that was lost before it got
// here has taken its number with it, so that every reader sees a gap.
struct StoredFlow {
  std::uint64_t sequence = 0;
  std::shared_ptr<const observe::Flow> flow;
};

struct FlowStoreLimits {
  std::size_t max_records = 100'000;
  std::size_t max_bytes = 64ULL << 20U;  // of the records as FlowBytes() counts them
};

// What the store holds now.
struct FlowStoreUsage {
  std::size_t records = 0;
  std::size_t bytes = 0;
  std::uint64_t lost = 0;  // never reached the store
  std::uint64_t overwritten = 0;
  std::optional<base::WallTime> oldest{};
};

// Memory that a stored flow takes, its strings included.
std::size_t FlowBytes(const observe::Flow& flow);

// FlowStore keeps the newest flows of this agent within a number and a size; older ones
// make room. Readers come with a number and are given what is left from there on: a slow
// reader misses the oldest and can tell how many by the numbers, the writer waits for
// nobody but for the copying of at most kMaxReadRecords pointers.
class FlowStore final : public observe::RecordConsumer {
 public:
  static constexpr std::size_t kMaxReadRecords = 512;

  explicit FlowStore(FlowStoreLimits limits = {});

  // Telemetry thread.
  void Consume(const std::vector<observe::Record>& records) noexcept override;

  // Tells of records that were dropped on their way here, for example by a full queue
  // between a worker and the telemetry thread. Any thread.
  void NoteLost(std::uint64_t count);

  // Up to kMaxReadRecords records from number `from` on, oldest first. Any thread.
  [[nodiscard]] std::vector<StoredFlow> ReadFrom(std::uint64_t from) const;
  // Up to kMaxReadRecords records before number `before`, newest first. Any thread.
  [[nodiscard]] std::vector<StoredFlow> ReadBefore(std::uint64_t before) const;
  // The number that the next record gets. Any thread; takes no lock.
  [[nodiscard]] std::uint64_t next_sequence() const {
    return next_sequence_.load(std::memory_order_acquire);
  }
  // The number of the oldest record held, or next_sequence() when there is none.
  [[nodiscard]] std::uint64_t first_sequence() const;

  [[nodiscard]] FlowStoreUsage usage() const;  // any thread
  [[nodiscard]] const FlowStoreLimits& limits() const { return limits_; }

 private:
  struct Entry {
    StoredFlow stored;
    std::size_t bytes = 0;
  };

  const FlowStoreLimits limits_;
  mutable std::mutex mutex_;
  std::deque<Entry> entries_;
  std::size_t bytes_ = 0;
  std::uint64_t lost_ = 0;
  std::uint64_t overwritten_ = 0;
  std::atomic<std::uint64_t> next_sequence_{1};
};

}  // namespace weir::admin
