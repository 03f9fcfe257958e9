#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <unordered_map>

#include "agent/base/clock.h"
#include "agent/base/ip.h"

namespace weir::proxy {

// OpaqueMemory remembers the destinations whose server spoke first, so that their next
// connection is passed through without waiting for the client's first bytes. At most
// kLimit, the least recently used goes; each for kLifetime, so that a server that was
// replaced is looked at again. One thread.
class OpaqueMemory {
 public:
  static constexpr std::size_t kLimit = 1024;
  static constexpr std::chrono::minutes kLifetime{10};

  void Remember(const base::Endpoint& destination, base::MonotonicTime now);
  [[nodiscard]] bool Knows(const base::Endpoint& destination, base::MonotonicTime now);
  [[nodiscard]] std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    base::Endpoint destination;
    base::MonotonicTime learnt;
  };
  std::list<Entry> entries_;  // most recently used first
  std::unordered_map<base::Endpoint, std::list<Entry>::iterator, base::IpHash> index_;
};

}  // namespace weir::proxy
