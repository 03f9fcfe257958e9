#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/base/clock.h"
#include "agent/export/latency_histogram.h"
#include "agent/export/party_name.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

// Whether a request or connection ended badly: 5xx, a refusal or a failure.
bool IsFailure(const observe::Flow& flow);

// What passed from one workload to another in a window of time.
struct GraphEdge {
  std::string source;             // display name; "outside" for clients without a workload
  std::string destination;        // display name, or "ADDRESS:PORT" outside the mesh
  bool is_seen_at_source = true;  // counted where it left; else only where it arrived
  std::uint64_t requests = 0;     // HTTP
  std::uint64_t connections = 0;  // finished
  std::uint64_t errors = 0;       // 5xx, refusals and failures, of requests and connections
  // How they went, of requests where there were any, else of connections:
  std::uint64_t tunnel = 0;  // by mTLS between nodes
  std::uint64_t local = 0;   // joined on this node
  std::uint64_t plain = 0;
  // Of requests, by ParentSource; empty where the source is a workload that another node has.
  std::array<std::uint64_t, 5> by_parent_source{};
  base::Nanoseconds p50{0};  // of requests; of connections that have none
  base::Nanoseconds p99{0};
};

struct ServiceGraphView {
  std::vector<GraphEdge> edges;  // by source, then destination
  base::Nanoseconds window{0};   // what the counts cover, at most what was asked for
  std::uint64_t folded = 0;      // flows that went to the edge "other", since the start
};

// ServiceGraph counts flows by source and destination in slots of time, for `weir map`.
// Bounded: kMaxCells {slot, edge} pairs, then the oldest slot goes; what comes after
// kMaxEdgesPerSlot edges of one slot counts under "other". A flow that was seen at both
// ends counts once. Consume on the telemetry thread, View on any.
class ServiceGraph final : public observe::RecordConsumer {
 public:
  static constexpr base::Nanoseconds kSlot = std::chrono::seconds(10);
  static constexpr std::size_t kMaxSlots = 360;  // one hour
  static constexpr std::size_t kMaxEdgesPerSlot = 1024;
  static constexpr std::size_t kMaxCells = 16384;

  explicit ServiceGraph(const base::Clock& clock)
      : clock_(clock), begin_(clock.Now()), covered_since_(begin_) {}

  void Consume(const std::vector<observe::Record>& records) noexcept override;

  // The edges of the last `window`, in whole slots.
  [[nodiscard]] ServiceGraphView View(base::Nanoseconds window) const;

 private:
  // An edge as seen from one of its ends.
  struct Side {
    std::uint64_t requests = 0;
    std::uint64_t connections = 0;
    std::uint64_t errors = 0;
    std::array<std::uint64_t, 3> requests_by_mtls{};     // by MtlsState
    std::array<std::uint64_t, 3> connections_by_mtls{};  // by MtlsState
    std::array<std::uint64_t, 5> by_parent_source{};
    LatencyHistogram latency;
    void Add(const observe::Flow& flow);
    void Merge(const Side& other);
  };
  // The key has the direction, source and destination.
  using Cells = std::unordered_map<std::string, Side, NameHash, std::equal_to<>>;
  struct Slot {
    base::MonotonicTime begin{};
    Cells cells{};
  };
  static GraphEdge ToEdge(const Side& side);
  Slot& CurrentSlot();
  Side& FindSide(Slot& slot, const observe::Flow& flow);
  void DropOldestSlot();

  const base::Clock& clock_;
  const base::MonotonicTime begin_;
  mutable std::mutex mutex_;
  std::deque<Slot> slots_;
  base::MonotonicTime covered_since_;
  std::size_t cells_ = 0;
  std::uint64_t folded_ = 0;
  std::string key_;  // scratch
};

}  // namespace weir::telemetry
