#include "agent/daemon/arrivals.h"

#include <filesystem>
#include <utility>

namespace weir::daemon {

std::vector<datapath::ExpectedCgroup> ExpectedCgroups(const config::AgentConfig& agent,
                                                      const std::string& cgroup_root) {
  std::vector<datapath::ExpectedCgroup> expected;
  for (const auto& workload : agent.workloads) {
    if (workload.on_agent_down == model::OnAgentDown::kOpen) {
      continue;
    }
    if (workload.match_kind == config::MatchKind::kUnit) {
      expected.push_back({.name = workload.match, .parent = {}});
    } else if (workload.match_kind == config::MatchKind::kCgroup) {
      // An absolute one replaces the root.
      const auto path = (std::filesystem::path(cgroup_root) / workload.match).lexically_normal();
      expected.push_back({.name = path.filename(), .parent = path.parent_path()});
    }
  }
  return expected;
}

base::Result<std::unique_ptr<Arrivals>> Arrivals::Create(io::EventLoop& loop,
                                                         datapath::Datapath& datapath,
                                                         std::function<void()> on_arrival) {
  std::unique_ptr<Arrivals> created(new Arrivals(datapath, std::move(on_arrival)));
  const int fd = datapath.arrivals_fd();
  if (fd < 0) {
    return created;
  }
  auto watch = loop.Add(fd, EPOLLIN, *created);
  if (!watch) {
    return std::unexpected(std::move(watch).error());
  }
  created->watch_ = std::move(*watch);
  return created;
}

void Arrivals::OnEvents(std::uint32_t /*events*/) noexcept {
  datapath_.TakeArrivals();
  on_arrival_();
}

}  // namespace weir::daemon
