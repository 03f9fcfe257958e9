#include "agent/admin/metrics_text.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>
#include <set>

namespace weir::admin {
namespace {

std::string Escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '\\':
        escaped += "\\\\";
        break;
      case '"':
        escaped += "\\\"";
        break;
      case '\n':
        escaped += "\\n";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string Number(double value) {
  if (std::isnan(value)) {
    return "NaN";
  }
  if (std::isinf(value)) {
    return value > 0 ? "+Inf" : "-Inf";
  }
  constexpr double kExactIntegers = 9007199254740992.0;  // 2^53
  if (std::trunc(value) == value && std::fabs(value) < kExactIntegers) {
    return fmt::format("{}", static_cast<long long>(value));
  }
  return fmt::format("{}", value);
}

void AppendSamples(std::string& text, const observe::MetricFamily& family) {
  const bool counter = family.type == observe::MetricType::kCounter;
  for (const observe::MetricSample& sample : family.samples) {
    text += family.name;
    text += counter ? "_total" : "";
    char separator = '{';
    for (const auto& [name, value] : sample.labels) {
      fmt::format_to(std::back_inserter(text), "{}{}=\"{}\"", separator, name, Escape(value));
      separator = ',';
    }
    text += sample.labels.empty() ? " " : "} ";
    text += Number(sample.value) + "\n";
  }
}

}  // namespace

std::string ToOpenMetrics(const std::vector<observe::MetricFamily>& families) {
  std::string text;
  std::set<std::string_view> written;
  for (const observe::MetricFamily& family : families) {
    if (!written.insert(family.name).second) {
      continue;
    }
    const bool counter = family.type == observe::MetricType::kCounter;
    fmt::format_to(std::back_inserter(text), "# TYPE {} {}\n# HELP {} {}\n", family.name,
                   counter ? "counter" : "gauge", family.name, Escape(family.help));
    for (const observe::MetricFamily& other : families) {
      if (other.name == family.name) {
        AppendSamples(text, other);
      }
    }
  }
  text += "# EOF\n";
  return text;
}

}  // namespace weir::admin
