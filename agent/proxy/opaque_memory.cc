#include "agent/proxy/opaque_memory.h"

namespace weir::proxy {

void OpaqueMemory::Remember(const base::Endpoint& destination, base::MonotonicTime now) {
  if (const auto found = index_.find(destination); found != index_.end()) {
    found->second->learnt = now;
    entries_.splice(entries_.begin(), entries_, found->second);
    return;
  }
  if (entries_.size() == kLimit) {
    index_.erase(entries_.back().destination);
    entries_.pop_back();
  }
  entries_.push_front({.destination = destination, .learnt = now});
  index_.emplace(destination, entries_.begin());
}

bool OpaqueMemory::Knows(const base::Endpoint& destination, base::MonotonicTime now) {
  const auto found = index_.find(destination);
  if (found == index_.end()) {
    return false;
  }
  if (now - found->second->learnt > kLifetime) {
    entries_.erase(found->second);
    index_.erase(found);
    return false;
  }
  entries_.splice(entries_.begin(), entries_, found->second);
  return true;
}

}  // namespace weir::proxy
