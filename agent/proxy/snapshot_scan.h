#pragma once

#include <cstddef>
#include <vector>

#include "agent/io/event_loop.h"
#include "agent/proxy/session.h"

namespace weir::proxy {

// SnapshotScan tells every session of a worker of a newer snapshot (Session::OnSnapshot),
// so many in each turn, so that a worker with many sessions goes on serving them. One that
// begins during another goes behind it: however often snapshots come, each session is
// reached within two rounds. Worker.
class SnapshotScan {
 public:
  static constexpr std::size_t kSessionsPerTurn = 512;

  SnapshotScan(io::EventLoop& loop, SessionTable& sessions)
      : sessions_(sessions), timer_(loop, [this] { Step(); }) {}

  // The new snapshot is in the context. Tells the first sessions from within.
  void Begin();

 private:
  void Step();

  SessionTable& sessions_;
  std::vector<SessionId> ids_;  // of this round
  std::size_t next_ = 0;
  bool again_ = false;  // another round is due after this one
  io::Timer timer_;
};

}  // namespace weir::proxy
