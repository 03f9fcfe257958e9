#include <set>
#include <utility>

#include "agent/datapath/datapath_impl.h"
#include "agent/datapath/reply_route.h"

namespace weir::datapath {

base::Result<void> CleanNamespaces(const Options& options, int home_fd,
                                   const std::set<std::uint64_t>& in_use) {
  base::Result<void> result;
  for (const auto& ns : AllNetns()) {
    auto inside = InNetns::Enter(ns.get(), home_fd);
    if (!inside) {
      continue;  // gone meanwhile
    }
    const auto cookie = OwnNetnsCookie();
    if (!cookie || in_use.contains(*cookie)) {
      continue;
    }
    if (auto removed = RemoveReplyRoute(options); !removed) {
      result = std::move(removed);
    }
  }
  return result;
}

base::Result<void> DatapathImpl::CleanUnusedNamespaces() const {
  std::set<std::uint64_t> in_use;
  for (const auto& [cookie, ns] : namespaces_) {
    in_use.insert(cookie);
  }
  return CleanNamespaces(parts_.options, parts_.home.get(), in_use);
}

base::Result<void> UninstallNode(const Options& options) {
  auto home = OpenOwnNetns();
  if (!home) {
    return std::unexpected(home.error());
  }
  // The lock also keeps a starting agent away until everything is gone.
  auto pins = PinDirectory::Lock(options.bpffs_dir);
  if (!pins) {
    // Without a BPF file system nothing can be pinned.
    return pins.error().code() == base::ErrorCode::kNotFound
               ? CleanNamespaces(options, home->get(), {})
               : std::unexpected(pins.error());
  }
  auto cleared = pins->Clear();
  auto cleaned = CleanNamespaces(options, home->get(), {});
  return cleared ? cleaned : cleared;
}

}  // namespace weir::datapath
