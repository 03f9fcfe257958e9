#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "agent/http/window.h"

namespace weir::http {

class TunnelStreamHandler;
using TunnelStreamId = std::uint32_t;

// TunnelStreamState is all that a tunnel knows of one stream.
struct TunnelStreamState {
  TunnelStreamHandler* handler = nullptr;  // null: nobody listens
  TunnelStreamId id = 0;                   // 0: the slot is free
  std::int32_t send_window = 0;            // may be negative (RFC 9113 section 6.9.2)
  ReceiveWindow receive;
  bool answered : 1 = false;      // 2xx was sent or received
  bool local_ended : 1 = false;   // we sent END_STREAM
  bool remote_ended : 1 = false;  // the peer did
  bool wants_write : 1 = false;   // a Write came up short: OnWritable is owed
  bool queued : 1 = false;        // is in the queue for tunnel credit
  [[nodiscard]] bool ended() const { return local_ended && remote_ended; }
};

// StreamTable finds streams by id: open addressing in one flat array, so that an idle
// stream costs its state and nothing else. Pointers are valid until Insert or Erase.
class StreamTable {
 public:
  [[nodiscard]] TunnelStreamState* Find(TunnelStreamId id);
  // `id` is not in the table.
  TunnelStreamState& Insert(TunnelStreamId id);
  void Erase(TunnelStreamId id);
  [[nodiscard]] std::size_t size() const { return size_; }
  // Any stream; the table is not empty.
  [[nodiscard]] TunnelStreamState& Any();
  template <typename Function>
  void ForEach(Function function) {
    for (TunnelStreamState& slot : slots_) {
      if (slot.id != 0) {
        function(slot);
      }
    }
  }
  [[nodiscard]] std::size_t memory_bytes() const { return slots_.capacity() * sizeof(slots_[0]); }

 private:
  [[nodiscard]] std::size_t Home(TunnelStreamId id) const;
  void Rehash(std::size_t capacity);

  std::vector<TunnelStreamState> slots_;  // a power of two, or none
  std::size_t size_ = 0;
  std::size_t any_ = 0;  // where Any looks first
};

}  // namespace weir::http
