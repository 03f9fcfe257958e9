#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/admin/filter.h"
#include "agent/base/clock.h"
#include "agent/observe/record.h"

namespace weir::admin {

// Which flows GET /v1/flows is asked for. Times are those of a flow's end.
struct FlowQuery {
  std::optional<std::size_t> last{};   // the newest so many that match
  std::optional<std::size_t> first{};  // the oldest so many that match, then the end
  std::optional<base::WallTime> since{};
  std::optional<base::WallTime> until{};
  bool follow = false;                     // go on with what comes
  std::optional<std::uint32_t> max_rps{};  // leave out what exceeds so many in a second
  // One in so many of what matches; all flows of a trace or none, on every node the same.
  std::uint32_t sample = 1;
  Filter filter{};
};

// A query or why it is refused; `column` is set for a bad filter.
struct QueryError {
  std::string message{};
  std::size_t column = 0;
  std::vector<std::string> candidates{};
};
template <typename T>
using QueryResult = std::expected<T, QueryError>;

// When a flow ended.
inline base::WallTime EndOf(const observe::Flow& flow) {
  return flow.timing.start + flow.timing.total;
}

// FlowSelection decides which flows a query wants, and counts what it looked at for the
// summary that ends every answer. One thread.
class FlowSelection {
 public:
  struct Summary {
    std::uint64_t seen = 0;
    std::uint64_t matched = 0;
    std::uint64_t lost = 0;
    std::uint64_t skipped = 0;  // by max_rps and sample
    base::WallTime window_start = base::WallTime::max();
    base::WallTime window_end = base::WallTime::min();
  };

  explicit FlowSelection(FlowQuery query);

  // Whether `flow` is inside the window and matches; counts it.
  bool Take(const observe::Flow& flow);
  // Whether the sample has it, of what matches; counts what is left out. `sequence` stands for
  // the trace of flows without one.
  bool InSample(const observe::Flow& flow, std::uint64_t sequence);
  // Appends the summary as a line of /v1/flows (weir.v1.FlowSummaryLine).
  void AppendSummary(std::string_view node, std::string& out) const;

  [[nodiscard]] Summary& summary() { return summary_; }
  [[nodiscard]] const Summary& summary() const { return summary_; }

 private:
  void NoteTermsFailed(const observe::Flow& flow);

  FlowQuery query_;
  Summary summary_;
  std::vector<std::uint64_t> failed_alone_;  // per term: flows that only it keeps out
};

}  // namespace weir::admin
