#include "agent/observe/metrics.h"

#include <array>
#include <charconv>
#include <cmath>

namespace weir::observe {
namespace {

std::string_view TypeName(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return "counter";
    case MetricType::kGauge:
      return "gauge";
    case MetricType::kHistogram:
      return "histogram";
  }
  return "unknown";
}

// Escapes as OpenMetrics 1.0 does in label values and help texts.
void AppendEscaped(std::string_view text, std::string& out) {
  for (const char c : text) {
    switch (c) {
      case '\\':
        out += "\\\\";
        break;
      case '"':
        out += "\\\"";
        break;
      case '\n':
        out += "\\n";
        break;
      default:
        out += c;
    }
  }
}

void AppendNumber(double value, std::string& out) {
  if (std::isnan(value)) {
    out += "NaN";
    return;
  }
  if (std::isinf(value)) {
    out += value > 0 ? "+Inf" : "-Inf";
    return;
  }
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  out.append(text.data(), end);
}

void AppendLabels(const std::vector<std::pair<std::string, std::string>>& labels,
                  std::string& out) {
  char separator = '{';
  for (const auto& [name, value] : labels) {
    out += separator;
    separator = ',';
    out += name;
    out += "=\"";
    AppendEscaped(value, out);
    out += '"';
  }
  out += '}';
}

void AppendSample(const MetricFamily& family, const MetricSample& sample, std::string& out) {
  out += family.name;
  out += family.type == MetricType::kCounter ? std::string_view("_total") : sample.suffix;
  if (!sample.labels.empty()) {
    AppendLabels(sample.labels, out);
  }
  out += ' ';
  AppendNumber(sample.value, out);
  if (sample.exemplar) {
    out += " # ";
    AppendLabels(sample.exemplar->labels, out);
    out += ' ';
    AppendNumber(sample.exemplar->value, out);
    out += ' ';
    AppendNumber(sample.exemplar->time, out);
  }
  out += '\n';
}

}  // namespace

std::string BoundText(double bound) {
  std::string text = std::to_string(bound);  // 0.002500
  text.erase(text.find_last_not_of('0') + 1);
  return text.ends_with('.') ? text + "0" : text;
}

std::string RenderOpenMetrics(const std::vector<MetricFamily>& families) {
  std::string out;
  for (const MetricFamily& family : families) {
    out += "# TYPE ";
    out += family.name;
    out += ' ';
    out += TypeName(family.type);
    out += "\n# HELP ";
    out += family.name;
    out += ' ';
    AppendEscaped(family.help, out);
    out += '\n';
    for (const MetricSample& sample : family.samples) {
      AppendSample(family, sample, out);
    }
  }
  out += "# EOF\n";
  return out;
}

}  // namespace weir::observe
