#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/export/collector.h"
#include "agent/export/collector_link.h"
#include "agent/model/snapshot.h"

namespace weir::telemetry {

struct ExporterOptions {
  std::size_t queue_limit_bytes = 64U << 20U;  // 5 s of 20,000 spans a second, and more
  std::size_t batch_bytes = 512U << 10U;       // sent when there is so much,
  std::chrono::milliseconds batch_age{1000};   // or when the oldest has waited so long
  std::size_t max_request_bytes = 4U << 20U;   // before compression
  std::chrono::milliseconds backoff_first{500};
  std::chrono::milliseconds backoff_limit{30'000};
  std::chrono::milliseconds retry_after_limit{600'000};  // a longer Retry-After is cut
  std::chrono::milliseconds give_up_after{300'000};      // of retries of one request
};

// Why spans, log records or points of metrics did not reach the collector.
enum class ExportDrop : std::uint8_t {
  kQueueFull,
  kRefused,      // an answer that is not retried
  kRejected,     // partial success: the collector's own count
  kGaveUp,       // retries for longer than give_up_after
  kBadResponse,  // an answer beyond the limit of its size
  kShutdown,     // the agent or the exporter ended before they could be sent
  kNoExporter,   // their backend cannot be followed, or its thread could not be started
};
inline constexpr std::size_t kExportDropCount =
    static_cast<std::size_t>(ExportDrop::kNoExporter) + 1;
std::string_view ToString(ExportDrop reason);

// State of one exporter at one moment: offered = exported + sum of dropped + queued.
struct ExporterStatus {
  std::string name;  // of the backend, see ExporterSet
  Signal signal = Signal::kTraces;
  std::string kind;  // "otlp/http", "otlp/grpc", "zipkin"
  std::string url;
  std::uint64_t offered = 0;
  std::uint64_t exported = 0;
  std::array<std::uint64_t, kExportDropCount> dropped{};  // by ExportDrop
  std::uint64_t queued = 0;                               // items waiting or being sent
  std::size_t queue_bytes = 0;
  std::size_t queue_limit_bytes = 0;
  std::uint64_t requests = 0;  // answered with success
  std::uint64_t failures = 0;  // attempts that were not
  std::uint64_t retries = 0;   // attempts after the first of a request
  bool is_reachable = false;   // the last attempt was answered, with whatever status
  bool is_accepting = false;   // and with success
  std::optional<base::WallTime> last_success{};
  std::optional<base::WallTime> last_failure{};
  std::string last_error;  // of the last failure or partial success; one line

  [[nodiscard]] std::uint64_t dropped_total() const;
};

// Items of one workload: spans, log records or metrics, encoded as fields of OTLP's ScopeSpans,
// ScopeLogs or ScopeMetrics.
struct ExportChunk {
  std::shared_ptr<const model::LocalWorkload> local;  // whose resource they belong to
  std::string items{};
  std::size_t count = 0;  // of spans, log records or points of metrics
  base::MonotonicTime queued_at{};
  [[nodiscard]] std::size_t bytes() const { return sizeof(ExportChunk) + items.size(); }
};

// The chunk of `local` in `chunks` that has room, or a new one. Pure but for the clock.
ExportChunk& ChunkOf(const std::shared_ptr<const model::LocalWorkload>& local,
                     std::size_t batch_bytes, std::vector<ExportChunk>& chunks);

// BatchExporter sends items of one signal to one collector, in the collector's protocol.
// Enqueue puts them into a queue bounded in bytes; a thread of its own sends, so a slow or
// lying collector holds up nobody else. What the protocol's rules say is retried, with
// backoff, jitter and the delay that the collector asks for; nothing else is.
class BatchExporter {
 public:
  BatchExporter(std::string name, const ExporterOptions& options, Collector collector);
  BatchExporter(const BatchExporter&) = delete;
  BatchExporter& operator=(const BatchExporter&) = delete;
  // Stops with what is queued dropped, if Stop was not called.
  ~BatchExporter();

  [[nodiscard]] const std::string& name() const { return name_; }
  // Starts the sending thread; once.
  base::Result<void> Start();
  // Begins to end: what is queued is sent for at most `bound`, the rest dropped and counted.
  // A collector that cannot be reached ends it at once. The first call counts.
  void BeginStop(std::chrono::milliseconds bound);
  // Whether the sending thread has nothing left to do after BeginStop, or its time is over.
  [[nodiscard]] bool IsStopped() const;
  // BeginStop, and waits until it has come to its end.
  void Stop(std::chrono::milliseconds bound);
  // Sends to another collector from now on, also what is queued. Does nothing when it is
  // the same. Any thread.
  void SetCollector(Collector collector);
  // What the queue may hold from now on; what it holds stays. Any thread.
  void SetQueueLimit(std::size_t bytes);

  // Takes chunks, or drops and counts them. Any thread.
  void Enqueue(std::vector<ExportChunk> chunks);
  [[nodiscard]] ExporterStatus status() const;  // any thread

 private:
  struct Request {
    std::vector<ExportChunk> chunks;
    std::size_t count = 0;
    std::size_t bytes = 0;  // of the chunks, as queue_bytes counts them
    std::string body{};     // for the collector of `revision`
    std::uint64_t revision = 0;
  };
  enum class Next : std::uint8_t { kDone, kRetry };
  struct Outcome {
    Next next = Next::kDone;
    bool is_reachable = false;  // the collector answered, so another try may help
    std::chrono::milliseconds retry_after{0};
  };
  using Lock = std::unique_lock<std::mutex>;

  // The sending thread.
  void Run() noexcept;
  [[nodiscard]] bool WaitForWork(Lock& lock);
  [[nodiscard]] Request TakeRequest();
  void Deliver(Request& request);
  Outcome Attempt(Request& request);
  Outcome TakeAnswer(const Request& request, const ExportAnswer& answer);
  // Whether to try again, when the time has come; otherwise the request has been dropped.
  [[nodiscard]] bool WaitForRetry(const Request& request, const Outcome& outcome,
                                  std::chrono::milliseconds delay);
  [[nodiscard]] std::chrono::milliseconds Jittered(std::chrono::milliseconds delay);

  // With the mutex held.
  void NoteFailure(const std::string& message, bool is_reachable);
  void Drop(ExportDrop reason, const Request& request);
  void DropQueue(ExportDrop reason);

  const std::string name_;
  const ExporterOptions options_;

  mutable std::mutex mutex_;  // guards what follows; never held during I/O
  std::condition_variable wake_;
  std::deque<ExportChunk> queue_;
  std::size_t waiting_bytes_ = 0;  // of queue_; queue_bytes also has the request in hand
  Collector collector_;
  std::uint64_t revision_ = 1;           // of collector_
  std::unique_ptr<CollectorLink> link_;  // of the thread; others only cancel it
  ExporterStatus status_;
  bool is_stopping_ = false;
  bool is_finished_ = false;
  bool is_hopeless_ = false;  // stopping, and the collector is away
  base::MonotonicTime stop_deadline_{};

  // Of the sending thread.
  std::uint64_t link_revision_ = 0;
  std::minstd_rand random_;
  std::thread thread_;
};

}  // namespace weir::telemetry
