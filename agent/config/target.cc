#include "agent/config/target.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "agent/config/document_readers.h"
#include "agent/config/documents.h"
#include "agent/config/fields.h"
#include "agent/config/yaml.h"

namespace weir::config {
namespace {

constexpr std::string_view kServiceTag = "kuma.io/service";
constexpr std::string_view kSystemNamespace = "kuma-system";

bool HasAll(const std::map<std::string, std::string>& wanted,
            const std::map<std::string, std::string>& present) {
  return std::ranges::all_of(wanted, [&](const auto& pair) {
    const auto found = present.find(pair.first);
    return found != present.end() && (found->second == pair.second || pair.second == "*");
  });
}

// 2.x tags: those of an inbound together with the labels, which 3.0 has in their place.
bool InboundHasTags(const DataplaneDocument& workload, const DataplaneInbound& inbound,
                    const std::map<std::string, std::string>& tags) {
  std::map<std::string, std::string> present = inbound.tags;
  present.insert(workload.envelope.labels.begin(), workload.envelope.labels.end());
  return HasAll(tags, present);
}

bool HasTags(const DataplaneDocument& workload, const std::map<std::string, std::string>& tags) {
  return HasAll(tags, workload.envelope.labels) ||
         std::ranges::any_of(workload.inbounds, [&](const DataplaneInbound& inbound) {
           return InboundHasTags(workload, inbound, tags);
         });
}

bool IsSystem(const Envelope& envelope) {
  return envelope.ns.empty() || envelope.ns == kSystemNamespace;
}

bool IsNamed(const TargetRef& target, const Envelope& policy, const DataplaneDocument& workload) {
  // A policy of the system reaches all namespaces unless it names one.
  const std::string& wanted_ns = target.ns.empty() ? policy.ns : target.ns;
  if (wanted_ns != workload.ns && !(target.ns.empty() && IsSystem(policy))) {
    return false;
  }
  const std::string display = workload.envelope.Label("kuma.io/display-name");
  return target.name == workload.envelope.name || target.name == display;
}

std::string DisplayName(const Envelope& envelope) {
  const std::string label = envelope.Label("kuma.io/display-name");
  return label.empty() ? envelope.name : label;
}

// Mesh, namespace and kind of proxy: where a policy counts at all.
bool IsInReach(const PolicyDocument& policy, const DataplaneDocument& workload) {
  const Envelope& envelope = policy.envelope;
  const TargetRef& target = policy.target;
  return envelope.mesh == workload.envelope.mesh &&
         (workload.gateway ? target.gateways : target.sidecars) &&
         (IsSystem(envelope) || envelope.ns == workload.ns);
}

// Everything but the name, from weak to strong.
auto Strength(const PolicyDocument& policy) {
  const TargetRef& target = policy.target;
  const bool from_zone = policy.envelope.Label("kuma.io/origin") == "zone";
  return std::tuple(target.kind, !target.name.empty(), !target.section_name.empty(), from_zone,
                    !IsSystem(policy.envelope));
}

}  // namespace

bool Selects(const PolicyDocument& policy, const DataplaneDocument& workload) {
  const TargetRef& target = policy.target;
  if (!IsInReach(policy, workload)) {
    return false;
  }
  switch (target.kind) {
    case TargetKind::kMesh:
      return true;
    case TargetKind::kDataplane:
      return target.name.empty() ? HasAll(target.labels, workload.envelope.labels)
                                 : IsNamed(target, policy.envelope, workload);
    case TargetKind::kMeshSubset:
    case TargetKind::kMeshService:
    case TargetKind::kMeshServiceSubset:
      return HasTags(workload, TagsOf(target));
    case TargetKind::kMeshGateway:
      return false;  // built-in gateways are no workloads of weir's
  }
  return false;
}

bool SelectsInbound(const PolicyDocument& policy, const DataplaneDocument& workload,
                    const DataplaneInbound* inbound) {
  const TargetRef& target = policy.target;
  const std::string& section = target.section_name;
  if (!section.empty() &&
      (inbound == nullptr || !NamesInbound(section, inbound->port, inbound->name))) {
    return false;
  }
  if (target.kind != TargetKind::kMeshSubset && target.kind != TargetKind::kMeshService &&
      target.kind != TargetKind::kMeshServiceSubset) {
    return Selects(policy, workload);
  }
  return IsInReach(policy, workload) &&
         (inbound == nullptr ? HasAll(TagsOf(target), workload.envelope.labels)
                             : InboundHasTags(workload, *inbound, TagsOf(target)));
}

std::map<std::string, std::string> TagsOf(const TargetRef& peer) {
  auto tags = peer.tags;
  if (peer.kind == TargetKind::kMeshService || peer.kind == TargetKind::kMeshServiceSubset) {
    tags.emplace(kServiceTag, peer.name);
  }
  return tags;
}

bool NamesPeer(const TargetRef& peer, const DataplaneDocument& workload) {
  return peer.kind == TargetKind::kMesh || HasTags(workload, TagsOf(peer));
}

bool NamesInbound(const std::string& section_name, std::uint16_t port, const std::string& name) {
  return section_name == std::to_string(port) || (!name.empty() && section_name == name);
}

bool IsWeaker(const PolicyDocument& left, const PolicyDocument& right) {
  const auto left_strength = Strength(left);
  const auto right_strength = Strength(right);
  if (left_strength != right_strength) {
    return left_strength < right_strength;
  }
  return DisplayName(left.envelope) > DisplayName(right.envelope);
}

bool AreEquallyStrong(const PolicyDocument& left, const PolicyDocument& right) {
  return Strength(left) == Strength(right);
}

TargetRef ReadTargetRef(Fields& body) {
  TargetRef target;
  const Node* node = body.Take("targetRef");
  if (node == nullptr) {
    return target;
  }
  Fields fields(*node, "targetRef", body.reader());
  if (const Node* kind = fields.Require("kind")) {
    // In the order of TargetKind.
    const auto choice = ReadChoice(
        *kind, "kind",
        {"Mesh", "Dataplane", "MeshSubset", "MeshGateway", "MeshService", "MeshServiceSubset"},
        body.reader());
    target.kind = static_cast<TargetKind>(choice.value_or(0));
  }
  target.name = fields.String("name").value_or("");
  target.ns = fields.String("namespace").value_or("");
  target.section_name = fields.String("sectionName").value_or("");
  target.labels = fields.StringMap("labels");
  target.tags = fields.StringMap("tags");
  if (!target.name.empty() && !target.labels.empty()) {
    fields.ErrorAt("labels", "cannot stand beside \"name\"");
  }
  const bool has_service_name =
      target.kind == TargetKind::kMeshService || target.kind == TargetKind::kMeshServiceSubset;
  if (has_service_name && target.name.empty()) {
    (void)fields.Require("name");
  }
  if (fields.map().Find("proxyTypes") != nullptr) {
    target.sidecars = target.gateways = false;
    fields.ForEach("proxyTypes", [&](const Node& item) {
      const auto choice = ReadChoice(item, "proxyTypes", {"Sidecar", "Gateway"}, body.reader());
      target.sidecars |= choice == std::size_t{0};
      target.gateways |= choice == std::size_t{1};
    });
  }
  if (target.kind == TargetKind::kMeshGateway) {
    body.reader().Warn(*node,
                       "targetRef of kind MeshGateway selects nothing: weir has no built-in "
                       "gateways");
  }
  fields.Finish();
  return target;
}

}  // namespace weir::config
