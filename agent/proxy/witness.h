#pragma once

#include <chrono>
#include <compare>
#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"
#include "agent/io/event_loop.h"
#include "agent/model/snapshot.h"
#include "agent/proxy/session.h"
#include "agent/proxy/worker.h"

namespace weir::proxy {

// WitnessCache proves that a packet of `source` would reach `destination` on this node: a
// same-node join sends none past the CNI, so it may be made only while the way that it
// replaces is open. A witness is a connection from the source's namespace to the
// destination that arrived at the destination's hook; it is good for kLifetime. One is in
// flight per pair, whoever needs it meanwhile waits. Worker.
class WitnessCache {
 public:
  static constexpr std::chrono::seconds kLifetime{60};
  static constexpr std::chrono::seconds kTimeout{1};
  static constexpr std::size_t kLimit = 4096;  // pairs; beyond, idle ones are forgotten

  enum class Answer : std::uint8_t { kAlive, kPending, kRefused };

  WitnessCache(const WorkerOptions& options, io::EventLoop& loop, WorkerStats& stats,
               SessionTable& sessions);
  WitnessCache(const WitnessCache&) = delete;
  WitnessCache& operator=(const WitnessCache&) = delete;
  ~WitnessCache();

  // Whether the pair has a live witness. kPending: session `waiter` is told by OnWitness.
  Answer Require(model::LocalId source, const base::Endpoint& destination, SessionId waiter);
  // The hook of a destination saw a connection of ours.
  void Arrived(const base::ConnectionTuple& accepted);
  // The workload is gone; somebody else may get its address, so all others' witnesses are
  // to be renewed.
  void Forget(model::LocalId gone);

 private:
  struct Key {
    model::LocalId source = model::LocalId::kNone;
    base::Endpoint destination;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Entry;

  bool Send(const Key& key, Entry& entry);
  void Conclude(Entry& entry, bool alive);
  void MakeRoom();

  const WorkerOptions& options_;
  io::EventLoop& loop_;
  WorkerStats& stats_;
  SessionTable& sessions_;
  std::map<Key, std::unique_ptr<Entry>> entries_;
};

}  // namespace weir::proxy
