#include "agent/io/event_loop.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <optional>
#include <vector>

namespace weir::io {
namespace {

using std::chrono::milliseconds;

struct Recorder final : EventHandler {
  void OnEvents(std::uint32_t events) noexcept override {
    seen |= events;
    ++calls;
    if (action) {
      action();
    }
  }
  std::uint32_t seen = 0;
  int calls = 0;
  std::function<void()> action;
};

base::UniqueFd ReadyFd() {
  return base::UniqueFd(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
}

TEST(EventLoopTest, DeliversNothingForAWatchDestroyedInTheSameTurn) {
  base::ManualClock clock;
  auto loop = EventLoop::Create(clock).value();
  const auto first = ReadyFd();
  const auto second = ReadyFd();
  Recorder a;
  Recorder b;
  Watch watch_a = loop->Add(first.get(), EPOLLIN, a).value();
  Watch watch_b = loop->Add(second.get(), EPOLLIN, b).value();
  a.action = [&] { watch_b.Reset(); };
  b.action = [&] { watch_a.Reset(); };
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(a.calls + b.calls, 1);
  EXPECT_EQ(loop->watch_count(), 1U);
}

TEST(EventLoopTest, DoesNotMixUpAReusedSlot) {
  base::ManualClock clock;
  auto loop = EventLoop::Create(clock).value();
  const auto first = ReadyFd();
  const auto second = ReadyFd();
  const auto third = base::UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  Recorder a;
  Recorder b;
  Recorder c;
  Watch watch_a = loop->Add(first.get(), EPOLLIN, a).value();
  Watch watch_b = loop->Add(second.get(), EPOLLIN, b).value();
  Watch watch_c;
  const auto replace = [&](Watch& other) {
    return [&] {
      if (!watch_c.active()) {
        other.Reset();
        watch_c = loop->Add(third.get(), EPOLLIN, c).value();
      }
    };
  };
  a.action = replace(watch_b);
  b.action = replace(watch_a);
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(c.calls, 0);  // the event of the old owner of the slot is not its
}

TEST(EventLoopTest, DeliversNothingForAWatchClosedInTheSameTurn) {
  base::ManualClock clock;
  auto loop = EventLoop::Create(clock).value();
  auto first = ReadyFd();
  auto second = ReadyFd();
  Recorder a;
  Recorder b;
  Watch watch_a = loop->Add(first.get(), EPOLLIN, a).value();
  Watch watch_b = loop->Add(second.get(), EPOLLIN, b).value();
  a.action = [&] { watch_b.CloseWith(second); };
  b.action = [&] { watch_a.CloseWith(first); };
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(a.calls + b.calls, 1);
  EXPECT_EQ(first.valid() + second.valid(), 1);
  EXPECT_EQ(loop->watch_count(), 1U);
  // The number of a closed descriptor is used again at once.
  const auto third = ReadyFd();
  Recorder c;
  const Watch watch_c = loop->Add(third.get(), EPOLLIN, c).value();
  a.action = b.action = nullptr;
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(c.calls, 1);
  EXPECT_EQ(a.calls + b.calls, 2);
}

TEST(EventLoopTest, WantsMoreAtOnceAndLessOnlyByModify) {
  base::ManualClock clock;
  auto loop = EventLoop::Create(clock).value();
  const auto fd = ReadyFd();  // readable and writable
  Recorder recorder;
  Watch watch = loop->Add(fd.get(), EPOLLIN, recorder).value();
  watch.Want(EPOLLIN | EPOLLOUT);
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(recorder.seen, std::uint32_t{EPOLLIN | EPOLLOUT});
  watch.Want(EPOLLOUT);
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(recorder.calls, 2);
  recorder.seen = 0;
  watch.Modify(EPOLLOUT);
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(recorder.seen, std::uint32_t{EPOLLOUT});
}

TEST(EventLoopTest, FiresTimersInOrderAndOnlyOnce) {
  base::ManualClock clock;
  auto loop = EventLoop::Create(clock).value();
  std::vector<int> fired;
  Timer late(*loop, [&] { fired.push_back(3); });
  Timer early(*loop, [&] { fired.push_back(1); });
  Timer middle(*loop, [&] { fired.push_back(2); });
  Timer cancelled(*loop, [&] { fired.push_back(4); });
  late.Arm(milliseconds(30));
  early.Arm(milliseconds(10));
  middle.Arm(milliseconds(20));
  cancelled.Arm(milliseconds(15));
  cancelled.Cancel();
  loop->RunOnce(milliseconds(0));
  EXPECT_TRUE(fired.empty());
  clock.Advance(milliseconds(30));
  loop->RunOnce(milliseconds(0));
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(fired, (std::vector<int>{1, 2, 3}));
}

TEST(EventLoopTest, KeepsTheHeapRightWhenTimersMove) {
  base::ManualClock clock;
  auto loop = EventLoop::Create(clock).value();
  std::vector<std::size_t> fired;
  std::vector<std::unique_ptr<Timer>> timers;
  for (std::size_t i = 0; i < 50; ++i) {
    timers.push_back(std::make_unique<Timer>(*loop, [&fired, i] { fired.push_back(i); }));
    timers.back()->Arm(milliseconds(1 + (i * 37) % 50));
  }
  for (std::size_t i = 0; i < 50; i += 3) {
    timers[i]->Arm(milliseconds(100 + i));
  }
  for (std::size_t i = 1; i < 50; i += 3) {
    timers[i].reset();
  }
  clock.Advance(milliseconds(99));
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(fired.size(), 16U);  // i % 3 == 2
  clock.Advance(milliseconds(100));
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(fired.size(), 33U);
  EXPECT_TRUE(std::is_sorted(fired.begin() + 16, fired.end()));
}

TEST(EventLoopTest, ATimerThatArmsItselfDoesNotStallTheTurn) {
  base::ManualClock clock;
  auto loop = EventLoop::Create(clock).value();
  int fired = 0;
  std::optional<Timer> timer;
  timer.emplace(*loop, [&] {
    ++fired;
    timer->Arm(base::Nanoseconds(0));
  });
  timer->Arm(base::Nanoseconds(0));
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(fired, 1);
}

TEST(EventLoopTest, RunsDeferredWorkAtTheEndOfTheTurn) {
  base::ManualClock clock;
  auto loop = EventLoop::Create(clock).value();
  std::vector<int> order;
  loop->AtEndOfTurn([&] {
    order.push_back(2);
    loop->AtEndOfTurn([&] { order.push_back(3); });
  });
  Timer timer(*loop, [&] { order.push_back(1); });
  timer.Arm(base::Nanoseconds(0));
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(EventLoopTest, TellsHowLongEachTurnTook) {
  base::ManualClock clock;
  auto loop = EventLoop::Create(clock).value();
  std::vector<base::Nanoseconds> turns;
  loop->ObserveTurns([&](base::Nanoseconds turn) { turns.push_back(turn); });
  loop->AtEndOfTurn([&] { clock.Advance(milliseconds(7)); });
  loop->RunOnce(milliseconds(0));
  loop->RunOnce(milliseconds(0));
  EXPECT_EQ(turns, (std::vector<base::Nanoseconds>{milliseconds(7), milliseconds(0)}));
}

}  // namespace
}  // namespace weir::io
