#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>

#include "agent/admin/flow_selection.h"
#include "agent/base/clock.h"

namespace weir::admin {

// FlowReplay answers a query from lines that /v1/flows gave once and somebody kept, as an agent
// answers it from its store. A flow keeps its line, byte by byte. Summaries among the lines are
// passed over. Fields that no line holds (labels) equal nothing in a filter. One thread.
class FlowReplay {
 public:
  // Takes a line without its end; false: no more is wanted.
  using OnLine = std::function<bool(std::string_view line)>;
  enum class Step : std::uint8_t {
    kMore,
    kEnough,  // all that was asked for was given out
    kNoFlow,  // the line is neither a flow nor a summary
  };

  // `target` is that of GET /v1/flows. A file ends and has no clock: follow and max_rps are
  // refused.
  static QueryResult<FlowReplay> Create(std::string_view target, base::WallTime now);

  Step Take(std::string_view line, const OnLine& out);
  // Gives out what `last` kept back, then the summary, in which `name` stands for the node.
  void Finish(std::string_view name, const OnLine& out);

 private:
  explicit FlowReplay(const FlowQuery& query) : query_(query), selection_(query) {}

  FlowQuery query_;
  FlowSelection selection_;
  std::deque<std::string> kept_;  // at most `last` lines
};

}  // namespace weir::admin
