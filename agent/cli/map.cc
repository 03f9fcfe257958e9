#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/cli/gather.h"
#include "agent/cli/run.h"
#include "agent/cli/terminal.h"
#include "agent/cli/text.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {
namespace {

// Requests where there were any, else connections: what the shares of an edge are of.
std::uint64_t CallsOf(const v1::Edge& edge) {
  return edge.requests() != 0 ? edge.requests() : edge.connections();
}

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
      if (CallsOf(edge) >= CallsOf(known)) {
        known = edge;
      }
    }
  }
  merged.set_api_version(kApiVersion);
  for (const auto& [key, edge] : edges) {
    *merged.add_edges() = edge;
  }
  return merged;
}

std::string Rate(const v1::Edge& edge, double window_seconds) {
  return window_seconds > 0
             ? fmt::format("{:.1f}/s", static_cast<double>(CallsOf(edge)) / window_seconds)
             : "-";
}

std::string ProtectedShare(const v1::Edge& edge) {
  return Percent(edge.tunnel() + edge.local(), edge.tunnel() + edge.local() + edge.plain());
}

// "turn 60 %, header 40 %": where parents of the requests were known from.
std::string ParentShares(const v1::Edge& edge) {
  std::vector<std::pair<std::uint64_t, std::string>> shares;
  for (const auto& [source, count] : edge.parent_sources()) {
    if (count != 0) {
      shares.emplace_back(count, source);
    }
  }
  std::ranges::sort(shares, [](const auto& left, const auto& right) {
    return std::pair(right.first, left.second) < std::pair(left.first, right.second);
  });
  std::vector<std::string> texts;
  for (const auto& [count, source] : shares) {
    texts.push_back(source + " " + Percent(count, edge.requests()));
  }
  return texts.empty() ? "-" : Join(texts, ", ");
}

std::string TextOf(const v1::ServiceMap& map, const Style& style) {
  Table table({"SRC", "DST", ">REQUESTS", ">CONNS", ">RATE", ">ERR", ">P50", ">P99", ">PROTECTED",
               "PARENTS"});
  for (const v1::Edge& edge : map.edges()) {
    table.Add(
        {Printable(edge.source()), Printable(edge.destination()), FormatCount(edge.requests()),
         FormatCount(edge.connections()), Rate(edge, map.window_seconds()),
         Paint(style, edge.errors() == 0 ? Color::kNone : Color::kRed,
               Percent(edge.errors(), edge.requests() + edge.connections())),
         FormatDuration(edge.p50_seconds()), FormatDuration(edge.p99_seconds()),
         Paint(style, edge.plain() == 0 ? Color::kGreen : Color::kYellow, ProtectedShare(edge)),
         ParentShares(edge)});
  }
  return map.edges().empty() ? "" : table.Take();
}

// A quoted string of the DOT language: quotes and backslashes escaped.
std::string DotQuote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : Printable(text)) {
    quoted += c == '"' || c == '\\' ? std::string{'\\', c} : std::string(1, c);
  }
  return quoted + "\"";
}

std::string DotOf(const v1::ServiceMap& map) {
  std::string text = "digraph weir {\n  rankdir=LR;\n  node [shape=box];\n";
  for (const v1::Edge& edge : map.edges()) {
    const std::string label =
        fmt::format("{} err {} p99 {} protected {}", Rate(edge, map.window_seconds()),
                    Percent(edge.errors(), edge.requests() + edge.connections()),
                    FormatDuration(edge.p99_seconds()), ProtectedShare(edge));
    fmt::format_to(std::back_inserter(text), "  {} -> {} [label={}{}];\n", DotQuote(edge.source()),
                   DotQuote(edge.destination()), DotQuote(label),
                   edge.plain() == 0 ? "" : ", style=dashed");
  }
  return text + "}\n";
}

}  // namespace

int RunMap(const Options& options) {
  const auto gathered =
      Gather<v1::ServiceMap>(options.global, "/v1/map?window=" + UrlEncode(options.map.window));
  if (gathered.answers.empty()) {
    return gathered.exit_code;
  }
  const v1::ServiceMap map = Merge(gathered.answers);
  std::string text;
  if (options.map.format == Format::kJson) {
    text = ToPrettyJson(map);
  } else if (options.map.format == Format::kDot) {
    text = DotOf(map);
  } else {
    text = TextOf(map, StyleOf(options.global));
  }
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
