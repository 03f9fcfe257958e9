#include <fmt/format.h>
#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/cli/edge_text.h"
#include "agent/cli/gather.h"
#include "agent/cli/json_forms.h"
#include "agent/cli/map_diff.h"
#include "agent/cli/run.h"
#include "agent/cli/terminal.h"
#include "agent/cli/text.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {
namespace {

// Two agents see the two ends of one edge, so it is taken from the one that saw more of it
// and never added up.
v1::ServiceMap Merge(const std::vector<v1::ServiceMap>& answers) {
  std::map<std::pair<std::string, std::string>, v1::Edge> edges;
  v1::ServiceMap merged;
  for (const v1::ServiceMap& answer : answers) {
    merged.set_window_seconds(std::max(merged.window_seconds(), answer.window_seconds()));
    merged.set_folded(merged.folded() + answer.folded());
    merged.set_node(merged.node() + (merged.node().empty() ? "" : ",") + answer.node());
    for (const v1::Edge& edge : answer.edges()) {
      v1::Edge& known = edges[{edge.source(), edge.destination()}];
      const bool saw_more = CallsOf(edge) >= CallsOf(known);
      const v1::Edge other = saw_more ? std::exchange(known, edge) : edge;
      if (known.parent_sources().empty()) {  // they are known at the source only
        *known.mutable_parent_sources() = other.parent_sources();
      }
    }
  }
  merged.set_api_version(kApiVersion);
  for (const auto& [key, edge] : edges) {
    *merged.add_edges() = edge;
  }
  return merged;
}

std::string TextOf(const v1::ServiceMap& map, const Style& style) {
  Table table({"SRC", "DST", ">REQUESTS", ">CONNS", ">RATE", ">ERR", ">P50", ">P99", ">PROTECTED",
               "PARENTS"},
              style.width);
  for (const v1::Edge& edge : map.edges()) {
    table.Add(
        {Printable(edge.source()), Printable(edge.destination()), FormatCount(edge.requests()),
         FormatCount(edge.connections()), Rate(edge, map.window_seconds()),
         Paint(style, edge.errors() == 0 ? Color::kNone : Color::kRed, ErrorShare(edge)),
         FormatDuration(edge.p50_seconds()), FormatDuration(edge.p99_seconds()),
         Paint(style, edge.plain() == 0 ? Color::kGreen : Color::kYellow, ProtectedShare(edge)),
         ParentShares(edge)});
  }
  return map.edges().empty() ? "" : table.Take();
}

// What stands on an edge of a picture, line by line.
std::vector<std::string> LabelOf(const v1::Edge& edge, double window_seconds) {
  std::vector<std::string> lines = {
      Rate(edge, window_seconds) + " err " + ErrorShare(edge),
      "p50 " + FormatDuration(edge.p50_seconds()) + " p99 " + FormatDuration(edge.p99_seconds()),
      "protected " + ProtectedShare(edge)};
  if (edge.requests() != 0) {
    lines.push_back("parents " + ParentShares(edge));
  }
  return lines;
}

// Text inside a quoted string of the DOT language: quotes and backslashes escaped.
std::string DotEscape(const std::string& text) {
  std::string escaped;
  for (const char c : Printable(text)) {
    escaped += c == '"' || c == '\\' ? std::string{'\\', c} : std::string(1, c);
  }
  return escaped;
}

std::string DotOf(const v1::ServiceMap& map) {
  std::string text = "digraph weir {\n  rankdir=LR;\n  node [shape=box];\n";
  for (const v1::Edge& edge : map.edges()) {
    std::vector<std::string> lines = LabelOf(edge, map.window_seconds());
    std::ranges::transform(lines, lines.begin(), DotEscape);
    fmt::format_to(std::back_inserter(text), "  \"{}\" -> \"{}\" [label=\"{}\"{}];\n",
                   DotEscape(edge.source()), DotEscape(edge.destination()), Join(lines, "\\n"),
                   edge.plain() == 0 ? "" : ", style=dashed");
  }
  return text + "}\n";
}

// Text inside a quoted string of Mermaid, which knows entities instead of escapes.
std::string MermaidEscape(const std::string& text) {
  std::string escaped;
  for (const char c : Printable(text)) {
    escaped += c == '"' ? "#quot;" : c == '#' ? "#35;" : c == '<' ? "#lt;" : std::string(1, c);
  }
  return escaped;
}

std::string MermaidOf(const v1::ServiceMap& map) {
  std::string text = "flowchart LR\n";
  std::map<std::string, std::string> ids;  // names of workloads are no identifiers
  const auto id_of = [&](const std::string& name) {
    const auto [at, is_new] = ids.try_emplace(name, "n" + std::to_string(ids.size()));
    if (is_new) {
      fmt::format_to(std::back_inserter(text), "  {}[\"{}\"]\n", at->second, MermaidEscape(name));
    }
    return at->second;
  };
  for (const v1::Edge& edge : map.edges()) {
    const std::string source = id_of(edge.source());
    const std::string destination = id_of(edge.destination());
    std::vector<std::string> lines = LabelOf(edge, map.window_seconds());
    std::ranges::transform(lines, lines.begin(), MermaidEscape);
    fmt::format_to(std::back_inserter(text), "  {} {}|\"{}\"| {}\n", source,
                   edge.plain() == 0 ? "-->" : "-.->", Join(lines, "<br/>"), destination);
  }
  return text;
}

// The name in the map that `focus` means: with or without its namespace.
std::optional<std::string> FindFocus(const v1::ServiceMap& map, const std::string& focus) {
  for (const v1::Edge& edge : map.edges()) {
    for (const std::string* name : {&edge.source(), &edge.destination()}) {
      if (*name == focus || name->ends_with("/" + focus)) {
        return *name;
      }
    }
  }
  return std::nullopt;
}

// How many edges each workload is away from `focus`, whichever way they point.
std::map<std::string, std::uint32_t> DistancesFrom(const v1::ServiceMap& map,
                                                   const std::string& focus) {
  std::map<std::string, std::uint32_t> distances = {{focus, 0}};
  std::deque<std::string> next = {focus};
  while (!next.empty()) {
    const std::string name = next.front();
    next.pop_front();
    for (const v1::Edge& edge : map.edges()) {
      const bool leaves = edge.source() == name;
      if (!leaves && edge.destination() != name) {
        continue;
      }
      const std::string& other = leaves ? edge.destination() : edge.source();
      if (distances.try_emplace(other, distances[name] + 1).second) {
        next.push_back(other);
      }
    }
  }
  return distances;
}

// The edges that the flags leave; a failure when nobody has the name of --focus.
Outcome<v1::ServiceMap> Select(const v1::ServiceMap& map, const MapOptions& options) {
  std::map<std::string, std::uint32_t> distances;
  if (!options.focus.empty()) {
    const auto focus = FindFocus(map, options.focus);
    if (!focus) {
      return std::unexpected(Failure{.exit_code = kExitNegative,
                                     .what = "nobody called " + options.focus +
                                             ", and it called nobody, in " +
                                             FormatDuration(map.window_seconds()),
                                     .why = {},
                                     .remedy = "weir map --since 1h, or weir workloads"});
    }
    distances = DistancesFrom(map, *focus);
  }
  const auto is_near = [&](const v1::Edge& edge) {
    const auto source = distances.find(edge.source());
    const auto destination = distances.find(edge.destination());
    return source != distances.end() && destination != distances.end() &&
           std::min(source->second, destination->second) < options.depth;
  };
  v1::ServiceMap selected = map;
  selected.clear_edges();
  for (const v1::Edge& edge : map.edges()) {
    const double calls = static_cast<double>(CallsOf(edge));
    const bool busy = calls >= options.min_rps * map.window_seconds();
    if (busy && (!options.unencrypted || edge.plain() != 0) &&
        (options.focus.empty() || is_near(edge))) {
      *selected.add_edges() = edge;
    }
  }
  return selected;
}

// What --diff prints: how the edges that the flags leave differ from those of a file.
int PrintDiff(const v1::ServiceMap& map, const Options& options) {
  if (options.map.output.format != Format::kText) {
    return Report({.exit_code = kExitUsage,
                   .what = "--diff is a table",
                   .why = "what was kept and what is there now have JSON forms of their own",
                   .remedy = "weir map --diff FILE"});
  }
  const auto before = ReadMap(options.map.diff);
  if (!before) {
    return Report(before.error());
  }
  const auto selected = Select(*before, options.map);
  const auto differences = DiffOf(selected ? *selected : v1::ServiceMap(), map);
  (void)std::fputs(DiffText(differences, StyleOf(options.global)).c_str(), stdout);
  if (!options.global.quiet) {
    (void)std::fprintf(stderr, "%zu of %d edges differ from %s\n", differences.size(),
                       map.edges_size(), Printable(options.map.diff).c_str());
  }
  return kExitDone;
}

// What --since takes, as the age that the API wants.
Outcome<std::string> WindowOf(const std::string& since) {
  const auto now = base::SystemClock().WallNow();
  const auto parameter = TimeParameter(since, now);
  if (!parameter) {
    return std::unexpected(Failure{.exit_code = kExitUsage,
                                   .what = "--since: '" + since + "' is not a time",
                                   .why = {},
                                   .remedy = "--since 5m, --since 14:00"});
  }
  google::protobuf::Timestamp time;
  if (!google::protobuf::util::TimeUtil::FromString(*parameter, &time)) {
    return *parameter;  // an age
  }
  const auto age = std::chrono::duration<double>(now - ToWallTime(time)).count();
  return fmt::format("{:.3f}s", std::max(age, 0.0));
}

}  // namespace

int RunMap(const Options& options) {
  const auto window = WindowOf(options.map.window);
  if (!window) {
    return Report(window.error());
  }
  const auto gathered =
      Gather<v1::ServiceMap>(options.global, "/v1/map?window=" + UrlEncode(*window));
  if (gathered.answers.empty()) {
    return gathered.exit_code;
  }
  const auto selected = Select(Merge(gathered.answers), options.map);
  if (!selected) {
    return Report(selected.error());
  }
  const v1::ServiceMap& map = *selected;
  const Style style = StyleOf(options.global);
  const Format format = options.map.output.format;
  if (!options.map.diff.empty()) {
    return PrintDiff(map, options);
  }
  if (const auto printed =
          PrintStructured(map, {"edges", ""}, options.map.output, style, gathered.exit_code)) {
    return *printed;
  }
  const std::string text = format == Format::kDot       ? DotOf(map)
                           : format == Format::kMermaid ? MermaidOf(map)
                                                        : TextOf(map, style);
  (void)std::fputs(text.c_str(), stdout);
  if (!options.global.quiet) {
    (void)std::fprintf(stderr, "%zu edges in %s, folded %s, node %s\n",
                       static_cast<std::size_t>(map.edges_size()),
                       FormatDuration(map.window_seconds()).c_str(),
                       FormatCount(map.folded()).c_str(), Printable(map.node()).c_str());
  }
  return gathered.exit_code;
}

}  // namespace weir::cli
