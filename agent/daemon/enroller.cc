#include "agent/daemon/enroller.h"

#include <utility>

#include "agent/base/log.h"

namespace weir::daemon {

void Enroller::Install(const model::SnapshotPtr& snapshot,
                       const std::vector<config::Appeared>& present) {
  snapshot_ = snapshot;
  present_.clear();
  for (const auto& where : present) {
    present_.emplace(where.workload, where);
  }
  // Whoever goes, goes from the hooks before the workers forget it.
  std::vector<model::LocalId> gone;
  for (const auto& [id, entry] : enrolled_) {
    const model::LocalWorkload* local = snapshot_->FindLocal(id);
    const auto where =
        local == nullptr ? present_.end() : present_.find(local->workload->display_name());
    if (where == present_.end() || !where->second.IsSameObject(entry.where)) {
      gone.push_back(id);
    }
  }
  Drop(gone);
  workers_.InstallSnapshot(snapshot_);
  Reconcile();
}

void Enroller::Reconcile() {
  problems_.clear();
  if (snapshot_ == nullptr) {
    return;
  }
  // The certificates first: a connection that is intercepted can then be served.
  std::vector<std::pair<model::LocalId, model::SpiffeId>> here;
  for (const auto& local : snapshot_->locals()) {
    if (present_.contains(local->workload->display_name())) {
      here.emplace_back(local->id, local->workload->identity);
    }
  }
  identities_.SetWorkloads(here);
  identities_.Tick();
  for (const auto& local : snapshot_->locals()) {
    const std::string name = local->workload->display_name();
    const auto where = present_.find(name);
    if (where == present_.end()) {
      continue;
    }
    const auto entry = enrolled_.find(local->id);
    if (entry == enrolled_.end()) {
      if (auto done = Enrol(*local, where->second); !done) {
        problems_[name] = done.error().ToString();
      }
    } else {
      Update(*local, entry->second);
    }
  }
}

void Enroller::Update(const model::LocalWorkload& local, Entry& entry) {
  const auto settle = [&](base::Result<void> done, auto& known, const auto& wanted) {
    if (done) {
      known = wanted;
    } else {
      problems_[local.workload->display_name()] = done.error().ToString();
    }
  };
  if (entry.on_agent_down != local.on_agent_down) {
    settle(datapath_.SetOnAgentDown(local.id, local.on_agent_down), entry.on_agent_down,
           local.on_agent_down);
  }
  if (entry.causality != local.causality) {
    settle(datapath_.SetInferParents(local.id, local.causality == model::Causality::kInferred),
           entry.causality, local.causality);
  }
  if (entry.runtime_hooks != local.runtime_hooks) {
    settle(datapath_.SetRuntimeHooks(local.id, local.runtime_hooks), entry.runtime_hooks,
           local.runtime_hooks);
  }
}

base::Result<void> Enroller::Enrol(const model::LocalWorkload& local,
                                   const config::Appeared& where) {
  const std::string name = local.workload->display_name();
  datapath::Enrolment enrolment{.id = local.id,
                                .name = name,
                                .match = datapath::NetnsPath{where.path},
                                .on_agent_down = local.on_agent_down,
                                .ports = {},
                                .infer_parents = local.causality == model::Causality::kInferred,
                                .runtime_hooks = local.runtime_hooks};
  if (where.kind != config::MatchKind::kNetns) {
    enrolment.match = datapath::CgroupPath{where.path};
    for (const auto& inbound : local.workload->inbounds) {
      enrolment.ports.push_back(inbound.port);
    }
  }
  auto listeners = datapath_.Enrol(enrolment);
  if (!listeners) {
    return std::unexpected(std::move(listeners).error());
  }
  for (std::uint32_t worker = 0; worker < workers_.size(); ++worker) {
    workers_.at(worker).Post(proxy::AddListeners{std::move((*listeners)[worker])});
  }
  enrolled_[local.id] = {.where = where,
                         .on_agent_down = local.on_agent_down,
                         .causality = local.causality,
                         .runtime_hooks = local.runtime_hooks};
  spdlog::info("workload={} id={} enrolled={} path={}", name, static_cast<std::uint32_t>(local.id),
               config::ToString(where.kind), where.path);
  return {};
}

void Enroller::Remove(model::LocalId id) {
  if (auto done = datapath_.Unenrol(id); !done) {
    spdlog::warn("workload={} unenrol=incomplete error=\"{}\"", static_cast<std::uint32_t>(id),
                 done.error().ToString());
  }
  workers_.RemoveWorkload(id);
  enrolled_.erase(id);
  spdlog::info("workload={} unenrolled", static_cast<std::uint32_t>(id));
}

void Enroller::Drop(const std::vector<model::LocalId>& gone) {
  for (const model::LocalId id : gone) {
    if (enrolled_.contains(id)) {
      Remove(id);
    }
  }
}

std::vector<model::LocalId> Enroller::enrolled() const {
  std::vector<model::LocalId> ids;
  ids.reserve(enrolled_.size());
  for (const auto& [id, entry] : enrolled_) {
    ids.push_back(id);
  }
  return ids;
}

}  // namespace weir::daemon
