#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/error.h"
#include "agent/base/unique_fd.h"

namespace weir::io {

class EventLoop;

// EventHandler is told what epoll saw on its descriptor (EPOLLIN, EPOLLOUT, EPOLLERR,
// EPOLLHUP, EPOLLRDHUP). It may destroy itself and others' watches inside the call.
class EventHandler {
 public:
  EventHandler() = default;
  EventHandler(const EventHandler&) = delete;
  EventHandler& operator=(const EventHandler&) = delete;
  virtual void OnEvents(std::uint32_t events) noexcept = 0;

 protected:
  ~EventHandler() = default;
};

// Watch keeps one descriptor in a loop; destroying it takes the descriptor out, and no
// event of it is delivered afterwards, even in the same turn. Destroy it before closing
// the descriptor and before the loop.
class Watch {
 public:
  Watch() = default;
  Watch(Watch&& other) noexcept;
  Watch& operator=(Watch&& other) noexcept;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { Reset(); }

  [[nodiscard]] bool active() const { return loop_ != nullptr; }
  // Changes the events waited for (EPOLLIN | ...); no system call if they are the same.
  void Modify(std::uint32_t events);
  // Modify, unless all of `events` are waited for already. For a handler that calls Modify
  // when it is told of what it does not want: that often never comes, and saves the call.
  void Want(std::uint32_t events);
  void Reset();
  // Reset, and closes the descriptor that is watched, given as `fd`: the kernel forgets a
  // descriptor that is closed, so this saves a system call. No other descriptor may be open
  // for the same socket.
  void CloseWith(base::UniqueFd& fd);

 private:
  friend class EventLoop;
  Watch(EventLoop* loop, std::uint32_t slot) : loop_(loop), slot_(slot) {}
  void GiveSlotBack();
  EventLoop* loop_ = nullptr;
  std::uint32_t slot_ = 0;
};

// Timer calls back once per Arm. Owned by what it calls; destroying it cancels it.
class Timer {
 public:
  Timer(EventLoop& loop, std::function<void()> callback)
      : loop_(loop), callback_(std::move(callback)) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { Cancel(); }

  // (Re)starts the timer; fires in the first turn after `delay` has gone by.
  void Arm(base::Nanoseconds delay);
  void Cancel();
  [[nodiscard]] bool armed() const { return index_ != kNotArmed; }

 private:
  friend class EventLoop;
  static constexpr std::size_t kNotArmed = static_cast<std::size_t>(-1);
  EventLoop& loop_;
  std::function<void()> callback_;
  base::MonotonicTime deadline_{};
  std::size_t index_ = kNotArmed;  // in the loop's heap
};

// EventLoop is one thread's epoll loop: descriptors, timers, and work deferred to the
// end of the turn (where tunnels flush what a turn produced, and dead objects go).
class EventLoop {
 public:
  static base::Result<std::unique_ptr<EventLoop>> Create(const base::Clock& clock);
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  ~EventLoop();

  // Watches `fd` (not owned) for `events`; `handler` must outlive the Watch.
  base::Result<Watch> Add(int fd, std::uint32_t events, EventHandler& handler);
  // Runs `task` once at the end of this turn, in the order of the calls; tasks that a
  // task defers run in the same end.
  void AtEndOfTurn(std::function<void()> task);
  // Time at the start of this turn: cheap, for timestamps and timers.
  [[nodiscard]] base::MonotonicTime now() const { return now_; }
  [[nodiscard]] const base::Clock& clock() const { return clock_; }

  // One turn: waits at most `most` (or until a timer is due), then handlers, due
  // timers, and the deferred work. Negative waits without bound.
  void RunOnce(base::Nanoseconds most);
  // `observer` is told at the end of each turn how long it took from the end of its wait on:
  // what an event that came meanwhile waited for. It must not throw.
  void ObserveTurns(std::function<void(base::Nanoseconds)> observer) {
    observer_ = std::move(observer);
  }
  // Turns until Stop() was called.
  void Run();
  // Owner thread only; other threads post to a mailbox that the loop watches.
  void Stop() { stopping_ = true; }

  [[nodiscard]] std::size_t watch_count() const { return watch_count_; }

 private:
  friend class Watch;
  friend class Timer;
  struct Slot {
    EventHandler* handler = nullptr;
    int fd = -1;
    std::uint32_t events = 0;
    std::uint32_t generation = 0;
  };

  EventLoop(const base::Clock& clock, base::UniqueFd epoll);
  void Dispatch(const epoll_event& event);
  void FireTimers();
  void RunDeferred();
  [[nodiscard]] int TimeoutMilliseconds(base::Nanoseconds most) const;
  void PlaceTimer(std::size_t index, Timer* timer);
  void SiftUp(std::size_t index);
  void SiftDown(std::size_t index);
  void RemoveTimer(Timer& timer);

  const base::Clock& clock_;
  base::UniqueFd epoll_;
  base::MonotonicTime now_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::vector<Timer*> timers_;  // binary heap by deadline
  std::vector<std::function<void()>> deferred_;
  std::vector<epoll_event> events_;
  std::function<void(base::Nanoseconds)> observer_;
  std::size_t watch_count_ = 0;
  bool stopping_ = false;
};

}  // namespace weir::io
