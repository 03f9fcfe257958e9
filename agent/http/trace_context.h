#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

// W3C Trace Context, level 2: the headers traceparent and tracestate.
namespace weir::http {

using TraceId = std::array<std::uint8_t, 16>;
using SpanId = std::array<std::uint8_t, 8>;

inline constexpr std::uint8_t kSampledFlag = 1;
inline constexpr std::uint8_t kRandomFlag = 2;  // the trace id's low 56 bits are random
inline constexpr std::size_t kTraceParentBytes = 55;
inline constexpr std::size_t kMaxTraceStateBytes = 512;  // what is carried of a tracestate
inline constexpr std::size_t kMaxTraceStateMembers = 32;

struct TraceParent {
  TraceId trace_id{};
  SpanId span_id{};
  std::uint8_t flags = 0;  // kSampledFlag and kRandomFlag; other bits are dropped
};

enum class TraceContextError : std::uint8_t {
  kMalformed,
  kBadVersion,
  kZeroId,
  kTooManyMembers,
};

// Parses the value of the one traceparent field, white space around allowed. A version
// above 00 is read by the rules of 00. Pure; any thread.
std::expected<TraceParent, TraceContextError> ParseTraceParent(std::string_view value);

// "00-<32 digits>-<16 digits>-<2 digits>".
std::array<char, kTraceParentBytes> FormatTraceParent(const TraceParent& parent);

// Checks a tracestate (repeated fields joined by commas, in order) and gives it in its
// short form: no white space, no empty members, at most kMaxTraceStateBytes: whole members
// go, those above 128 characters first, then from the end. An error: drop all of it, which
// says nothing against the traceparent.
std::expected<std::string, TraceContextError> ParseTraceState(std::string_view joined);

// The 56 random bits that a trace is sampled by: `rv` of the tracestate's `ot` member if it
// has a valid one, else the low bits of the trace id. `trace_state` as ParseTraceState gives
// it. (OpenTelemetry, TraceState: probability sampling.)
std::uint64_t RandomnessOf(const TraceId& trace_id, std::string_view trace_state);

// `trace_state` with the sampling threshold set to `threshold` (digits; empty: none), and the
// other sub-keys of the `ot` member, such as `rv`, kept. A member that says something comes
// first; one that is too long for its other sub-keys loses them. Keeps the limits of
// ParseTraceState.
std::string WithThreshold(std::string_view trace_state, std::string_view threshold);

// The head sampling decision for a trace that begins here, by consistent probability
// sampling: the same random bits give the same answer everywhere, and a higher ratio keeps
// all that a lower one kept.
class RatioSampler {
 public:
  explicit RatioSampler(double ratio);  // clamped to 0..1
  [[nodiscard]] bool Keeps(std::uint64_t randomness) const { return randomness >= threshold_; }
  [[nodiscard]] bool Keeps(const TraceId& trace_id) const {
    return Keeps(RandomnessOf(trace_id, {}));
  }
  // `th` of the tracestate of a kept root, "fd70a4" for 1 %, "0" when all are kept.
  [[nodiscard]] const std::string& threshold() const { return digits_; }
  // The whole member, "ot=th:fd70a4".
  [[nodiscard]] const std::string& member() const { return member_; }

 private:
  std::uint64_t threshold_;  // of the 56 bits: below is dropped
  std::string digits_;
  std::string member_;
};

// IdGenerator makes trace and span ids: xoshiro256++, seeded by the kernel's random
// generator. Unique, not secret. One thread.
class IdGenerator {
 public:
  IdGenerator();                             // ends the process if the kernel gives no random bytes
  explicit IdGenerator(std::uint64_t seed);  // repeatable, for tests
  TraceId NewTraceId();                      // never zero
  SpanId NewSpanId();                        // never zero

 private:
  std::uint64_t Next();
  std::array<std::uint64_t, 4> state_{};
};

}  // namespace weir::http
