#pragma once

#include <google/protobuf/timestamp.pb.h>

#include <chrono>

#include "agent/base/clock.h"

namespace weir::daemon {

// Wall-clock time as Protobuf's message; the epoch itself means "never" and stays unset
// in its callers.
inline google::protobuf::Timestamp ToTimestamp(base::WallTime time) {
  const auto since = time.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  google::protobuf::Timestamp stamp;
  stamp.set_seconds(seconds.count());
  stamp.set_nanos(static_cast<std::int32_t>((since - seconds).count()));
  return stamp;
}

// Seconds since 1970, as certificates count.
inline google::protobuf::Timestamp ToTimestamp(std::int64_t seconds) {
  google::protobuf::Timestamp stamp;
  stamp.set_seconds(seconds);
  return stamp;
}

inline double ToSeconds(base::Nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace weir::daemon
