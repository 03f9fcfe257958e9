#include "agent/http/trace_context.h"

#include <sys/random.h>
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/check.h"
#include "agent/http/hex.h"
#include "agent/http/token.h"

namespace weir::http {
namespace {

constexpr unsigned kRandomBits = 56;
constexpr std::uint64_t kRandomRange = std::uint64_t{1} << kRandomBits;

// key = ( lcalpha / DIGIT ) 0*255( lcalpha / DIGIT / "_" / "-" / "*" / "/" / "@" )
bool IsStateKey(std::string_view key) {
  constexpr std::size_t kMaxKeyBytes = 256;
  if (key.empty() || key.size() > kMaxKeyBytes) {
    return false;
  }
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return plain(key.front()) && std::ranges::all_of(key, [&](char c) {
           return plain(c) || c == '_' || c == '-' || c == '*' || c == '/' || c == '@';
         });
}

constexpr std::size_t kMaxStateValueBytes = 256;

// 0*255( chr ) nblk-chr: printable ASCII but "," and "=", not ending in a space.
bool IsStateValue(std::string_view value) {
  if (value.empty() || value.size() > kMaxStateValueBytes || value.back() == ' ') {
    return false;
  }
  return std::ranges::all_of(value,
                             [](char c) { return c >= ' ' && c <= '~' && c != ',' && c != '='; });
}

std::size_t JoinedBytes(std::span<const std::string_view> members) {
  std::size_t total = members.empty() ? 0 : members.size() - 1;
  for (const std::string_view member : members) {
    total += member.size();
  }
  return total;
}

// Takes whole members out until the rest fits: long ones first, then from the end.
void CutMembers(std::vector<std::string_view>& members) {
  constexpr std::size_t kLongMemberBytes = 128;
  for (std::size_t i = members.size(); i > 0 && JoinedBytes(members) > kMaxTraceStateBytes; --i) {
    if (members[i - 1].size() > kLongMemberBytes) {
      members.erase(members.begin() + static_cast<std::ptrdiff_t>(i - 1));
    }
  }
  while (JoinedBytes(members) > kMaxTraceStateBytes) {
    members.pop_back();
  }
}

std::string Join(std::span<const std::string_view> members) {
  std::string joined;
  joined.reserve(JoinedBytes(members));
  for (const std::string_view member : members) {
    if (!joined.empty()) {
      joined += ',';
    }
    joined += member;
  }
  return joined;
}

std::uint64_t LowRandomBits(const TraceId& trace_id) {
  std::uint64_t value = 0;
  for (std::size_t i = trace_id.size() - kRandomBits / 8; i < trace_id.size(); ++i) {
    value = value << 8U | trace_id[i];
  }
  return value;
}

constexpr std::string_view kOtKey = "ot=";

// The value of the `ot` member, empty without one.
std::string_view FindOtValue(std::string_view trace_state) {
  while (!trace_state.empty()) {
    const std::string_view member = trace_state.substr(0, trace_state.find(','));
    if (member.starts_with(kOtKey)) {
      return member.substr(kOtKey.size());
    }
    trace_state.remove_prefix(std::min(member.size() + 1, trace_state.size()));
  }
  return {};
}

// `trace_state` with its `ot` members replaced by one of `value` (none if that is empty) in
// front, within the limits.
std::string JoinBehind(std::string_view value, std::string_view trace_state) {
  std::string joined;
  std::size_t members = 0;
  if (!value.empty() && value.size() <= kMaxStateValueBytes) {
    joined.append(kOtKey).append(value);
    ++members;
  }
  while (!trace_state.empty()) {
    const std::string_view member = trace_state.substr(0, trace_state.find(','));
    trace_state.remove_prefix(std::min(member.size() + 1, trace_state.size()));
    if (!member.starts_with(kOtKey) && members++ < kMaxTraceStateMembers) {
      joined.append(joined.empty() ? "" : ",").append(member);
    }
  }
  return ParseTraceState(joined).value_or(std::string());
}

// Takes the next sub-key with its value, "rv:...", off the front of an `ot` value.
std::string_view TakeSubKey(std::string_view& value) {
  const std::string_view sub_key = value.substr(0, value.find(';'));
  value.remove_prefix(std::min(sub_key.size() + 1, value.size()));
  return sub_key;
}

}  // namespace

std::expected<TraceParent, TraceContextError> ParseTraceParent(std::string_view value) {
  constexpr std::size_t kTraceIdAt = 3;
  constexpr std::size_t kSpanIdAt = 36;
  constexpr std::size_t kFlagsAt = 53;
  value = TrimOws(value);
  if (value.size() < kTraceParentBytes || value[2] != '-' || value[kSpanIdAt - 1] != '-' ||
      value[kFlagsAt - 1] != '-') {
    return std::unexpected(TraceContextError::kMalformed);
  }
  std::array<std::uint8_t, 1> version{};
  std::array<std::uint8_t, 1> flags{};
  TraceParent parent;
  const auto read = [&](std::size_t at, std::span<std::uint8_t> out) {
    return ReadHex(value.substr(at), out, HexCase::kLower);
  };
  if (!read(0, version) || !read(kTraceIdAt, parent.trace_id) || !read(kSpanIdAt, parent.span_id) ||
      !read(kFlagsAt, flags)) {
    return std::unexpected(TraceContextError::kMalformed);
  }
  if (version[0] == 0xff) {
    return std::unexpected(TraceContextError::kBadVersion);
  }
  if (value.size() > kTraceParentBytes && (version[0] == 0 || value[kTraceParentBytes] != '-')) {
    return std::unexpected(TraceContextError::kMalformed);
  }
  if (IsZero(parent.trace_id) || IsZero(parent.span_id)) {
    return std::unexpected(TraceContextError::kZeroId);
  }
  parent.flags = flags[0] & (kSampledFlag | kRandomFlag);
  return parent;
}

std::array<char, kTraceParentBytes> FormatTraceParent(const TraceParent& parent) {
  std::array<char, kTraceParentBytes> text{};
  const std::array<std::uint8_t, 1> flags = {parent.flags};
  char* out = text.data();
  *out++ = '0';
  *out++ = '0';
  *out++ = '-';
  out = PutHex(parent.trace_id, out);
  *out++ = '-';
  out = PutHex(parent.span_id, out);
  *out++ = '-';
  PutHex(flags, out);
  return text;
}

std::expected<std::string, TraceContextError> ParseTraceState(std::string_view joined) {
  std::vector<std::string_view> members;
  bool good = true;
  while (!joined.empty()) {
    const std::size_t comma = joined.find(',');
    const std::string_view member = TrimOws(joined.substr(0, comma));
    joined.remove_prefix(comma == std::string_view::npos ? joined.size() : comma + 1);
    if (member.empty()) {
      continue;
    }
    const std::size_t equals = member.find('=');
    good = good && equals != std::string_view::npos && IsStateKey(member.substr(0, equals)) &&
           IsStateValue(member.substr(equals + 1));
    members.push_back(member);
  }
  if (!good) {
    return std::unexpected(TraceContextError::kMalformed);
  }
  if (members.size() > kMaxTraceStateMembers) {
    return std::unexpected(TraceContextError::kTooManyMembers);
  }
  CutMembers(members);
  return Join(members);
}

std::uint64_t RandomnessOf(const TraceId& trace_id, std::string_view trace_state) {
  constexpr std::string_view kRandomValue = "rv:";
  std::string_view rest = FindOtValue(trace_state);
  while (!rest.empty()) {
    const std::string_view sub_key = TakeSubKey(rest);
    std::array<std::uint8_t, sizeof(std::uint64_t)> bytes{};
    if (!sub_key.starts_with(kRandomValue) ||
        sub_key.size() != kRandomValue.size() + kRandomBits / 4 ||
        !ReadShortHex(sub_key.substr(kRandomValue.size()), bytes, HexCase::kLower)) {
      continue;
    }
    std::uint64_t value = 0;
    for (const std::uint8_t byte : bytes) {
      value = value << 8U | byte;
    }
    return value;
  }
  return LowRandomBits(trace_id);
}

std::string WithThreshold(std::string_view trace_state, std::string_view threshold) {
  constexpr std::string_view kThreshold = "th:";
  std::string value;
  if (!threshold.empty()) {
    value.append(kThreshold).append(threshold);
  }
  const std::size_t own_size = value.size();
  std::string_view rest = FindOtValue(trace_state);
  while (!rest.empty()) {
    const std::string_view sub_key = TakeSubKey(rest);
    if (!sub_key.empty() && !sub_key.starts_with(kThreshold)) {
      value.append(value.empty() ? "" : ";").append(sub_key);
    }
  }
  std::string joined = JoinBehind(value, trace_state);
  if (!joined.starts_with(kOtKey) && own_size > 0) {
    value.resize(own_size);  // the whole member was too long
    joined = JoinBehind(value, trace_state);
  }
  return joined;
}

// T = (1 - ratio) * 2^56; a trace is kept if its 56 random bits are T or more. The
// threshold is written with as many digits as the ratio needs, trailing zeros left out.
RatioSampler::RatioSampler(double ratio) {
  // Five digits behind the leading f's are 1 part in 1,048,576: finer than anybody sets a
  // ratio, and short on the wire (1 % is fd70a4).
  constexpr int kPrecisionDigits = 5;
  constexpr int kAllDigits = kRandomBits / 4;
  const double kept = std::isnan(ratio) ? 0.0 : std::clamp(ratio, 0.0, 1.0);
  if (kept >= 1.0) {
    threshold_ = 0;
    digits_ = "0";
    member_ = "ot=th:0";
    return;
  }
  if (kept * static_cast<double>(kRandomRange) < 1.0) {
    threshold_ = kRandomRange;
    return;
  }
  const int leading = static_cast<int>(std::floor(-std::log2(kept) / 4));
  const int digits = std::min(kPrecisionDigits + leading, kAllDigits);
  const double unit = std::ldexp(1.0, static_cast<int>(kRandomBits) - 4 * digits);
  // From the kept part: 1 - ratio would lose the digits of small ratios.
  const auto kept_units =
      static_cast<std::uint64_t>(std::llround(kept * static_cast<double>(kRandomRange) / unit));
  threshold_ = kRandomRange - kept_units * static_cast<std::uint64_t>(unit);
  std::uint64_t rest = threshold_;
  do {
    digits_ += kHexDigits[rest >> (kRandomBits - 4)];
    rest = (rest << 4U) & (kRandomRange - 1);
  } while (rest != 0);
  member_ = "ot=th:" + digits_;
}

IdGenerator::IdGenerator() {
  const auto size = static_cast<ssize_t>(sizeof(state_));
  WEIR_CHECK(::getrandom(state_.data(), sizeof(state_), 0) == size);
  state_[0] |= 1;  // the generator's one bad state is all zeros
}

IdGenerator::IdGenerator(std::uint64_t seed) {
  // splitmix64: spreads one word over the state.
  for (std::uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15U;
    std::uint64_t mixed = seed;
    mixed = (mixed ^ (mixed >> 30U)) * 0xbf58476d1ce4e5b9U;
    mixed = (mixed ^ (mixed >> 27U)) * 0x94d049bb133111ebU;
    word = mixed ^ (mixed >> 31U);
  }
}

// xoshiro256++ (Blackman and Vigna, 2019).
std::uint64_t IdGenerator::Next() {
  const std::uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
  const std::uint64_t shifted = state_[1] << 17U;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

TraceId IdGenerator::NewTraceId() {
  TraceId id;
  do {
    const std::array<std::uint64_t, 2> words = {Next(), Next()};
    id = std::bit_cast<TraceId>(words);
  } while (IsZero(id));
  return id;
}

SpanId IdGenerator::NewSpanId() {
  SpanId id;
  do {
    id = std::bit_cast<SpanId>(Next());
  } while (IsZero(id));
  return id;
}

}  // namespace weir::http
