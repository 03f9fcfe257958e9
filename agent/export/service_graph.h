#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/export/latency_histogram.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

// What passed from one workload to another in a window of time.
struct GraphEdge {
  std::string source;             // display name; "outside" for clients that are not in the mesh
  std::string destination;        // display name, or "ADDRESS:PORT" outside the mesh
  std::uint64_t requests = 0;     // HTTP
  std::uint64_t connections = 0;  // finished; opaque ones have nothing else
  std::uint64_t errors = 0;       // 5xx, refusals and failures, of both
  // Of requests where there were any, else of connections:
  std::uint64_t tunnel = 0;  // by mTLS between nodes
  std::uint64_t local = 0;   // joined on this node
  std::uint64_t plain = 0;
  std::array<std::uint64_t, 5> by_parent_source{};  // of requests, by ParentSource
  base::Nanoseconds p50{0};
  base::Nanoseconds p99{0};
};

struct ServiceGraphView {
  std::vector<GraphEdge> edges;  // by source, then destination
  base::Nanoseconds window{0};   // what the counts cover, at most what was asked for
  std::uint64_t folded = 0;      // flows counted under "other" since the start
};

// ServiceGraph counts flows by source and destination in slots of time, for `weir map`.
// Bounded: kMaxCells {slot, edge} pairs, then the oldest slot goes; a slot with more than
// kMaxEdgesPerSlot edges counts the rest under "other". A flow seen at both ends counts
// once. Consume on the telemetry thread, View on any.
class ServiceGraph final : public observe::RecordConsumer {
 public:
  static constexpr base::Nanoseconds kSlot = std::chrono::seconds(10);
  static constexpr std::size_t kMaxSlots = 360;  // one hour
  static constexpr std::size_t kMaxEdgesPerSlot = 1024;
  static constexpr std::size_t kMaxCells = 16384;

  explicit ServiceGraph(const base::Clock& clock) : clock_(clock), begin_(clock.Now()) {}

  void Consume(const std::vector<observe::Record>& records) noexcept override;

  // The edges of the last `window`, in whole slots.
  [[nodiscard]] ServiceGraphView View(base::Nanoseconds window) const;

 private:
  struct EdgeKey {
    std::string source;
    std::string destination;
    friend auto operator<=>(const EdgeKey&, const EdgeKey&) = default;
  };
  // Seen from one end of the edge.
  struct Side {
    std::uint64_t requests = 0;
    std::uint64_t connections = 0;
    std::uint64_t request_errors = 0;
    std::uint64_t connection_errors = 0;
    std::array<std::uint64_t, 3> requests_by_mtls{};
    std::array<std::uint64_t, 3> connections_by_mtls{};
    std::array<std::uint64_t, 5> by_parent_source{};
    LatencyHistogram latency;  // of requests where there are any
    void Merge(const Side& other);
  };
  struct Cell {
    std::array<Side, 2> sides;  // by Direction
  };
  struct Slot {
    base::MonotonicTime begin;
    std::map<EdgeKey, Cell> cells;
  };
  static GraphEdge ToEdge(const EdgeKey& key, const Cell& cell);
  Slot& CurrentSlot();
  void Add(Slot& slot, const observe::Flow& flow);

  const base::Clock& clock_;
  const base::MonotonicTime begin_;
  mutable std::mutex mutex_;
  std::deque<Slot> slots_;
  std::size_t cells_ = 0;
  std::uint64_t folded_ = 0;
};

}  // namespace weir::telemetry
