#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/mailbox.h"
#include "agent/base/unique_fd.h"
#include "agent/observe/record.h"

// What becomes of finished records: the way from the workers to the consumers, and the
// consumers. The namespace is `telemetry`, not `export`, which is a keyword.
namespace weir::telemetry {

struct PipelineOptions {
  // Records that wait for the telemetry thread; what does not fit is dropped and counted.
  std::size_t queue_limit_bytes = 32U << 20U;
  // A wake-up takes everything that arrives within this time after the first batch.
  std::chrono::milliseconds wake_interval{5};
};

// Where things of one kind are: generated = delivered + dropped + queued in every copy.
struct PipelineTally {
  std::uint64_t generated = 0;
  std::uint64_t delivered = 0;  // to every consumer
  std::uint64_t dropped = 0;    // the queue was full, or the pipeline had stopped
  std::uint64_t queued = 0;
};

struct PipelineCounters {
  PipelineTally records;
  PipelineTally spans;
  std::size_t queued_bytes = 0;
  std::size_t queue_limit_bytes = 0;
};

// Bytes of memory that `record` holds, its strings included; what queues are bounded by.
std::size_t RecordBytes(const observe::Record& record);

// Pipeline is the RecordSink of all workers and the telemetry thread that feeds the
// consumers. Offer posts a whole batch without a lock, and with a system call only when
// the thread has nothing to do.
class Pipeline final : public observe::RecordSink {
 public:
  static base::Result<std::unique_ptr<Pipeline>> Create(const PipelineOptions& options);
  // Stops, if that was not done.
  ~Pipeline() override;

  // Registers `consumer`, which must outlive the pipeline's thread; in the order of
  // registration. Only before Start.
  void AddConsumer(observe::RecordConsumer& consumer);
  // Starts the telemetry thread; once.
  base::Result<void> Start();
  // Delivers what is queued and ends the thread. What is offered later is dropped and
  // counted. Call it when the workers have ended, and before the exporters are stopped.
  void Stop();

  // Any thread.
  void Offer(std::vector<observe::Record>&& records) noexcept override;
  [[nodiscard]] PipelineCounters counters() const;

 private:
  struct Batch {
    std::vector<observe::Record> records;
    std::size_t bytes = 0;
    std::size_t spans = 0;
  };
  struct Tally {
    std::atomic<std::uint64_t> generated{0};
    std::atomic<std::uint64_t> delivered{0};
    std::atomic<std::uint64_t> dropped{0};
    [[nodiscard]] PipelineTally Read() const;
  };

  Pipeline(const PipelineOptions& options, base::Mailbox<Batch> mailbox, base::UniqueFd stop_fd);
  void Run() noexcept;
  void Deliver() noexcept;

  PipelineOptions options_;
  base::Mailbox<Batch> mailbox_;
  base::UniqueFd stop_fd_;
  std::vector<observe::RecordConsumer*> consumers_;
  std::atomic<std::size_t> queued_bytes_{0};
  std::atomic<bool> closed_{false};
  Tally records_;
  Tally spans_;
  std::thread thread_;
};

}  // namespace weir::telemetry
