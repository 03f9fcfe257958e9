#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"

namespace google::protobuf {
class Timestamp;
}

namespace weir::cli {

enum class TimeFormat : std::uint8_t {
  kLocal,     // 12:04:01.337
  kUtc,       // the same in UTC
  kFull,      // 2026-11-23T12:04:01.337Z
  kRelative,  // 5s ago
  kEpoch      // 1795435441.337
};

base::WallTime ToWallTime(const google::protobuf::Timestamp& time);

std::string FormatTime(base::WallTime time, TimeFormat format, base::WallTime now);
std::string FormatCount(std::uint64_t count);                  // 18,210
std::string FormatDuration(double seconds);                    // 3.1ms
std::string FormatBytes(std::uint64_t bytes);                  // 1.2MB
std::string FormatAge(base::Nanoseconds age);                  // 5 min
std::string Percent(std::uint64_t part, std::uint64_t whole);  // 0.8 %

std::vector<std::string> Split(std::string_view text, char separator);
std::string Join(const std::vector<std::string>& parts, std::string_view separator);

// What --since and --until take, as the admin API takes it: an age (5m) as it is, an
// RFC 3339 time as it is, a clock time (14:00, today, local) as RFC 3339. Empty: neither.
std::optional<std::string> TimeParameter(const std::string& text, base::WallTime now);

// Percent-encoding of a query's value (RFC 3986 section 2.1).
std::string UrlEncode(std::string_view text);

}  // namespace weir::cli
