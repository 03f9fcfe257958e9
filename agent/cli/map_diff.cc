#include "agent/cli/map_diff.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <utility>

#include "agent/cli/agent.h"
#include "agent/cli/edge_text.h"
#include "agent/cli/gather.h"
#include "agent/cli/text.h"

namespace weir::cli {
namespace {

using Kind = EdgeDifference::Kind;

double RateOf(const v1::Edge& edge, double seconds) {
  return seconds > 0 ? static_cast<double>(CallsOf(edge)) / seconds : 0;
}

double ShareOf(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

double Errors(const v1::Edge& edge) {
  return ShareOf(edge.errors(), edge.requests() + edge.connections());
}

double Plain(const v1::Edge& edge) {
  return ShareOf(edge.plain(), edge.tunnel() + edge.local() + edge.plain());
}

// By more than half of the larger one.
bool Differs(double before, double now) {
  constexpr double kShare = 0.5;
  return std::abs(now - before) > kShare * std::max(before, now);
}

bool HasChanged(const EdgeDifference& edge) {
  constexpr double kPoint = 0.01;
  return Differs(RateOf(edge.before, edge.seconds_before), RateOf(edge.now, edge.seconds_now)) ||
         Differs(edge.before.p99_seconds(), edge.now.p99_seconds()) ||
         std::abs(Errors(edge.now) - Errors(edge.before)) >= kPoint ||
         std::abs(Plain(edge.now) - Plain(edge.before)) >= kPoint;
}

// "1.0/s -> 2.5/s", or the one value that there is.
std::string Both(const EdgeDifference& edge, const std::string& before, const std::string& now) {
  if (edge.kind != Kind::kChanged || before == now) {
    return edge.kind == Kind::kGone ? before : now;
  }
  return before + " -> " + now;
}

std::string WordOf(Kind kind, const Style& style) {
  switch (kind) {
    case Kind::kNew:
      return Paint(style, Color::kGreen, "new");
    case Kind::kGone:
      return Paint(style, Color::kRed, "gone");
    case Kind::kChanged:
      return Paint(style, Color::kYellow, "changed");
  }
  return "";
}

}  // namespace

Outcome<v1::ServiceMap> ReadMap(const std::string& path) {
  std::string text;
  if (path == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
  } else {
    std::ifstream file(path);
    if (!file) {
      return std::unexpected(Failure{.exit_code = kExitUsage,
                                     .what = "cannot read " + path,
                                     .why = {},
                                     .remedy = "weir map -o json >" + path});
    }
    text.assign(std::istreambuf_iterator<char>(file), {});
  }
  v1::ServiceMap map;
  if (!FromJson(text, map) || map.api_version() != kApiVersion) {
    return std::unexpected(Failure{.exit_code = kExitUsage,
                                   .what = path + " is no map",
                                   .why = "it is not what weir map -o json writes",
                                   .remedy = "weir map -o json >FILE, later weir map --diff FILE"});
  }
  return map;
}

std::vector<EdgeDifference> DiffOf(const v1::ServiceMap& before, const v1::ServiceMap& now) {
  std::map<std::pair<std::string, std::string>, EdgeDifference> edges;
  const auto at = [&](const v1::Edge& edge) -> EdgeDifference& {
    EdgeDifference& difference = edges[{edge.source(), edge.destination()}];
    difference.seconds_before = before.window_seconds();
    difference.seconds_now = now.window_seconds();
    return difference;
  };
  for (const v1::Edge& edge : before.edges()) {
    EdgeDifference& difference = at(edge);
    difference.kind = Kind::kGone;
    difference.before = edge;
  }
  for (const v1::Edge& edge : now.edges()) {
    EdgeDifference& difference = at(edge);
    difference.kind = difference.kind == Kind::kGone ? Kind::kChanged : Kind::kNew;
    difference.now = edge;
  }
  std::vector<EdgeDifference> differences;
  for (auto& [names, difference] : edges) {
    if (difference.kind != Kind::kChanged || HasChanged(difference)) {
      differences.push_back(std::move(difference));
    }
  }
  return differences;
}

std::string DiffText(const std::vector<EdgeDifference>& differences, const Style& style) {
  Table table({"CHANGE", "SRC", "DST", ">RATE", ">ERR", ">P50", ">P99", ">PROTECTED"}, style.width);
  for (const EdgeDifference& edge : differences) {
    const v1::Edge& known = edge.kind == Kind::kGone ? edge.before : edge.now;
    table.Add({WordOf(edge.kind, style), Printable(known.source()), Printable(known.destination()),
               Both(edge, Rate(edge.before, edge.seconds_before), Rate(edge.now, edge.seconds_now)),
               Both(edge, ErrorShare(edge.before), ErrorShare(edge.now)),
               Both(edge, FormatDuration(edge.before.p50_seconds()),
                    FormatDuration(edge.now.p50_seconds())),
               Both(edge, FormatDuration(edge.before.p99_seconds()),
                    FormatDuration(edge.now.p99_seconds())),
               Both(edge, ProtectedShare(edge.before), ProtectedShare(edge.now))});
  }
  return differences.empty() ? "" : table.Take();
}

}  // namespace weir::cli
