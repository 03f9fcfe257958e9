#include "agent/cli/edge_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/cli/text.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {

std::uint64_t CallsOf(const v1::Edge& edge) {
  return edge.requests() != 0 ? edge.requests() : edge.connections();
}

std::string Rate(const v1::Edge& edge, double window_seconds) {
  return window_seconds > 0
             ? fmt::format("{:.1f}/s", static_cast<double>(CallsOf(edge)) / window_seconds)
             : "-";
}

std::string ProtectedShare(const v1::Edge& edge) {
  return Percent(edge.tunnel() + edge.local(), edge.tunnel() + edge.local() + edge.plain());
}

std::string ParentShares(const v1::Edge& edge) {
  std::vector<std::pair<std::uint64_t, std::string>> shares;
  std::uint64_t total = 0;
  for (const auto& [source, count] : edge.parent_sources()) {
    if (count != 0) {
      shares.emplace_back(count, source);
      total += count;
    }
  }
  std::ranges::sort(shares, [](const auto& left, const auto& right) {
    return std::pair(right.first, left.second) < std::pair(left.first, right.second);
  });
  std::vector<std::string> texts;
  for (const auto& [count, source] : shares) {
    texts.push_back(source + " " + Percent(count, total));
  }
  return texts.empty() ? "-" : Join(texts, ", ");
}

std::string ErrorShare(const v1::Edge& edge) {
  return Percent(edge.errors(), edge.requests() + edge.connections());
}

}  // namespace weir::cli
