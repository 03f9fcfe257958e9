#include "agent/io/event_loop.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "agent/base/check.h"

namespace weir::io {
namespace {
constexpr std::size_t kEventsPerTurn = 256;
constexpr unsigned kGenerationShift = 32;
}  // namespace

Watch::Watch(Watch&& other) noexcept
    : loop_(std::exchange(other.loop_, nullptr)), slot_(other.slot_) {}

Watch& Watch::operator=(Watch&& other) noexcept {
  if (this != &other) {
    Reset();
    loop_ = std::exchange(other.loop_, nullptr);
    slot_ = other.slot_;
  }
  return *this;
}

void Watch::Modify(std::uint32_t events) {
  WEIR_CHECK(loop_ != nullptr);
  EventLoop::Slot& slot = loop_->slots_[slot_];
  if (slot.events == events) {
    return;
  }
  epoll_event event{};
  event.events = events;
  event.data.u64 = (std::uint64_t{slot.generation} << kGenerationShift) | slot_;
  // The descriptor was accepted by EPOLL_CTL_ADD and is still open: this cannot fail.
  WEIR_CHECK(::epoll_ctl(loop_->epoll_.get(), EPOLL_CTL_MOD, slot.fd, &event) == 0);
  slot.events = events;
}

void Watch::Want(std::uint32_t events) {
  WEIR_CHECK(loop_ != nullptr);
  if ((events & ~loop_->slots_[slot_].events) != 0U) {
    Modify(events);
  }
}

void Watch::Reset() {
  if (loop_ != nullptr) {
    const int fd = loop_->slots_[slot_].fd;
    (void)::epoll_ctl(loop_->epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);  // gone either way
    GiveSlotBack();
  }
}

void Watch::CloseWith(base::UniqueFd& fd) {
  if (loop_ != nullptr) {
    WEIR_CHECK(loop_->slots_[slot_].fd == fd.get());
    GiveSlotBack();
  }
  fd.Reset();
}

// Events of it that the loop has already fetched find another generation.
void Watch::GiveSlotBack() {
  EventLoop::Slot& slot = loop_->slots_[slot_];
  slot = EventLoop::Slot{.generation = slot.generation + 1};
  loop_->free_slots_.push_back(slot_);
  --loop_->watch_count_;
  loop_ = nullptr;
}

void Timer::Arm(base::Nanoseconds delay) {
  deadline_ = loop_.now() + delay;
  if (armed()) {
    loop_.SiftUp(index_);
    loop_.SiftDown(index_);
    return;
  }
  loop_.timers_.push_back(this);
  index_ = loop_.timers_.size() - 1;
  loop_.SiftUp(index_);
}

void Timer::Cancel() {
  if (armed()) {
    loop_.RemoveTimer(*this);
  }
}

base::Result<std::unique_ptr<EventLoop>> EventLoop::Create(const base::Clock& clock) {
  base::UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) {
    return base::SystemError("create epoll");
  }
  return std::unique_ptr<EventLoop>(new EventLoop(clock, std::move(epoll)));
}

EventLoop::EventLoop(const base::Clock& clock, base::UniqueFd epoll)
    : clock_(clock), epoll_(std::move(epoll)), now_(clock.Now()), events_(kEventsPerTurn) {}

EventLoop::~EventLoop() {
  for (Timer* timer : timers_) {
    timer->index_ = Timer::kNotArmed;
  }
}

base::Result<Watch> EventLoop::Add(int fd, std::uint32_t events, EventHandler& handler) {
  std::uint32_t index = 0;
  if (free_slots_.empty()) {
    index = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    index = free_slots_.back();
    free_slots_.pop_back();
  }
  Slot& slot = slots_[index];
  epoll_event event{};
  event.events = events;
  event.data.u64 = (std::uint64_t{slot.generation} << kGenerationShift) | index;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    free_slots_.push_back(index);
    return base::SystemError("add a descriptor to epoll");
  }
  slot.handler = &handler;
  slot.fd = fd;
  slot.events = events;
  ++watch_count_;
  return Watch(this, index);
}

void EventLoop::AtEndOfTurn(std::function<void()> task) {
  deferred_.push_back(std::move(task));
}

void EventLoop::Run() {
  while (!stopping_) {
    RunOnce(base::Nanoseconds(-1));
  }
  stopping_ = false;
}

int EventLoop::TimeoutMilliseconds(base::Nanoseconds most) const {
  if (!deferred_.empty()) {
    return 0;
  }
  auto wait = most;
  if (!timers_.empty()) {
    const auto due = std::max(timers_.front()->deadline_ - clock_.Now(), base::Nanoseconds(0));
    wait = wait.count() < 0 ? due : std::min(wait, due);
  }
  if (wait.count() < 0) {
    return -1;
  }
  const auto rounded = std::chrono::ceil<std::chrono::milliseconds>(wait).count();
  return static_cast<int>(std::min<std::int64_t>(rounded, 3'600'000));
}

void EventLoop::RunOnce(base::Nanoseconds most) {
  const int ready = ::epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()),
                                 TimeoutMilliseconds(most));
  now_ = clock_.Now();
  for (int i = 0; i < ready; ++i) {
    Dispatch(events_[static_cast<std::size_t>(i)]);
  }
  FireTimers();
  RunDeferred();
  if (observer_) {
    observer_(clock_.Now() - now_);
  }
}

void EventLoop::Dispatch(const epoll_event& event) {
  const auto index = static_cast<std::uint32_t>(event.data.u64);
  const auto generation = static_cast<std::uint32_t>(event.data.u64 >> kGenerationShift);
  const Slot& slot = slots_[index];
  if (slot.handler != nullptr && slot.generation == generation) {
    slot.handler->OnEvents(event.events);
  }
}

void EventLoop::FireTimers() {
  // A timer that is armed again while firing waits for the next turn.
  std::size_t budget = timers_.size();
  while (budget > 0 && !timers_.empty() && timers_.front()->deadline_ <= now_) {
    --budget;
    Timer& timer = *timers_.front();
    RemoveTimer(timer);
    timer.callback_();
  }
}

void EventLoop::RunDeferred() {
  while (!deferred_.empty()) {
    std::vector<std::function<void()>> tasks;
    tasks.swap(deferred_);
    for (auto& task : tasks) {
      task();
    }
  }
}

void EventLoop::PlaceTimer(std::size_t index, Timer* timer) {
  timers_[index] = timer;
  timer->index_ = index;
}

void EventLoop::SiftUp(std::size_t index) {
  Timer* timer = timers_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (timers_[parent]->deadline_ <= timer->deadline_) {
      break;
    }
    PlaceTimer(index, timers_[parent]);
    index = parent;
  }
  PlaceTimer(index, timer);
}

void EventLoop::SiftDown(std::size_t index) {
  Timer* timer = timers_[index];
  for (;;) {
    std::size_t child = index * 2 + 1;
    if (child >= timers_.size()) {
      break;
    }
    if (child + 1 < timers_.size() && timers_[child + 1]->deadline_ < timers_[child]->deadline_) {
      ++child;
    }
    if (timer->deadline_ <= timers_[child]->deadline_) {
      break;
    }
    PlaceTimer(index, timers_[child]);
    index = child;
  }
  PlaceTimer(index, timer);
}

void EventLoop::RemoveTimer(Timer& timer) {
  const std::size_t index = timer.index_;
  timer.index_ = Timer::kNotArmed;
  Timer* last = timers_.back();
  timers_.pop_back();
  if (last != &timer) {
    PlaceTimer(index, last);
    SiftUp(index);
    SiftDown(last->index_);
  }
}

}  // namespace weir::io
