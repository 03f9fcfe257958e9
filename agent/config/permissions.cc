#include "agent/config/permissions.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <ranges>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/config/fields.h"
#include "agent/config/target.h"

namespace weir::config {
namespace {

// Identities for which the nearest one is looked for: a look at all of them each time.
constexpr std::size_t kMostSuggestions = 20;

std::string TagText(const std::string& key, const std::string& value) {
  return key + "=" + value;
}

// An item of `from` and what orders it beside others.
struct OrderedFrom {
  std::size_t document_strength;  // equal for those that only their names order
  TargetKind kind;
  const PermissionFrom* item;
};

}  // namespace

PermissionCompiler::PermissionCompiler(const DocumentSet& documents) : all_(documents) {
  for (const PermissionDocument& document : documents.permissions) {
    documents_.push_back(&document);
  }
  std::ranges::stable_sort(documents_, [](const auto* left, const auto* right) {
    return IsWeaker(left->policy, right->policy);
  });
  for (const DataplaneDocument& workload : documents.dataplanes) {
    for (const auto& [key, value] : workload.envelope.labels) {
      by_tag_.emplace(TagText(key, value), &workload);
    }
    for (const DataplaneInbound& inbound : workload.inbounds) {
      for (const auto& [key, value] : inbound.tags) {
        by_tag_.emplace(TagText(key, value), &workload);
      }
    }
  }
}

PermissionCompiler::Selection PermissionCompiler::Select(const DataplaneDocument& workload,
                                                         const DataplaneInbound* inbound) const {
  Selection selection;
  for (std::size_t i = 0; i < documents_.size(); ++i) {
    if (SelectsInbound(documents_[i]->policy, workload, inbound)) {
      selection.push_back(i);
    }
  }
  return selection;
}

model::WorkloadPermissions PermissionCompiler::PermissionsOf(const DataplaneDocument& workload) {
  model::WorkloadPermissions permissions;
  permissions.general = SetOf(Select(workload, nullptr));
  for (const DataplaneInbound& inbound : workload.inbounds) {
    permissions.by_port.emplace(inbound.port, SetOf(Select(workload, &inbound)));
  }
  return permissions;
}

PermissionCompiler::SetPtr PermissionCompiler::SetOf(const Selection& selection) {
  if (selection.empty()) {
    return nullptr;
  }
  const auto [at, is_new] = sets_.try_emplace(selection);
  if (is_new) {
    auto set = std::make_shared<model::PermissionSet>();
    for (const std::size_t index : std::views::reverse(selection)) {
      for (const PermissionEntry& entry : documents_[index]->entries) {
        set->Add(entry.match, entry.rule);
      }
    }
    AddFrom(selection, *set);
    at->second = std::move(set);
  }
  return at->second;
}

// The ordinary merge of 2.x: the whole document's strength first, then how precisely an item
// names the peer, then the document's name, then what stands further down.
void PermissionCompiler::AddFrom(const Selection& selection, model::PermissionSet& set) const {
  std::vector<OrderedFrom> items;
  std::size_t strength = 0;
  const PermissionDocument* before = nullptr;
  for (const std::size_t index : selection) {
    const PermissionDocument* document = documents_[index];
    strength += before != nullptr && !AreEquallyStrong(before->policy, document->policy) ? 1 : 0;
    before = document;
    for (const PermissionFrom& item : document->from) {
      items.push_back({.document_strength = strength, .kind = item.peer.kind, .item = &item});
    }
  }
  std::ranges::stable_sort(
      items, {}, [](const OrderedFrom& one) { return std::pair(one.document_strength, one.kind); });
  for (const OrderedFrom& one : items) {
    if (one.kind == TargetKind::kMesh) {
      set.SetFromEveryone(one.item->rule);
      continue;
    }
    for (const DataplaneDocument* peer : PeersOf(one.item->peer)) {
      set.SetFrom(peer->display_name(), one.item->rule);
    }
  }
}

std::vector<const DataplaneDocument*> PermissionCompiler::PeersOf(const TargetRef& peer) const {
  std::vector<const DataplaneDocument*> peers;
  const auto tags = TagsOf(peer);
  const auto narrow = std::ranges::find_if(tags, [](const auto& tag) { return tag.second != "*"; });
  if (narrow == tags.end()) {
    for (const DataplaneDocument& workload : all_.dataplanes) {
      if (NamesPeer(peer, workload)) {
        peers.push_back(&workload);
      }
    }
    return peers;
  }
  const auto [first, last] = by_tag_.equal_range(TagText(narrow->first, narrow->second));
  for (auto at = first; at != last; ++at) {
    if (NamesPeer(peer, *at->second) && (peers.empty() || peers.back() != at->second)) {
      peers.push_back(at->second);
    }
  }
  return peers;
}

void PermissionCompiler::Check(const std::vector<std::string>& identities,
                               Diagnostics& diagnostics) const {
  for (const PermissionDocument* document : documents_) {
    const bool selects_any = std::ranges::any_of(all_.dataplanes, [&](const auto& workload) {
      return SelectsInbound(document->policy, workload, nullptr) ||
             std::ranges::any_of(workload.inbounds, [&](const DataplaneInbound& inbound) {
               return SelectsInbound(document->policy, workload, &inbound);
             });
    });
    if (!selects_any) {
      diagnostics.Warn(document->policy.envelope.place,
                       "MeshTrafficPermission \"" + document->policy.envelope.display_name() +
                           "\" selects no workload: it has no effect");
    }
    CheckEntries(*document, identities, diagnostics);
    for (const PermissionFrom& item : document->from) {
      if (item.peer.kind != TargetKind::kMesh && PeersOf(item.peer).empty()) {
        diagnostics.Warn(item.place, "no workload has the tags that this item of \"from\" names");
      }
    }
  }
  if (documents_.empty() && !all_.dataplanes.empty()) {
    diagnostics.Warn(all_.dataplanes.front().envelope.place,
                     "there is no MeshTrafficPermission: nobody may call a strict workload");
  }
}

void PermissionCompiler::CheckEntries(const PermissionDocument& document,
                                      const std::vector<std::string>& identities,
                                      Diagnostics& diagnostics) const {
  using Key = std::tuple<model::PermissionMatch::Kind, std::string_view, std::string_view>;
  std::map<Key, const PermissionEntry*> denied;
  const auto key_of = [](const PermissionEntry& entry) {
    return Key(entry.match.kind, entry.match.spiffe_id, entry.match.server_name);
  };
  for (const PermissionEntry& entry : document.entries) {
    if (entry.rule->effect == model::PermissionEffect::kDeny) {
      denied.emplace(key_of(entry), &entry);
    }
  }
  std::size_t suggestions = 0;
  for (const PermissionEntry& entry : document.entries) {
    if (const auto found = denied.find(key_of(entry));
        found != denied.end() && entry.rule->effect != model::PermissionEffect::kDeny) {
      diagnostics.Warn(entry.place, "this is denied at " + found->second->place.ToString() +
                                        ", and a denial wins: it has no effect");
    }
    const std::string& id = entry.match.spiffe_id;
    if (entry.match.kind == model::PermissionMatch::Kind::kExact &&
        !std::ranges::binary_search(identities, id)) {
      const bool suggests = ++suggestions <= kMostSuggestions;
      diagnostics.Warn(
          entry.place,
          "no workload has the identity \"" + id + "\"" +
              (suggests ? DidYouMean(id, {identities.begin(), identities.end()}) : ""));
    }
  }
}

}  // namespace weir::config
