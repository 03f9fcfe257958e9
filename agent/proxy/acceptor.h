#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/unique_fd.h"
#include "agent/io/event_loop.h"
#include "agent/proxy/context.h"
#include "agent/seam/interception.h"

namespace weir::proxy {

// Acceptor owns a worker's listeners and turns what they accept into sessions. When the
// process has no descriptor left, it turns one waiting connection away with the help of a
// reserve descriptor and pauses, so that a full backlog is no busy loop (F16). Worker.
class Acceptor {
 public:
  static constexpr std::size_t kAcceptsPerTurn = 64;
  static constexpr std::chrono::milliseconds kPause{50};

  explicit Acceptor(WorkerContext& context);
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;
  ~Acceptor();

  void Add(std::vector<seam::Listener> listeners);
  // Closes the listeners of a workload, or all.
  void Remove(model::LocalId owner);
  void RemoveAll();

 private:
  struct Entry;

  void OnReady(Entry& entry);
  bool OutOfDescriptors(Entry& entry);
  void Resume();
  void Take(Entry& entry, base::UniqueFd fd, const base::ConnectionTuple& tuple);
  void TakeOutbound(Entry& entry, base::UniqueFd fd, const base::ConnectionTuple& tuple);
  void TakeInbound(Entry& entry, base::UniqueFd fd, const base::ConnectionTuple& tuple);
  // Whether it is a witness of an agent's worker, which needs nothing but to be seen.
  bool TakeWitness(const base::ConnectionTuple& tuple);
  void Reject(base::UniqueFd fd, observe::Reason reason);
  void AnswerProbe(base::UniqueFd fd);

  WorkerContext& context_;
  std::vector<std::unique_ptr<Entry>> entries_;
  base::UniqueFd reserve_;
  io::Timer pause_;
};

}  // namespace weir::proxy
