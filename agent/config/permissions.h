#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/config/diagnostic.h"
#include "agent/config/documents.h"
#include "agent/model/permissions.h"

namespace weir::config {

// PermissionCompiler makes of MeshTrafficPermission documents what the data path decides by.
// Inbounds that the same documents select share one set. `documents` outlives it. One thread.
class PermissionCompiler {
 public:
  explicit PermissionCompiler(const DocumentSet& documents);

  // Who may call `workload`.
  model::WorkloadPermissions PermissionsOf(const DataplaneDocument& workload);

  // Warns of documents and entries that can have no effect: they select no workload, name an
  // identity that nobody has, or a peer that is denied elsewhere in the same document.
  // `identities` are those of the registry, sorted.
  void Check(const std::vector<std::string>& identities, Diagnostics& diagnostics) const;

 private:
  using SetPtr = std::shared_ptr<const model::PermissionSet>;
  using Selection = std::vector<std::size_t>;  // indices in documents_, weak to strong

  [[nodiscard]] Selection Select(const DataplaneDocument& workload,
                                 const DataplaneInbound* inbound) const;
  SetPtr SetOf(const Selection& selection);
  void AddFrom(const Selection& selection, model::PermissionSet& set) const;
  [[nodiscard]] std::vector<const DataplaneDocument*> PeersOf(const TargetRef& peer) const;
  void CheckEntries(const PermissionDocument& document, const std::vector<std::string>& identities,
                    Diagnostics& diagnostics) const;

  const DocumentSet& all_;
  std::vector<const PermissionDocument*> documents_;  // weak to strong
  std::map<Selection, SetPtr> sets_;
  // Workloads by one of their labels or an inbound's tags, "key=value".
  std::multimap<std::string, const DataplaneDocument*> by_tag_;
};

}  // namespace weir::config
