#include "agent/observe/span_event.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace weir::observe {
namespace {

using Events = std::vector<std::pair<std::string, std::int64_t>>;

Events Of(int tunnel, int connect, int first_byte) {
  const Timing timing{.start = {},
                      .total = base::Nanoseconds(100),
                      .tunnel_wait = base::Nanoseconds(tunnel),
                      .upstream_connect = base::Nanoseconds(connect),
                      .first_byte = base::Nanoseconds(first_byte)};
  Events events;
  for (const SpanEvent& event : SpanEvents(timing)) {
    events.emplace_back(event.name, event.after.count());
  }
  return events;
}

TEST(SpanEventsTest, LeaveOutWhatDidNotHappen) {
  EXPECT_EQ(Of(-1, -1, -1), Events());
  EXPECT_EQ(Of(-1, -1, 7), Events({{"weir.response.first_byte", 7}}));
  EXPECT_EQ(Of(0, 5, 7), Events({{"weir.tunnel.ready", 0},
                                 {"weir.upstream.connected", 5},
                                 {"weir.response.first_byte", 7}}));
}

// A collector shows events in the order of their times, within the span.
TEST(SpanEventsTest, AreInOrderAndWithinTheSpan) {
  EXPECT_EQ(Of(9, 5, 200), Events({{"weir.tunnel.ready", 9},
                                   {"weir.upstream.connected", 9},
                                   {"weir.response.first_byte", 100}}));
}

}  // namespace
}  // namespace weir::observe
