#include "agent/observe/span_event.h"

#include <algorithm>

namespace weir::observe {

SpanEvents::SpanEvents(const Timing& timing) {
  base::Nanoseconds before{0};
  for (const SpanEvent& event :
       {SpanEvent{.name = "weir.tunnel.ready", .after = timing.tunnel_wait},
        SpanEvent{.name = "weir.upstream.connected", .after = timing.upstream_connect},
        SpanEvent{.name = "weir.response.first_byte", .after = timing.first_byte}}) {
    if (event.after.count() >= 0) {
      // By two clocks' readings one can seem to be before the other by a little.
      before = std::min(std::max(event.after, before), timing.total);
      events_[count_++] = {.name = event.name, .after = before};
    }
  }
}

}  // namespace weir::observe
