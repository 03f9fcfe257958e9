#include "agent/proxy/snapshot_scan.h"

#include <algorithm>
#include <utility>

namespace weir::proxy {

void SnapshotScan::Begin() {
  if (!ids_.empty()) {
    again_ = true;
    return;
  }
  ids_ = sessions_.Ids();
  Step();
}

void SnapshotScan::Step() {
  const std::size_t end = std::min(ids_.size(), next_ + kSessionsPerTurn);
  for (; next_ < end; ++next_) {
    if (Session* const session = sessions_.Find(ids_[next_])) {
      session->OnSnapshot();
    }
  }
  if (next_ == ids_.size()) {
    next_ = 0;
    ids_ = std::exchange(again_, false) ? sessions_.Ids() : std::vector<SessionId>();
  }
  if (!ids_.empty()) {
    timer_.Arm(base::Nanoseconds(0));
  }
}

}  // namespace weir::proxy
