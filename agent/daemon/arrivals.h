#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/config/agent_config.h"
#include "agent/datapath/datapath.h"
#include "agent/io/event_loop.h"

namespace weir::daemon {

// The cgroups that closed workloads of `agent` will have: a unit's wherever systemd puts it, a
// cgroup at its path (relative ones below `cgroup_root`). Pure.
std::vector<datapath::ExpectedCgroup> ExpectedCgroups(const config::AgentConfig& agent,
                                                      const std::string& cgroup_root);

// Arrivals calls back when an expected cgroup was made: until it is enrolled its connections
// are refused, so that is soon. Control thread; the references outlive it.
class Arrivals final : private io::EventHandler {
 public:
  // Without help of the kernel it exists and never calls.
  static base::Result<std::unique_ptr<Arrivals>> Create(io::EventLoop& loop,
                                                        datapath::Datapath& datapath,
                                                        std::function<void()> on_arrival);

 private:
  Arrivals(datapath::Datapath& datapath, std::function<void()> on_arrival)
      : datapath_(datapath), on_arrival_(std::move(on_arrival)) {}
  void OnEvents(std::uint32_t events) noexcept override;

  datapath::Datapath& datapath_;
  std::function<void()> on_arrival_;
  io::Watch watch_;
};

}  // namespace weir::daemon
