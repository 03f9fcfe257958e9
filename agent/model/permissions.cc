#include "agent/model/permissions.h"

#include <utility>

namespace weir::model {

void PermissionSet::Candidates::Add(const std::string& server_name, const PermissionRule* rule) {
  if (!server_name.empty()) {
    by_server_name.try_emplace(server_name, rule);
  } else if (whatever_name == nullptr) {
    whatever_name = rule;
  }
}

const PermissionRule* PermissionSet::Candidates::Find(std::string_view server_name) const {
  if (!server_name.empty() && !by_server_name.empty()) {
    if (const auto found = by_server_name.find(server_name); found != by_server_name.end()) {
      return found->second;
    }
  }
  return whatever_name;
}

const PermissionRule* PermissionSet::Matcher::Find(const PermissionQuery& query) const {
  if (const auto found = exact.find(query.spiffe_id); found != exact.end()) {
    if (const PermissionRule* rule = found->second.Find(query.server_name)) {
      return rule;
    }
  }
  const PermissionRule* longest = nullptr;
  if (!by_prefix.empty()) {
    prefixes.ForEachPrefixOf(query.spiffe_id, [&](std::uint32_t index) {
      const PermissionRule* rule = by_prefix[index].Find(query.server_name);
      longest = rule == nullptr ? longest : rule;
    });
  }
  return longest != nullptr ? longest : anyone.Find(query.server_name);
}

void PermissionSet::Add(const PermissionMatch& match, PermissionRulePtr rule) {
  Matcher& matcher = matchers_[static_cast<std::size_t>(rule->effect)];
  Candidates* candidates = &matcher.anyone;
  switch (match.kind) {
    case PermissionMatch::Kind::kAnyone:
      break;
    case PermissionMatch::Kind::kExact:
      candidates = &matcher.exact[match.spiffe_id];
      break;
    case PermissionMatch::Kind::kPrefix: {
      const auto next = static_cast<std::uint32_t>(matcher.by_prefix.size());
      const std::uint32_t index = matcher.prefixes.Add(match.spiffe_id, next);
      if (index == next) {
        matcher.by_prefix.emplace_back();
      }
      candidates = &matcher.by_prefix[index];
      break;
    }
  }
  candidates->Add(match.server_name, rule.get());
  uses_server_names_ |= !match.server_name.empty();
  rules_.push_back(std::move(rule));
}

void PermissionSet::SetFromEveryone(PermissionRulePtr rule) {
  has_from_ = true;
  from_.clear();
  from_everyone_ = rule.get();
  rules_.push_back(std::move(rule));
}

void PermissionSet::SetFrom(const std::string& workload, PermissionRulePtr rule) {
  has_from_ = true;
  from_[workload] = rule.get();
  if (rules_.empty() || rules_.back() != rule) {  // once for all the workloads of an item
    rules_.push_back(std::move(rule));
  }
}

const PermissionRule* PermissionSet::FindFrom(std::string_view workload) const {
  const auto found = from_.find(workload);
  return found == from_.end() ? from_everyone_ : found->second;
}

const PermissionRule* PermissionSet::Find(const PermissionQuery& query) const {
  const PermissionRule* from = has_from_ ? FindFrom(query.workload) : nullptr;
  for (std::size_t effect = 0; effect < matchers_.size(); ++effect) {
    if (const PermissionRule* rule = matchers_[effect].Find(query)) {
      return rule;
    }
    if (from != nullptr && static_cast<std::size_t>(from->effect) == effect) {
      return from;
    }
  }
  return nullptr;
}

}  // namespace weir::model
