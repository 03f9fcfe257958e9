#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/base/unique_fd.h"

namespace weir::base {

// Mailbox hands whole values from any thread to one owner thread, without a lock:
// a stack of nodes that the owner takes whole. event_fd() becomes readable when
// there is something to drain. Unbounded: whoever posts per request or per
// connection bounds its posts itself.
template <typename T>
class Mailbox {
 public:
  static Result<Mailbox> Create() {
    UniqueFd fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!fd.valid()) {
      return SystemError("create eventfd of a mailbox");
    }
    return Mailbox(std::move(fd));
  }
  Mailbox(Mailbox&& other) noexcept
      : head_(other.head_.exchange(nullptr)), event_fd_(std::move(other.event_fd_)) {}
  Mailbox& operator=(Mailbox&&) = delete;
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  ~Mailbox() { (void)Drain(); }

  // Any thread.
  void Post(T value) {
    Node* below = head_.load(std::memory_order_relaxed);
    auto* node = new Node{std::move(value), below};
    while (!head_.compare_exchange_weak(below, node, std::memory_order_release,
                                        std::memory_order_relaxed)) {
      node->next = below;
    }
    if (below != nullptr) {
      return;  // whoever posted the lowest node wakes the owner
    }
    const std::uint64_t one = 1;
    // EAGAIN means that the counter is full, so the owner will wake anyway.
    (void)!::write(event_fd_.get(), &one, sizeof(one));
  }

  // Owner thread: everything posted so far, oldest first.
  [[nodiscard]] std::vector<T> Drain() {
    if (event_fd_.valid()) {
      std::uint64_t count = 0;
      (void)!::read(event_fd_.get(), &count, sizeof(count));
    }
    Node* node = head_.exchange(nullptr, std::memory_order_acquire);
    Node* oldest = nullptr;
    while (node != nullptr) {
      Node* next = node->next;
      node->next = oldest;
      oldest = node;
      node = next;
    }
    std::vector<T> values;
    while (oldest != nullptr) {
      values.push_back(std::move(oldest->value));
      delete std::exchange(oldest, oldest->next);
    }
    return values;
  }

  [[nodiscard]] int event_fd() const { return event_fd_.get(); }

 private:
  struct Node {
    T value;
    Node* next;
  };
  explicit Mailbox(UniqueFd fd) : event_fd_(std::move(fd)) {}

  std::atomic<Node*> head_{nullptr};
  UniqueFd event_fd_;
};

}  // namespace weir::base
