#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "agent/io/event_loop.h"
#include "agent/model/snapshot.h"
#include "agent/observe/record.h"

namespace weir::proxy {

using SessionId = std::uint64_t;

// Session is anything that a worker serves and its table owns: an application's connection,
// a stream of a tunnel, a tunnel that a peer opened, a connection that is being looked at.
// It ends itself by SessionTable::Retire and is destroyed at the end of the turn. Worker.
class Session {
 public:
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  virtual ~Session() = default;

  [[nodiscard]] SessionId id() const { return id_; }
  // The workload that it belongs to.
  [[nodiscard]] model::LocalId owner() const { return owner_; }

  // Breaks it off at once: both ends see a reset, the record says `reason`.
  virtual void Abort(observe::Reason reason) noexcept = 0;
  // Whether it ends when workload `id` is gone.
  [[nodiscard]] virtual bool Involves(model::LocalId id) const { return owner_ == id; }
  // A newer snapshot is in the context: whoever waits for one goes on, and whoever lost
  // its permission ends.
  virtual void OnSnapshot() noexcept {}
  // A same-node join's witness came (`alive`) or did not.
  virtual void OnWitness(bool alive) noexcept { (void)alive; }
  // The worker drains: ends now if nothing is under way, else when it is done.
  virtual void OnDrain() noexcept {}
  // The time to drain is over: ends, in order if nothing is lost by that.
  virtual void OnDrainEnd() noexcept { Abort(observe::Reason::kDraining); }

 protected:
  // `counts`: against the limit of the workload's connections.
  explicit Session(model::LocalId owner, bool counts = true) : owner_(owner), counts_(counts) {}

 private:
  friend class SessionTable;
  SessionId id_ = 0;
  model::LocalId owner_ = model::LocalId::kNone;
  bool counts_ = false;
  bool retired_ = false;
};

// SessionTable owns the sessions of a worker. Ids are unique in the agent's life: the
// worker's index is in their high bits. One thread.
class SessionTable {
 public:
  SessionTable(io::EventLoop& loop, std::uint32_t worker_index);
  SessionTable(const SessionTable&) = delete;
  SessionTable& operator=(const SessionTable&) = delete;
  ~SessionTable();

  // Takes the session over and gives it its id.
  Session& Insert(std::unique_ptr<Session> session);
  // Null if there is none, or it is retired already.
  [[nodiscard]] Session* Find(SessionId id) const;
  // Destroys it at the end of this turn; a second call does nothing.
  void Retire(Session& session);
  [[nodiscard]] std::size_t size() const { return sessions_.size() - retired_.size(); }
  // Sessions that count against a workload now, retired ones of this turn included.
  [[nodiscard]] std::size_t CountOf(model::LocalId owner) const;
  // Of those that are not retired.
  [[nodiscard]] std::vector<SessionId> Ids() const;
  // Calls `visit` for each that is not retired; it may retire and insert.
  void ForEach(const std::function<void(Session&)>& visit);

 private:
  void Sweep();

  io::EventLoop& loop_;
  SessionId next_id_;
  std::unordered_map<SessionId, std::unique_ptr<Session>> sessions_;
  std::unordered_map<model::LocalId, std::size_t> counts_;
  std::vector<SessionId> retired_;
};

}  // namespace weir::proxy
