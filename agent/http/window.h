#pragma once

#include <algorithm>
#include <cstdint>

namespace weir::http {

// WindowBudget bounds what the receive windows of all tunnels of a worker announce
// together, which is what their peers may make us hold. Outlives the tunnels. One thread.
class WindowBudget {
 public:
  explicit WindowBudget(std::uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  WindowBudget(const WindowBudget&) = delete;
  WindowBudget& operator=(const WindowBudget&) = delete;

  // Takes `bytes` if there are so many; all or nothing.
  [[nodiscard]] bool Take(std::uint64_t bytes) {
    if (bytes > limit_bytes_ - std::min(used_bytes_, limit_bytes_)) {
      return false;
    }
    used_bytes_ += bytes;
    return true;
  }
  void Give(std::uint64_t bytes) { used_bytes_ -= bytes; }
  void set_limit_bytes(std::uint64_t limit_bytes) { limit_bytes_ = limit_bytes; }
  [[nodiscard]] std::uint64_t used_bytes() const { return used_bytes_; }
  [[nodiscard]] std::uint64_t limit_bytes() const { return limit_bytes_; }

 private:
  std::uint64_t limit_bytes_;
  std::uint64_t used_bytes_ = 0;
};

// ReceiveWindow is our side of one flow-control window (RFC 9113 section 5.2). Every byte
// that the peer may send is in exactly one place: still announced (`available`), handed on
// but not yet returned by the consumer (`held`), or returned and not yet announced again
// (`returned`); together they are `target`, unless the target was just raised.
struct ReceiveWindow {
  std::uint32_t available = 0;
  std::uint32_t held = 0;
  std::uint32_t returned = 0;
  std::uint32_t target = 0;
  std::uint32_t updated_us = 0;  // when the last WINDOW_UPDATE went out; wraps

  // Whether half of the window is to be announced again: few updates, and the peer never
  // runs dry if the consumer keeps up.
  [[nodiscard]] bool UpdateDue() const { return returned > 0 && returned >= target / 2; }
  // The same for a window of many consumers, where half is counted of what they do not
  // hold: else stopped ones that hold half would keep the others' credit from going out.
  [[nodiscard]] bool SharedUpdateDue() const {
    return returned > 0 && returned >= (target - std::min(target, held)) / 2;
  }
  // Takes what is to be announced now.
  std::uint32_t TakeUpdate() {
    const std::uint32_t increment = returned;
    available += increment;
    returned = 0;
    return increment;
  }
  // A larger target is announced with the next update.
  void Raise(std::uint32_t larger) {
    returned += larger - target;
    target = larger;
  }
};

}  // namespace weir::http
