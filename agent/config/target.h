#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>

namespace weir::config {

struct DataplaneDocument;
struct DataplaneInbound;
struct PolicyDocument;

// What a top-level targetRef names, both generations; weakest first, as Kuma orders them.
enum class TargetKind : std::uint8_t {
  kMesh,
  kDataplane,
  kMeshSubset,
  kMeshGateway,
  kMeshService,
  kMeshServiceSubset
};

// TargetRef says whom a policy is for. A missing one is the whole mesh.
struct TargetRef {
  TargetKind kind = TargetKind::kMesh;
  std::string name;
  std::string ns;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> tags;
  std::string section_name;  // inbound by name or port number
  bool sidecars = true;      // proxyTypes names Sidecar, or is absent
  bool gateways = true;      // proxyTypes names Gateway, or is absent
};

// Whether `policy` is for `workload` as a whole, its sectionName aside.
bool Selects(const PolicyDocument& policy, const DataplaneDocument& workload);

// The same for one inbound alone, whose sectionName and tags count; null stands for a port
// that is none of the workload's inbounds.
bool SelectsInbound(const PolicyDocument& policy, const DataplaneDocument& workload,
                    const DataplaneInbound* inbound);

// Whether the `targetRef` of an item of `from` names `workload`: the whole mesh, or by tags.
bool NamesPeer(const TargetRef& peer, const DataplaneDocument& workload);
// The tags that NamesPeer asks for.
std::map<std::string, std::string> TagsOf(const TargetRef& peer);

// Whether a sectionName (never empty) names the inbound {port, name}.
bool NamesInbound(const std::string& section_name, std::uint16_t port, const std::string& name);

// Orders policies of one kind from weak to strong: kind of target, labels before name,
// without sectionName before with, origin global before zone, system role before the
// workload's owner, and of equals the alphabetically first name is the strongest.
bool IsWeaker(const PolicyDocument& left, const PolicyDocument& right);
// Whether only the names order them.
bool AreEquallyStrong(const PolicyDocument& left, const PolicyDocument& right);

}  // namespace weir::config
