#pragma once

#include <memory>
#include <string>

#include "agent/base/error.h"
#include "agent/config/diagnostic.h"
#include "agent/model/snapshot.h"

namespace weir::config {

// The files from which a question about permissions is answered.
struct PolicyFiles {
  std::string agent_config;  // not read when a trust domain is given
  std::string documents;     // a directory; empty: the one that agent.yaml names
  std::string trust_domain;  // empty: agent.yaml's
};

// PolicyView is the mesh as an agent on the node of one workload would take it.
struct PolicyView {
  Diagnostics diagnostics;      // with errors there is no snapshot
  model::SnapshotPtr snapshot;  // with the workload as its only local one
  std::shared_ptr<const model::LocalWorkload> destination;

  // Workloads that have the name "ns/name", or "name" where that is one alone; null: none.
  [[nodiscard]] const model::Workload* Find(const std::string& name) const;
};

// Reads the files and looks at them from where `workload` ("ns/name", or "name" where that is
// one alone) lives. An error when there is no such workload. Blocks.
base::Result<PolicyView> ViewPolicy(const PolicyFiles& files, const std::string& workload);

}  // namespace weir::config
