#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/config/agent_config.h"
#include "agent/config/discovery.h"
#include "agent/config/source.h"
#include "agent/datapath/datapath.h"
#include "agent/identity/svid_manager.h"
#include "agent/model/snapshot.h"

namespace weir::daemon {

// What the control thread knows, copied for the admin thread: facts of one moment.
struct ControlFacts {
  std::string state = "starting";  // starting, ready, draining
  base::WallTime started_at{};
  config::AgentConfig agent;
  config::SourceStatus source;
  model::SnapshotPtr snapshot;
  std::vector<config::Appeared> present;
  std::vector<datapath::Feature> features;
  std::vector<datapath::EnrolmentStatus> enrolments;
  std::vector<datapath::HookStatus> hooks;
  std::vector<datapath::KernelCounter> kernel_counters;
  std::vector<datapath::PreexistingConnections> preexisting;
  std::vector<identity::SvidStatus> svids;
  identity::NodeCaStatus ca;
  // Display name of a workload that could not be enrolled -> why.
  std::map<std::string, std::string> problems;
  std::map<model::LocalId, base::WallTime> probed_at;
  // The newest warning or error that the agent logged, with its time (WK202).
  std::string last_problem;
  base::WallTime last_problem_at{};
};

// FactsBoard hands the newest facts from the control thread to the admin thread. Its
// mutex is held for the copy of one pointer; workers never touch it.
class FactsBoard {
 public:
  FactsBoard() : facts_(std::make_shared<const ControlFacts>()) {}
  void Publish(ControlFacts facts) {
    auto next = std::make_shared<const ControlFacts>(std::move(facts));
    const std::lock_guard lock(mutex_);
    facts_.swap(next);
  }
  [[nodiscard]] std::shared_ptr<const ControlFacts> Get() const {
    const std::lock_guard lock(mutex_);
    return facts_;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const ControlFacts> facts_;
};

}  // namespace weir::daemon
