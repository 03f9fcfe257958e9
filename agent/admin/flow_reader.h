#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

#include "agent/admin/flow_selection.h"
#include "agent/admin/flow_store.h"
#include "agent/base/clock.h"

namespace weir::admin {

// FlowLines makes the JSON lines of flows, and keeps the newest so that many readers of
// the same flow share the work. One thread.
class FlowLines {
 public:
  explicit FlowLines(std::string node) : node_(std::move(node)) {}
  // The line of `stored` with its end of line; valid until the next call.
  const std::string& Get(const StoredFlow& stored);
  [[nodiscard]] const std::string& node() const { return node_; }

 private:
  struct Line {
    std::uint64_t sequence = 0;
    std::string text;
  };
  std::string node_;
  std::array<Line, 1024> lines_;
};

// FlowReader answers one query from the store in steps of bounded work and output. It
// keeps a number, not a place in the store, so a reader that comes back late goes on
// with what is left and is told what it missed. One thread.
class FlowReader {
 public:
  enum class Step : std::uint8_t {
    kMore,      // call again at once
    kCaughtUp,  // following: call again when there is something new, or after kSummaryEvery
    kDone,      // the summary has been written
  };
  // A follower's summary comes at most this often while flows pass, and at least so often
  // when none do.
  static constexpr base::Nanoseconds kSummaryEvery = std::chrono::seconds(1);
  static constexpr base::Nanoseconds kIdleSummaryEvery = std::chrono::seconds(15);

  // All three outlive the reader.
  FlowReader(FlowQuery query, const FlowStore& store, FlowLines& lines, const base::Clock& clock);

  // Appends lines to `out`: about `max_bytes`, more only by one line and a summary.
  Step Read(std::string& out, std::size_t max_bytes);

 private:
  enum class Phase : std::uint8_t { kSearchBack, kEmitFound, kForward, kEnd };

  Step SearchBack();
  Step EmitFound(std::string& out, std::size_t max_bytes);
  Step Forward(std::string& out, std::size_t max_bytes);
  // Whether `stored` is what the query wants, but for its limits.
  bool Take(const StoredFlow& stored);
  bool WithinRate();
  void AppendSummary(std::string& out);

  FlowQuery query_;
  const FlowStore& store_;
  FlowLines& lines_;
  const base::Clock& clock_;
  Phase phase_;
  std::uint64_t next_ = 0;    // forwards: the next number to read
  std::uint64_t before_ = 0;  // backwards: everything from here on has been looked at
  std::uint64_t resume_ = 0;  // where following goes on after the search
  std::deque<StoredFlow> found_;
  FlowSelection selection_;
  std::uint64_t rate_count_ = 0;
  base::MonotonicTime rate_second_{};
  base::MonotonicTime summary_time_ = base::MonotonicTime::min();
  std::uint64_t summary_seen_ = 0;
  std::uint64_t summary_lost_ = 0;
};

}  // namespace weir::admin
