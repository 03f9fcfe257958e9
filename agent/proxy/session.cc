#include "agent/proxy/session.h"

#include <utility>

namespace weir::proxy {
namespace {
constexpr unsigned kWorkerShift = 48;
}

SessionTable::SessionTable(io::EventLoop& loop, std::uint32_t worker_index)
    : loop_(loop), next_id_((SessionId{worker_index} << kWorkerShift) + 1) {}

SessionTable::~SessionTable() = default;

Session& SessionTable::Insert(std::unique_ptr<Session> session) {
  session->id_ = next_id_++;
  if (session->counts_) {
    ++counts_[session->owner_];
  }
  Session& inserted = *session;
  sessions_.emplace(inserted.id_, std::move(session));
  return inserted;
}

Session* SessionTable::Find(SessionId id) const {
  const auto found = sessions_.find(id);
  return found == sessions_.end() || found->second->retired_ ? nullptr : found->second.get();
}

void SessionTable::Retire(Session& session) {
  if (std::exchange(session.retired_, true)) {
    return;
  }
  if (retired_.empty()) {
    loop_.AtEndOfTurn([this] { Sweep(); });
  }
  retired_.push_back(session.id_);
}

void SessionTable::Sweep() {
  for (const SessionId id : std::exchange(retired_, {})) {
    const auto found = sessions_.find(id);
    if (found->second->counts_) {
      if (const auto count = counts_.find(found->second->owner_); --count->second == 0) {
        counts_.erase(count);
      }
    }
    // Out of the table first: a destructor may look into it.
    const std::unique_ptr<Session> dead = std::move(found->second);
    sessions_.erase(found);
  }
}

std::size_t SessionTable::CountOf(model::LocalId owner) const {
  const auto found = counts_.find(owner);
  return found == counts_.end() ? 0 : found->second;
}

std::vector<SessionId> SessionTable::Ids() const {
  std::vector<SessionId> ids;
  ids.reserve(sessions_.size());
  for (const auto& [id, session] : sessions_) {
    if (!session->retired_) {
      ids.push_back(id);
    }
  }
  return ids;
}

void SessionTable::ForEach(const std::function<void(Session&)>& visit) {
  for (const SessionId id : Ids()) {
    if (Session* session = Find(id)) {
      visit(*session);
    }
  }
}

}  // namespace weir::proxy
