#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
#include "agent/export/latency_histogram.h"
#include "agent/observe/record.h"

namespace weir::telemetry {

// What the rows of a TopTable are of.
enum class TopBy : std::uint8_t { kPair, kWorkload, kPath, kPolicy, kPid };

// The traffic of one row. Which of the names are set depends on TopBy.
struct TopRow {
  std::string source;       // pair; pid: the workload of the process
  std::string destination;  // pair, path
  std::string name;         // workload; path: "GET /p/42"; policy: the rule; pid: the process
  std::string verdict;      // policy
  observe::Direction direction = observe::Direction::kOutbound;  // at which end it was counted
  std::uint32_t pid = 0;
  std::uint64_t requests = 0;        // HTTP
  std::uint64_t connections = 0;     // that carried none
  std::uint64_t errors = 0;          // of both: 5xx, refusals and failures
  std::uint64_t denied = 0;          // of both
  std::uint64_t encrypted = 0;       // of both: by mTLS, or joined on one node
  std::uint64_t sent_bytes = 0;      // towards the destination
  std::uint64_t received_bytes = 0;  // from it
  base::Nanoseconds p50{0};
  base::Nanoseconds p99{0};
};

// TopTable adds flows up for one answer of `weir top`. Bounded: what comes after kMaxRows
// rows counts in one row that is named "other". A flow that this agent saw at both ends
// counts once where the row names both of them: pairs where they leave, paths where they
// arrive. One thread.
class TopTable {
 public:
  static constexpr std::size_t kMaxRows = 1000;

  explicit TopTable(TopBy by) : by_(by) {}
  void Add(const observe::Flow& flow);
  // The rows, in no order that means anything.
  [[nodiscard]] std::vector<TopRow> Rows() const;
  // Flows that went to "other".
  [[nodiscard]] std::uint64_t folded() const { return folded_; }

 private:
  struct Cell {
    TopRow row;
    LatencyHistogram latency;
  };
  [[nodiscard]] bool Counts(const observe::Flow& flow) const;
  void NameRow(const observe::Flow& flow, TopRow& row) const;
  [[nodiscard]] std::string KeyOf(const observe::Flow& flow) const;

  TopBy by_;
  std::map<std::string, Cell, std::less<>> cells_;
  std::uint64_t folded_ = 0;
};

}  // namespace weir::telemetry
