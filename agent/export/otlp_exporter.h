#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
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
#include "agent/client/http_client.h"
#include "agent/export/pipeline.h"
#include "agent/export/span_encoder.h"
#include "agent/observe/metrics.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

enum class OtlpCompression : std::uint8_t { kNone, kGzip };

// Where spans go: the URL of the traces signal, and what is sent with each request.
struct OtlpEndpoint {
  client::HttpUrl url;
  std::vector<client::HttpHeader> headers{};
  std::chrono::milliseconds timeout{10'000};
  OtlpCompression compression = OtlpCompression::kNone;

  friend bool operator==(const OtlpEndpoint&, const OtlpEndpoint&) = default;
};

// Makes an endpoint of the traces URL, used as it is: "http://collector:4318/v1/traces".
base::Result<OtlpEndpoint> OtlpEndpointOfTracesUrl(std::string_view url);
// Makes an endpoint of a base URL, to which v1/traces is added: "http://collector:4318".
base::Result<OtlpEndpoint> OtlpEndpointOfBaseUrl(std::string_view url);

// Reads a variable of the environment; nullptr if it is not set.
using GetEnvironment = std::function<const char*(const char* name)>;

// Reads OTEL_EXPORTER_OTLP_[TRACES_]{ENDPOINT,HEADERS,TIMEOUT,COMPRESSION,PROTOCOL}, the
// TRACES form first. Empty when no endpoint is named. A value that weir cannot follow is
// an error that names the variable.
base::Result<std::optional<OtlpEndpoint>> OtlpEndpointOfEnvironment(const GetEnvironment& get);

struct OtlpOptions {
  std::size_t queue_limit_bytes = 64U << 20U;  // 5 s of 20,000 spans a second, and more
  std::size_t batch_bytes = 512U << 10U;       // sent when there is so much,
  std::chrono::milliseconds batch_age{1000};   // or when the oldest has waited so long
  std::size_t max_request_bytes = 4U << 20U;   // before compression
  std::chrono::milliseconds backoff_first{500};
  std::chrono::milliseconds backoff_limit{30'000};
  std::chrono::milliseconds retry_after_limit{600'000};  // a longer Retry-After is cut
  std::chrono::milliseconds give_up_after{300'000};      // of retries of one request
};

// Why spans did not reach the collector.
enum class OtlpDrop : std::uint8_t {
  kQueueFull,
  kRefused,      // an HTTP status that is not retried
  kRejected,     // partial success: the collector's own count
  kGaveUp,       // retries for longer than give_up_after
  kBadResponse,  // an answer beyond the limit of its size
  kShutdown,
  kDisabled  // the endpoint was taken away while they waited
};
inline constexpr std::size_t kOtlpDropCount = static_cast<std::size_t>(OtlpDrop::kDisabled) + 1;
std::string_view ToString(OtlpDrop reason);

// State of the exporter at one moment: offered = exported + sum of dropped + queued.
struct OtlpStatus {
  bool enabled = false;
  std::string url;
  std::uint64_t kept = 0;     // spans that came while no collector was configured
  std::uint64_t offered = 0;  // spans that came while one was
  std::uint64_t exported = 0;
  std::array<std::uint64_t, kOtlpDropCount> dropped{};  // by OtlpDrop
  std::uint64_t queued = 0;                             // spans waiting or being sent
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

// OtlpExporter sends spans by OTLP/HTTP in protobuf. Consume encodes them on the
// telemetry thread into a queue bounded in bytes; a thread of its own sends, so a slow or
// lying collector holds up nobody else. Retries 429, 502, 503, 504 and failures of the
// connection, with backoff, jitter and Retry-After; nothing else.
class OtlpExporter final : public observe::RecordConsumer {
 public:
  explicit OtlpExporter(const OtlpOptions& options);
  // Stops with what is queued dropped, if Stop was not called.
  ~OtlpExporter() override;

  // Starts the sending thread; once.
  base::Result<void> Start();
  // Sends what is queued for at most `bound`, drops and counts the rest, ends the thread. A
  // collector that cannot be reached ends it at once.
  void Stop(std::chrono::milliseconds bound);
  // Sends to another collector from now on, also what is queued; nullopt ends exporting.
  // Does nothing when it is the same. Any thread.
  void SetEndpoint(std::optional<OtlpEndpoint> endpoint);

  void Consume(const std::vector<observe::Record>& records) noexcept override;
  [[nodiscard]] OtlpStatus status() const;  // any thread

 private:
  // Encoded spans of one workload.
  struct Chunk {
    std::shared_ptr<const model::LocalWorkload> local;
    std::string spans{};
    std::size_t count = 0;
    base::MonotonicTime queued_at{};
    [[nodiscard]] std::size_t bytes() const { return sizeof(Chunk) + spans.size(); }
  };
  struct Request {
    std::string body;
    std::size_t count = 0;
    std::size_t bytes = 0;  // of its chunks, as queue_bytes counts them
  };
  enum class Next : std::uint8_t { kDone, kRetry, kDisabled };
  struct Outcome {
    Next next = Next::kDone;
    bool is_reachable = false;  // the collector answered, so another try may help
    std::chrono::milliseconds retry_after{0};
  };
  using Lock = std::unique_lock<std::mutex>;

  std::vector<Chunk> Encode(const std::vector<observe::Record>& records);
  void Enqueue(std::vector<Chunk> chunks);

  // The sending thread.
  void Run() noexcept;
  [[nodiscard]] bool WaitForWork(Lock& lock);
  [[nodiscard]] std::vector<Chunk> TakeChunks();
  [[nodiscard]] Request MakeRequest(const std::vector<Chunk>& chunks);
  void Deliver(const Request& request);
  Outcome Attempt(const Request& request);
  Outcome TakeAnswer(const Request& request, const client::HttpResponse& response);
  Outcome TakeError(const Request& request, const base::Error& error);
  // Whether to try again, when the time has come; otherwise the request has been dropped.
  [[nodiscard]] bool WaitForRetry(const Request& request, const Outcome& outcome,
                                  std::chrono::milliseconds delay);
  [[nodiscard]] std::chrono::milliseconds Jittered(std::chrono::milliseconds delay);

  // With the mutex held.
  void NoteFailure(const std::string& message, bool is_reachable);
  void Drop(OtlpDrop reason, const Request& request);
  void DropQueue(OtlpDrop reason);

  const OtlpOptions options_;

  mutable std::mutex mutex_;  // guards what follows; never held during I/O
  std::condition_variable wake_;
  std::deque<Chunk> queue_;
  std::size_t waiting_bytes_ = 0;  // of queue_; queue_bytes also has the request in hand
  std::optional<OtlpEndpoint> endpoint_;
  std::uint64_t endpoint_revision_ = 0;
  std::unique_ptr<client::HttpConnection> connection_;  // of the thread; others only cancel it
  OtlpStatus status_;
  bool is_stopping_ = false;
  bool is_finished_ = false;
  bool is_hopeless_ = false;  // stopping, and the collector is away
  base::MonotonicTime stop_deadline_{};

  // Of the sending thread.
  std::uint64_t connection_revision_ = 0;
  SpanEncoder request_encoder_;
  std::minstd_rand random_;
  std::thread thread_;

  SpanEncoder encoder_;  // of the telemetry thread
};

// Spans from the workers to the collector, end to end:
// generated = exported + kept + dropped + queued in every copy.
struct SpanTotals {
  std::uint64_t generated = 0;
  std::uint64_t exported = 0;  // accepted by the collector
  std::uint64_t kept = 0;      // in memory only, as no collector was configured
  std::uint64_t dropped = 0;
  std::uint64_t queued = 0;
};

// Sums up the two halves of the way. Any thread.
SpanTotals TotalSpans(const OtlpExporter& exporter, const Pipeline& pipeline);

// What /metrics shows of the way itself: weir_telemetry_*, weir_otlp_*. Any thread.
std::vector<observe::MetricFamily> TelemetryMetrics(const OtlpExporter& exporter,
                                                    const Pipeline& pipeline);

}  // namespace weir::telemetry
