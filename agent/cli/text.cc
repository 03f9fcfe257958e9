#include "agent/cli/text.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <google/protobuf/timestamp.pb.h>

#include <array>
#include <cctype>
#include <cmath>
#include <ctime>
#include <utility>

namespace weir::cli {
namespace {

constexpr std::int64_t kNanosPerSecond = 1'000'000'000;

std::string Scaled(double value, std::string_view unit) {
  return value < 10 ? fmt::format("{:.1f}{}", value, unit) : fmt::format("{:.0f}{}", value, unit);
}

}  // namespace

base::WallTime ToWallTime(const google::protobuf::Timestamp& time) {
  return base::WallTime(base::Nanoseconds(time.seconds() * kNanosPerSecond + time.nanos()));
}

std::string FormatTime(base::WallTime time, TimeFormat format, base::WallTime now) {
  const std::int64_t nanos = time.time_since_epoch().count();
  const std::time_t seconds = nanos / kNanosPerSecond;
  const auto millis = (nanos % kNanosPerSecond) / 1'000'000;
  switch (format) {
    case TimeFormat::kLocal:
      return fmt::format("{:%H:%M:%S}.{:03}", fmt::localtime(seconds), millis);
    case TimeFormat::kUtc:
      return fmt::format("{:%H:%M:%S}.{:03}", fmt::gmtime(seconds), millis);
    case TimeFormat::kFull:
      return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(seconds), millis);
    case TimeFormat::kRelative:
      return FormatDuration(std::chrono::duration<double>(now - time).count()) + " ago";
    case TimeFormat::kEpoch:
      return fmt::format("{}.{:03}", seconds, millis);
  }
  return {};
}

std::string FormatCount(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t at = digits.size(); at > 3; at -= 3) {
    digits.insert(at - 3, 1, ',');
  }
  return digits;
}

std::string FormatDuration(double seconds) {
  if (!(seconds > 0)) {
    return "0ms";
  }
  if (seconds < 0.0009995) {
    return Scaled(seconds * 1e6, "us");
  }
  if (seconds < 0.9995) {
    return Scaled(seconds * 1e3, "ms");
  }
  if (seconds < 120) {
    return Scaled(seconds, "s");
  }
  return seconds < 7200 ? Scaled(seconds / 60, "m") : Scaled(seconds / 3600, "h");
}

std::string FormatBytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{}B", bytes) : Scaled(value, kUnits[unit]);
}

std::string FormatAge(base::Nanoseconds age) {
  const double seconds = std::chrono::duration<double>(age).count();
  if (seconds < 90) {
    return fmt::format("{:.0f} s", std::max(seconds, 0.0));
  }
  if (seconds < 5400) {
    return fmt::format("{:.0f} min", seconds / 60);
  }
  return seconds < 172800 ? fmt::format("{:.0f} h", seconds / 3600)
                          : fmt::format("{:.0f} d", seconds / 86400);
}

std::string Percent(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) {
    return "-";
  }
  const double percent = 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  return percent == std::floor(percent) ? fmt::format("{:.0f} %", percent)
                                        : fmt::format("{:.1f} %", percent);
}

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(at + 1);
  }
}

std::string Join(const std::vector<std::string>& parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

std::optional<std::string> TimeParameter(const std::string& text, base::WallTime now) {
  if (text.size() >= 20 && text[4] == '-' && text[10] == 'T') {
    return text;
  }
  if (const auto clock = Split(text, ':'); clock.size() == 2 || clock.size() == 3) {
    std::array<int, 3> parts{};
    for (std::size_t i = 0; i < clock.size(); ++i) {
      if (clock[i].size() != 2 || std::isdigit(static_cast<unsigned char>(clock[i][0])) == 0 ||
          std::isdigit(static_cast<unsigned char>(clock[i][1])) == 0) {
        return std::nullopt;
      }
      parts.at(i) = (clock[i][0] - '0') * 10 + clock[i][1] - '0';
    }
    std::tm local = fmt::localtime(now.time_since_epoch().count() / kNanosPerSecond);
    local.tm_hour = parts[0];
    local.tm_min = parts[1];
    local.tm_sec = parts[2];
    local.tm_isdst = -1;
    const std::time_t time = std::mktime(&local);
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(time));
  }
  const std::size_t unit = text.find_first_not_of("0123456789.");
  if (unit == 0 || unit == std::string::npos) {
    return std::nullopt;
  }
  for (const std::string_view known : {"us", "ms", "s", "m", "h", "d"}) {
    if (text.substr(unit) == known) {
      return text;
    }
  }
  return std::nullopt;
}

std::string UrlEncode(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = std::isalnum(byte) != 0 || c == '-' || c == '.' || c == '_' || c == '~';
    encoded += plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return encoded;
}

}  // namespace weir::cli
