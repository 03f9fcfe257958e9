#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/base/clock.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

// One span as the store keeps and shows it. Names are a workload's display name, or its
// address when it is outside the mesh.
struct StoredSpan {
  observe::TraceId trace_id{};
  observe::SpanId span_id{};
  observe::SpanId parent_span_id{};  // zero: root
  bool is_client = false;
  bool is_error = false;
  observe::ParentSource parent_source = observe::ParentSource::kNone;
  observe::SampledBy sampled_by = observe::SampledBy::kHead;
  observe::MtlsState mtls = observe::MtlsState::kOff;
  observe::Verdict verdict = observe::Verdict::kAllow;
  observe::Reason reason = observe::Reason::kNone;
  std::uint16_t status = 0;  // HTTP; 0: none was seen
  observe::Timing timing{};
  std::string service;  // whose span it is
  std::string source;
  std::string destination;
  std::string method;
  std::string host;
  std::string path;
  std::string error_type;  // empty without an error
  std::string links;       // "TRACE-SPAN" of each, joined by spaces; mostly empty
  std::shared_ptr<const observe::DatabaseCall> database{};  // of a command
  bool is_connection = false;  // of a whole one that was not looked into

  // "GET /path", "SELECT orders", or what the span of a connection is called.
  [[nodiscard]] std::string name() const;
  [[nodiscard]] base::WallTime start() const { return timing.start; }
  [[nodiscard]] base::WallTime end() const { return timing.start + timing.total; }
};

// One trace in a list.
struct TraceSummary {
  observe::TraceId trace_id{};
  base::WallTime start{};         // of its first span
  base::Nanoseconds duration{0};  // from the first start to the last end
  std::size_t spans = 0;
  std::size_t errors = 0;
  std::size_t services = 0;    // distinct
  std::string root_service{};  // of the span that has no parent here, the earliest
  std::string root_name{};     // "GET /path"
  std::uint16_t root_status = 0;
};

// What to list; empty fields do not filter.
struct TraceQuery {
  std::optional<base::WallTime> since{};  // traces that began then or later
  base::Nanoseconds min_duration{0};
  bool errors_only = false;
  std::string service{};       // traces with a span of this service
  bool slowest_first = false;  // else the newest first
  std::size_t limit = 20;
};

// The answer to a TraceQuery, and what an empty answer must say.
struct TraceList {
  std::vector<TraceSummary> traces;
  std::size_t seen = 0;     // traces in the store
  std::size_t matched = 0;  // before `limit`
};

// One node of a trace's tree: index of the parent in the same vector, or none.
struct TraceNode {
  StoredSpan span;
  std::optional<std::size_t> parent{};
  std::size_t depth = 0;
};

struct TraceStoreCounters {
  std::uint64_t stored = 0;     // spans taken, ever
  std::uint64_t evicted = 0;    // spans that gave way to newer traces
  std::uint64_t truncated = 0;  // spans of traces with too many
  std::size_t traces = 0;
  std::size_t spans = 0;
  std::size_t bytes = 0;
  std::size_t limit_bytes = 0;
};

// Puts the spans of one trace (of one store or of several, duplicates removed) in the
// order of a tree: each parent before its children, siblings by start. A span whose
// parent is not there is a root; a loop of parents is broken at its earliest span. Pure.
std::vector<TraceNode> AssembleTrace(std::vector<StoredSpan> spans);

// TraceStore keeps the newest traces of this agent in memory, for `weir traces`; the
// oldest trace goes when one of the limits is reached. Consume on the telemetry thread, the
// rest on any; a query holds the lock only while it copies what it returns.
class TraceStore final : public observe::RecordConsumer {
 public:
  static constexpr std::size_t kMaxSpansPerTrace = 2048;

  struct Limits {
    std::size_t bytes = 32U << 20U;
    std::size_t spans = 10000;
  };
  TraceStore() : TraceStore(Limits()) {}
  explicit TraceStore(Limits limits) : limits_(limits) {}

  void Consume(const std::vector<observe::Record>& records) noexcept override;

  [[nodiscard]] TraceList List(const TraceQuery& query) const;
  // The spans of one trace as a tree; empty if the store does not have it.
  [[nodiscard]] std::vector<TraceNode> Get(const observe::TraceId& id) const;
  [[nodiscard]] TraceStoreCounters counters() const;

 private:
  struct TraceIdHash {
    std::size_t operator()(const observe::TraceId& id) const noexcept;
  };
  struct Trace {
    std::vector<StoredSpan> spans;
    std::size_t bytes = 0;
  };
  void Insert(StoredSpan span);
  void EvictOldest();

  mutable std::mutex mutex_;
  std::unordered_map<observe::TraceId, Trace, TraceIdHash> traces_;
  std::deque<observe::TraceId> order_;  // of arrival, oldest first
  Limits limits_;
  TraceStoreCounters counters_;
};

}  // namespace weir::telemetry
