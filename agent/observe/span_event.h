#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "agent/observe/record.h"

namespace weir::observe {

// A moment inside a span. docs/tracing.md lists the names.
struct SpanEvent {
  std::string_view name;
  base::Nanoseconds after{0};  // the span's start; within the span
};

// The moments that split a request's time, by their time. What did not happen is not there.
class SpanEvents {
 public:
  explicit SpanEvents(const Timing& timing);
  [[nodiscard]] const SpanEvent* begin() const { return events_.data(); }
  [[nodiscard]] const SpanEvent* end() const { return events_.data() + count_; }
  [[nodiscard]] std::size_t size() const { return count_; }

 private:
  std::array<SpanEvent, 3> events_{};
  std::size_t count_ = 0;
};

}  // namespace weir::observe
