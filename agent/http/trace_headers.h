#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "agent/http/trace_context.h"
#include "agent/http/trace_formats.h"

// Trace contexts in a request's headers, whichever HTTP version carried them: read in every
// format that weir knows, written in W3C's and in those that came.
namespace weir::http {

// In the order of precedence.
enum class TraceFormat : std::uint8_t { kW3c, kB3Single, kB3Multi, kUber };
inline constexpr std::size_t kTraceFormatCount = 4;

// A set of formats.
class TraceFormats {
 public:
  constexpr TraceFormats() = default;
  constexpr explicit TraceFormats(std::uint8_t bits) : bits_(bits) {}
  constexpr void Add(TraceFormat format) { bits_ |= Bit(format); }
  constexpr void Add(TraceFormats others) { bits_ |= others.bits_; }
  [[nodiscard]] constexpr bool Has(TraceFormat format) const { return (bits_ & Bit(format)) != 0; }
  [[nodiscard]] constexpr std::uint8_t bits() const { return bits_; }
  friend constexpr bool operator==(TraceFormats, TraceFormats) = default;

 private:
  static constexpr std::uint8_t Bit(TraceFormat format) {
    return static_cast<std::uint8_t>(1U << static_cast<unsigned>(format));
  }
  std::uint8_t bits_ = 0;
};

// One header; the name in lower case where weir writes it.
struct HeaderView {
  std::string_view name;
  std::string_view value;
};

enum class TraceHeader : std::uint8_t {
  kNone,
  kTraceParent,
  kTraceState,
  kB3,
  kB3TraceId,
  kB3SpanId,
  kB3ParentSpanId,
  kB3Sampled,
  kB3Flags,
  kUberTraceId,
};
inline constexpr std::size_t kTraceHeaderCount =
    static_cast<std::size_t>(TraceHeader::kUberTraceId) + 1;

// Which trace header `name`, in any letter case, is. Pure; any thread.
TraceHeader IdentifyTraceHeader(std::string_view name);

// What a request's headers say about its trace.
struct TraceContext {
  TraceId trace_id{};       // zero: none that is valid
  SpanId parent_span_id{};  // zero with the above
  std::uint8_t flags = 0;   // of the traceparent: kRandomFlag and, as decided, kSampledFlag
  // Whether the caller decided on sampling: always below a traceparent; B3 can leave it open,
  // and can decide without naming a trace.
  SamplingDecision decision = SamplingDecision::kNone;
  TraceFormats formats{};     // those that came, valid or not: what is answered in
  std::string trace_state{};  // of a valid traceparent; empty if it was bad or not asked for

  [[nodiscard]] bool has_parent() const { return trace_id != TraceId{}; }
};

// TraceHeaders gathers the trace headers of one request, in their order. Values must live
// until Read. Reused from request to request. One thread.
class TraceHeaders {
 public:
  TraceHeaders() = default;
  TraceHeaders(const TraceHeaders&) = delete;
  TraceHeaders& operator=(const TraceHeaders&) = delete;
  ~TraceHeaders() = default;

  void Clear();
  // Takes one header, of any kind. True if it is a trace header: one that has to go when
  // weir writes its own.
  bool Note(std::string_view name, std::string_view value);
  // Reads what was gathered: the first valid context in the order of precedence. A header
  // that stands there twice, other than tracestate, voids its format; an empty one is as
  // none. Where a second format names the same trace its debug flag counts too.
  [[nodiscard]] TraceContext Read(bool with_state) const;

 private:
  struct Slot {
    std::string_view value;
    std::uint32_t count = 0;
  };
  [[nodiscard]] const Slot& At(TraceHeader which) const {
    return slots_[static_cast<std::size_t>(which)];
  }
  [[nodiscard]] bool Came(TraceFormat format) const;
  [[nodiscard]] std::optional<ForeignContext> ReadForeign(TraceFormat format) const;

  std::array<Slot, kTraceHeaderCount> slots_{};
  std::string joined_state_;  // of more than one tracestate
};

// The headers that one request is sent on with.
class OutgoingTraceHeaders {
 public:
  // W3C's, and those of `formats`. `trace_state` must outlive this object; empty: none.
  OutgoingTraceHeaders(const OutgoingContext& context, std::string_view trace_state,
                       TraceFormats formats);
  OutgoingTraceHeaders(const OutgoingTraceHeaders&) = delete;
  OutgoingTraceHeaders& operator=(const OutgoingTraceHeaders&) = delete;
  ~OutgoingTraceHeaders() = default;

  // Names in lower case. The views die with this object.
  [[nodiscard]] std::span<const HeaderView> all() const { return {views_.data(), count_}; }

 private:
  void Add(std::string_view name, std::string_view value) { views_[count_++] = {name, value}; }

  std::array<char, kTraceParentBytes> parent_{};
  std::string trace_id_;
  std::string span_id_;
  std::string b3_;
  std::string uber_;
  std::array<HeaderView, 7> views_;
  std::size_t count_ = 0;
};

}  // namespace weir::http
