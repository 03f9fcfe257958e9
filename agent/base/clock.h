#pragma once

#include <chrono>

namespace weir::base {

using Nanoseconds = std::chrono::nanoseconds;
// Monotonic, for timers and durations.
using MonotonicTime = std::chrono::time_point<std::chrono::steady_clock, Nanoseconds>;
// Wall clock (UTC since 1970), for timestamps in records and for certificates.
using WallTime = std::chrono::time_point<std::chrono::system_clock, Nanoseconds>;

// Clock is injected wherever time matters, so that tests turn it by hand.
class Clock {
 public:
  Clock() = default;
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
  virtual ~Clock() = default;
  [[nodiscard]] virtual MonotonicTime Now() const = 0;
  [[nodiscard]] virtual WallTime WallNow() const = 0;
};

// The machine's clock; any thread; lives as long as the process.
const Clock& SystemClock();

// A clock that moves only when told to. One thread.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] MonotonicTime Now() const override { return now_; }
  [[nodiscard]] WallTime WallNow() const override { return wall_; }
  void Advance(Nanoseconds step) {
    now_ += step;
    wall_ += step;
  }
  // A step of the wall clock alone, as NTP or an operator makes it.
  void StepWall(Nanoseconds step) { wall_ += step; }

 private:
  MonotonicTime now_{std::chrono::hours(1)};
  WallTime wall_{std::chrono::seconds(1'800'000'000)};
};

}  // namespace weir::base
