#include "agent/http/trace_formats.h"

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "agent/http/hex.h"
#include "agent/http/token.h"
#include "agent/http/trace_context.h"

namespace weir::http {
namespace {

constexpr std::size_t kTraceDigits = 32;
constexpr std::size_t kSpanDigits = 16;

// Exactly 16 or 32 digits, not all zero.
bool ReadB3TraceId(std::string_view text, TraceId& id) {
  return (text.size() == kTraceDigits || text.size() == kSpanDigits) &&
         ReadShortHex(text, id, HexCase::kAny) && !IsZero(id);
}

bool ReadB3SpanId(std::string_view text, SpanId& id) {
  return text.size() == kSpanDigits && ReadShortHex(text, id, HexCase::kAny) && !IsZero(id);
}

std::optional<SamplingDecision> ReadB3State(std::string_view text) {
  if (text == "0") {
    return SamplingDecision::kDrop;
  }
  if (text == "1") {
    return SamplingDecision::kKeep;
  }
  return text == "d" ? std::optional(SamplingDecision::kDebug) : std::nullopt;
}

// Takes what is in front of the next `mark` off `rest`, and the mark; all of it without one.
std::string_view TakeUntil(std::string_view& rest, std::string_view mark) {
  const std::size_t end = rest.find(mark);
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + mark.size());
  return part;
}

std::string Hex(std::span<const std::uint8_t> bytes) {
  std::string text(2 * bytes.size(), '0');
  PutHex(bytes, text.data());
  return text;
}

}  // namespace

std::optional<ForeignContext> ParseB3Single(std::string_view value) {
  ForeignContext context;
  if (value.size() == 1) {
    const auto state = ReadB3State(value);
    return state ? std::optional(ForeignContext{.decision = *state}) : std::nullopt;
  }
  constexpr std::string_view kDash = "-";
  std::size_t dashes = 0;
  for (const char c : value) {
    dashes += c == '-' ? 1 : 0;
  }
  if (dashes < 1 || dashes > 3 || !ReadB3TraceId(TakeUntil(value, kDash), context.trace_id) ||
      !ReadB3SpanId(TakeUntil(value, kDash), context.span_id)) {
    return std::nullopt;
  }
  if (dashes >= 2) {
    const auto state = ReadB3State(TakeUntil(value, kDash));
    if (!state) {
      return std::nullopt;
    }
    context.decision = *state;
  }
  SpanId parent{};
  if (dashes == 3 && !ReadB3SpanId(value, parent)) {
    return std::nullopt;
  }
  return context;
}

std::optional<ForeignContext> ParseB3Multi(const B3Fields& fields) {
  ForeignContext context;
  if (fields.flags == "1") {
    context.decision = SamplingDecision::kDebug;
  } else if (fields.sampled == "1" || EqualsIgnoreCase(fields.sampled, "true")) {
    context.decision = SamplingDecision::kKeep;
  } else if (fields.sampled == "0" || EqualsIgnoreCase(fields.sampled, "false")) {
    context.decision = SamplingDecision::kDrop;
  } else if (!fields.sampled.empty()) {
    return std::nullopt;
  }
  if (fields.trace_id.empty() && fields.span_id.empty()) {
    return context.decision != SamplingDecision::kNone ? std::optional(context) : std::nullopt;
  }
  if (!ReadB3TraceId(fields.trace_id, context.trace_id) ||
      !ReadB3SpanId(fields.span_id, context.span_id)) {
    return std::nullopt;
  }
  return context;
}

std::optional<ForeignContext> ParseUberTraceId(std::string_view value) {
  std::string decoded;
  if (value.find('%') != std::string_view::npos) {
    while (!value.empty()) {
      const bool is_colon = EqualsIgnoreCase(value.substr(0, 3), "%3a");
      decoded += is_colon ? ':' : value.front();
      value.remove_prefix(is_colon ? 3 : 1);
    }
    value = decoded;
  }
  constexpr std::string_view kColon = ":";
  constexpr std::uint8_t kSampledBit = 1;
  constexpr std::uint8_t kDebugBit = 2;
  std::size_t colons = 0;
  for (const char c : value) {
    colons += c == ':' ? 1 : 0;
  }
  ForeignContext context;
  SpanId parent{};
  std::array<std::uint8_t, 1> flags{};
  if (colons != 3 || !ReadShortHex(TakeUntil(value, kColon), context.trace_id, HexCase::kAny) ||
      !ReadShortHex(TakeUntil(value, kColon), context.span_id, HexCase::kAny)) {
    return std::nullopt;
  }
  const std::string_view parent_text = TakeUntil(value, kColon);
  if ((!parent_text.empty() && !ReadShortHex(parent_text, parent, HexCase::kAny)) ||
      !ReadShortHex(value, flags, HexCase::kAny) || IsZero(context.trace_id) ||
      IsZero(context.span_id)) {
    return std::nullopt;
  }
  context.decision =
      (flags[0] & kSampledBit) != 0 ? SamplingDecision::kKeep : SamplingDecision::kDrop;
  if ((flags[0] & kDebugBit) != 0) {
    context.decision = SamplingDecision::kDebug;
  }
  return context;
}

std::string FormatTraceId(const TraceId& id) {
  return Hex(id);
}

std::string FormatSpanId(const SpanId& id) {
  return Hex(id);
}

std::string FormatB3Single(const OutgoingContext& context) {
  std::string text = Hex(context.parent.trace_id);
  text += '-';
  text += Hex(context.parent.span_id);
  text += context.debug ? "-d" : context.sampled() ? "-1" : "-0";
  return text;
}

std::string FormatUberTraceId(const OutgoingContext& context) {
  std::string text = Hex(context.parent.trace_id);
  text += ':';
  text += Hex(context.parent.span_id);
  text += ":0:";
  text += context.debug ? '3' : context.sampled() ? '1' : '0';
  return text;
}

}  // namespace weir::http
