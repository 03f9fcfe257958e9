#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/error.h"
#include "agent/config/discovery.h"
#include "agent/config/source.h"
#include "agent/datapath/datapath.h"
#include "agent/identity/svid_manager.h"
#include "agent/model/snapshot.h"
#include "agent/proxy/worker.h"

namespace weir::daemon {

// Enroller makes the kernel side, the identities and the workers follow the newest
// snapshot. Additions reach the workers first and the hooks after; removals the other
// way. A workload that cannot be enrolled is a problem with a text and is tried again at
// the next Reconcile. Control thread; references outlive it.
class Enroller {
 public:
  Enroller(datapath::Datapath& datapath, identity::SvidManager& identities,
           proxy::WorkerSet& workers)
      : datapath_(datapath), identities_(identities), workers_(workers) {}

  // Takes a new snapshot and where its local workloads are now.
  void Install(const model::SnapshotPtr& snapshot, const std::vector<config::Appeared>& present);
  // Enrols what is missing and un-enrols what is gone or replaced.
  void Reconcile();
  // Un-enrols at once what the kernel side found gone.
  void Drop(const std::vector<model::LocalId>& gone);

  [[nodiscard]] const std::map<std::string, std::string>& problems() const { return problems_; }
  [[nodiscard]] std::vector<model::LocalId> enrolled() const;

 private:
  struct Entry {
    config::Appeared where;
    model::OnAgentDown on_agent_down = model::OnAgentDown::kClosed;
    model::Causality causality = model::Causality::kInferred;
    model::RuntimeHooks runtime_hooks{};
  };
  void Update(const model::LocalWorkload& local, Entry& entry);
  void Remove(model::LocalId id);
  base::Result<void> Enrol(const model::LocalWorkload& local, const config::Appeared& where);

  datapath::Datapath& datapath_;
  identity::SvidManager& identities_;
  proxy::WorkerSet& workers_;
  model::SnapshotPtr snapshot_;
  std::map<std::string, config::Appeared> present_;
  std::map<model::LocalId, Entry> enrolled_;
  std::map<std::string, std::string> problems_;
};

}  // namespace weir::daemon
