#include "agent/admin/target.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <span>
#include <utility>

#include "agent/base/nearest_name.h"
#include "agent/base/utf8.h"

namespace weir::admin {
namespace {

constexpr base::Nanoseconds kDefaultMapWindow = std::chrono::minutes(5);
constexpr std::size_t kMaxTraces = 1000;

std::unexpected<QueryError> Refuse(std::string message) {
  return std::unexpected(QueryError{.message = std::move(message)});
}

base::Result<std::string> Decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    unsigned byte = 0;
    const char* begin = text.data() + i + 1;
    const bool whole = i + 2 < text.size();
    if (!whole || std::from_chars(begin, begin + 2, byte, 16).ptr != begin + 2) {
      return base::MakeError(base::ErrorCode::kInvalidArgument, "bad percent escape in the target");
    }
    decoded += static_cast<char>(byte);
    i += 2;
  }
  if (!base::IsUtf8(decoded)) {
    return base::MakeError(base::ErrorCode::kInvalidArgument, "the target is not UTF-8");
  }
  return decoded;
}

// Names of a path's parameters; anything else is refused by name.
QueryResult<void> CheckNames(const Target& target, std::span<const std::string_view> known) {
  for (const auto& [name, value] : target.parameters) {
    if (std::ranges::find(known, name) == known.end()) {
      const std::string near(base::NearestName(name, known));
      return Refuse("unknown parameter '" + name + "'" +
                    (near.empty() ? "" : ", did you mean '" + near + "'"));
    }
  }
  return {};
}

QueryResult<std::optional<std::uint64_t>> Number(const Target& target, std::string_view name) {
  const auto found = target.parameters.find(name);
  if (found == target.parameters.end()) {
    return std::nullopt;
  }
  const std::string& text = found->second;
  std::uint64_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || rest != text.data() + text.size()) {
    return Refuse("parameter " + std::string(name) + ": '" + text + "' is not a number");
  }
  return number;
}

QueryResult<bool> Flag(const Target& target, std::string_view name) {
  const auto found = target.parameters.find(name);
  if (found == target.parameters.end() || found->second == "0" || found->second == "false") {
    return false;
  }
  if (found->second == "1" || found->second == "true") {
    return true;
  }
  return Refuse("parameter " + std::string(name) + ": '" + found->second + "' is neither 1 nor 0");
}

std::optional<base::Nanoseconds> ParseDuration(std::string_view text) {
  double number = 0;
  const auto [rest, error] = std::from_chars(text.begin(), text.end(), number);
  constexpr std::array<std::pair<std::string_view, double>, 6> kUnits = {
      {{"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}}};
  const std::string_view unit(rest, text.end());
  for (const auto& [name, seconds] : kUnits) {
    constexpr double kMostSeconds = 366.0 * 86400;
    if (error == std::errc{} && unit == name && number >= 0 && number * seconds <= kMostSeconds) {
      return std::chrono::duration_cast<base::Nanoseconds>(
          std::chrono::duration<double>(number * seconds));
    }
  }
  return std::nullopt;
}

// RFC 3339 section 5.6, in UTC or with an offset.
std::optional<base::WallTime> ParseTimestamp(const std::string& text) {
  int year = 0;
  unsigned month = 0;
  unsigned day = 0;
  int hour = 0;
  int minute = 0;
  int second = 0;
  int used = 0;
  if (std::sscanf(text.c_str(), "%4d-%2u-%2uT%2d:%2d:%2d%n", &year, &month, &day, &hour, &minute,
                  &second, &used) != 6) {
    return std::nullopt;
  }
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month),
                                         std::chrono::day(day)};
  std::string_view rest = std::string_view(text).substr(static_cast<std::size_t>(used));
  std::int64_t nanos = 0;
  if (rest.starts_with('.')) {
    rest.remove_prefix(1);
    std::int64_t scale = 100'000'000;
    for (; !rest.empty() && rest[0] >= '0' && rest[0] <= '9'; rest.remove_prefix(1)) {
      nanos += (rest[0] - '0') * scale;
      scale /= 10;
    }
  }
  int offset_hours = 0;
  int offset_minutes = 0;
  int end = 0;
  const std::string zone(rest);
  const bool offset =
      (zone.starts_with('+') || zone.starts_with('-')) &&
      std::sscanf(zone.c_str() + 1, "%2d:%2d%n", &offset_hours, &offset_minutes, &end) == 2 &&
      static_cast<std::size_t>(end) + 1 == zone.size();
  if (!date.ok() || year < 1970 || year > 2261 || hour > 23 || minute > 59 || second > 60 ||
      (zone != "Z" && !offset)) {
    return std::nullopt;
  }
  const auto shift = std::chrono::hours(offset_hours) + std::chrono::minutes(offset_minutes);
  return base::WallTime(std::chrono::sys_days(date)) + std::chrono::hours(hour) +
         std::chrono::minutes(minute) + std::chrono::seconds(second) + base::Nanoseconds(nanos) -
         (zone.starts_with('-') ? -shift : shift);
}

QueryResult<std::optional<base::WallTime>> Time(const Target& target, std::string_view name,
                                                base::WallTime now) {
  const auto found = target.parameters.find(name);
  if (found == target.parameters.end()) {
    return std::nullopt;
  }
  if (const auto age = ParseDuration(found->second)) {
    return now - *age;
  }
  if (const auto time = ParseTimestamp(found->second)) {
    return *time;
  }
  return Refuse("parameter " + std::string(name) + ": '" + found->second +
                "' is neither an age such as 5m nor an RFC 3339 time");
}

QueryResult<base::Nanoseconds> Window(const Target& target, base::Nanoseconds otherwise) {
  const auto window = target.parameters.find("window");
  if (window == target.parameters.end()) {
    return otherwise;
  }
  const auto duration = ParseDuration(window->second);
  if (!duration) {
    return Refuse("parameter window: '" + window->second + "' is not a duration such as 5m");
  }
  return *duration;
}

QueryResult<void> ParseSelection(const Target& target, base::WallTime now, FlowQuery& query) {
  const auto last = Number(target, "last");
  const auto first = Number(target, "first");
  const auto max_rps = Number(target, "max_rps");
  const auto sample = Number(target, "sample");
  const auto all = Flag(target, "all");
  const auto follow = Flag(target, "follow");
  const auto since = Time(target, "since", now);
  const auto until = Time(target, "until", now);
  for (const QueryError* error :
       {last ? nullptr : &last.error(), first ? nullptr : &first.error(),
        max_rps ? nullptr : &max_rps.error(), sample ? nullptr : &sample.error(),
        all ? nullptr : &all.error(), follow ? nullptr : &follow.error(),
        since ? nullptr : &since.error(), until ? nullptr : &until.error()}) {
    if (error != nullptr) {
      return std::unexpected(*error);
    }
  }
  if (*last && (*first || *all)) {
    return Refuse("last goes with neither first nor all");
  }
  if (*sample && (**sample == 0 || **sample > UINT32_MAX)) {
    return Refuse("parameter sample: one in how many, from 1");
  }
  query.last = *last;
  query.first = *first;
  query.since = *all && !*since ? base::WallTime{} : *since;
  query.until = *until;
  query.follow = *follow;
  if (*max_rps) {
    query.max_rps = static_cast<std::uint32_t>(std::min<std::uint64_t>(**max_rps, UINT32_MAX));
  }
  query.sample = static_cast<std::uint32_t>(sample->value_or(1));
  return {};
}

}  // namespace

base::Result<Target> ParseTarget(std::string_view target) {
  const std::size_t mark = target.find('?');
  auto path = Decode(target.substr(0, mark));
  if (!path) {
    return std::unexpected(path.error());
  }
  Target parsed{.path = std::move(*path), .parameters = {}};
  std::string_view query = mark == std::string_view::npos ? "" : target.substr(mark + 1);
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const std::size_t equals = pair.find('=');
    auto name = Decode(pair.substr(0, equals));
    auto value = Decode(equals == std::string_view::npos ? "1" : pair.substr(equals + 1));
    if (!name || !value) {
      return std::unexpected(name ? value.error() : name.error());
    }
    if (!parsed.parameters.emplace(*name, std::move(*value)).second) {
      return base::MakeError(base::ErrorCode::kInvalidArgument,
                             "parameter " + *name + " is given twice");
    }
  }
  return parsed;
}

QueryResult<FlowQuery> ParseFlowQuery(const Target& target, base::WallTime now) {
  constexpr std::array<std::string_view, 10> kNames = {
      "last", "first", "all", "since", "until", "follow", "max_rps", "sample", "filter", "format"};
  if (auto known = CheckNames(target, kNames); !known) {
    return std::unexpected(known.error());
  }
  FlowQuery query;
  if (auto parsed = ParseSelection(target, now, query); !parsed) {
    return std::unexpected(parsed.error());
  }
  if (const auto format = target.parameters.find("format");
      format != target.parameters.end() && format->second != "json") {
    return Refuse("parameter format: only json is known");
  }
  if (const auto text = target.parameters.find("filter"); text != target.parameters.end()) {
    auto filter = Filter::Compile(text->second);
    if (!filter) {
      return std::unexpected(QueryError{.message = filter.error().message,
                                        .column = filter.error().column,
                                        .candidates = filter.error().candidates});
    }
    query.filter = std::move(*filter);
  }
  return query;
}

QueryResult<TraceQuery> ParseTraceQuery(const Target& target, base::WallTime now) {
  constexpr std::array<std::string_view, 6> kNames = {"limit",  "since",   "slow",
                                                      "errors", "service", "sort"};
  if (auto known = CheckNames(target, kNames); !known) {
    return std::unexpected(known.error());
  }
  const auto limit = Number(target, "limit");
  const auto errors = Flag(target, "errors");
  const auto since = Time(target, "since", now);
  if (!limit || !errors || !since) {
    return std::unexpected(!limit ? limit.error() : !errors ? errors.error() : since.error());
  }
  TraceQuery query{.since = *since, .errors_only = *errors};
  query.limit = std::min<std::size_t>(limit->value_or(query.limit), kMaxTraces);
  if (const auto slow = target.parameters.find("slow"); slow != target.parameters.end()) {
    const auto duration = ParseDuration(slow->second);
    if (!duration) {
      return Refuse("parameter slow: '" + slow->second + "' is not a duration such as 200ms");
    }
    query.min_duration = *duration;
  }
  if (const auto service = target.parameters.find("service"); service != target.parameters.end()) {
    query.service = service->second;
  }
  if (const auto sort = target.parameters.find("sort"); sort != target.parameters.end()) {
    if (sort->second != "time" && sort->second != "duration") {
      return Refuse("parameter sort: '" + sort->second + "' is neither time nor duration");
    }
    query.slowest_first = sort->second == "duration";
  }
  return query;
}

QueryResult<std::string> ParseCheckSubject(const Target& target) {
  constexpr std::array<std::string_view, 1> kNames = {"subject"};
  if (auto known = CheckNames(target, kNames); !known) {
    return std::unexpected(known.error());
  }
  const auto subject = target.parameters.find("subject");
  return subject == target.parameters.end() ? std::string() : subject->second;
}

QueryResult<base::Nanoseconds> ParseMapWindow(const Target& target) {
  constexpr std::array<std::string_view, 1> kNames = {"window"};
  if (auto known = CheckNames(target, kNames); !known) {
    return std::unexpected(known.error());
  }
  return Window(target, kDefaultMapWindow);
}

QueryResult<TopQuery> ParseTopQuery(const Target& target) {
  constexpr std::array<std::string_view, 2> kNames = {"by", "window"};
  constexpr std::array<std::string_view, 5> kBy = {"pair", "workload", "path", "policy", "pid"};
  if (auto known = CheckNames(target, kNames); !known) {
    return std::unexpected(known.error());
  }
  TopQuery query;
  const auto window = Window(target, query.window);
  if (!window) {
    return std::unexpected(window.error());
  }
  query.window = *window;
  if (query.window <= base::Nanoseconds(0)) {
    return Refuse("parameter window: it must be longer than nothing");
  }
  if (const auto by = target.parameters.find("by"); by != target.parameters.end()) {
    if (std::ranges::find(kBy, by->second) == kBy.end()) {
      return Refuse("parameter by: '" + by->second +
                    "' is none of pair, workload, path, policy and pid");
    }
    query.by = by->second;
  }
  return query;
}

}  // namespace weir::admin
