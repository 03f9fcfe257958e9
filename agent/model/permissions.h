#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/model/prefix_tree.h"

// Who may call a workload, as MeshTrafficPermission documents say, compiled so that a
// decision costs the same with one rule and with ten thousand. Immutable once published.
namespace weir::model {

// In the order of their force.
enum class PermissionEffect : std::uint8_t { kDeny, kAllowWithShadowDeny, kAllow };
inline constexpr std::size_t kPermissionEffectCount = 3;

// One entry of a document's lists, and where it stands.
struct PermissionRule {
  PermissionEffect effect = PermissionEffect::kDeny;
  std::string name;    // "crm/only-a-and-b:allow[1]", as flows show it
  std::string source;  // "crm.yaml:12"
  std::string peer{};  // whom it is for, to be read: "spiffe://mesh/ns/crm/*"
};
using PermissionRulePtr = std::shared_ptr<const PermissionRule>;

// Whom an entry is for.
struct PermissionMatch {
  enum class Kind : std::uint8_t {
    kAnyone,  // every identity
    kExact,
    kPrefix,  // of the whole SPIFFE ID, by bytes
  };
  Kind kind = Kind::kAnyone;
  std::string spiffe_id;    // or its prefix
  std::string server_name;  // that the application's own TLS asks for; empty: any or none

  friend bool operator==(const PermissionMatch&, const PermissionMatch&) = default;
};

// Who asks.
struct PermissionQuery {
  std::string_view spiffe_id;
  std::string_view workload;     // its display name by the registry; empty if it has none
  std::string_view server_name;  // of the application's own TLS; empty without
};

// PermissionSet holds the rules of one inbound.
class PermissionSet {
 public:
  // Adds a rule; of several for the same match and effect the first is the one that is named.
  void Add(const PermissionMatch& match, PermissionRulePtr rule);
  // What the documents of the second generation (`from`) say for everybody: replaces all that
  // was said before.
  void SetFromEveryone(PermissionRulePtr rule);
  // The same for one workload of the registry, by its display name.
  void SetFrom(const std::string& workload, PermissionRulePtr rule);

  // The rule that decides: a matching deny, else a matching allowWithShadowDeny, else a
  // matching allow, exact ones before longer prefixes before shorter ones. Null: no rule
  // is for this peer. Dies with the set. Pure; any thread.
  [[nodiscard]] const PermissionRule* Find(const PermissionQuery& query) const;

  // Whether a rule asks for a server name, which is known only when bytes have come.
  [[nodiscard]] bool uses_server_names() const { return uses_server_names_; }
  // Whether documents of the second generation are in it: only then Find looks at `workload`.
  [[nodiscard]] bool uses_workloads() const { return has_from_; }
  [[nodiscard]] std::size_t rule_count() const { return rules_.size(); }
  // Every rule in it, those that never decide included, for explanations.
  [[nodiscard]] const std::vector<PermissionRulePtr>& rules() const { return rules_; }

 private:
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };
  template <typename T>
  using ByText = std::unordered_map<std::string, T, TextHash, std::equal_to<>>;

  // The rules that share an identity (or prefix) and an effect.
  struct Candidates {
    const PermissionRule* whatever_name = nullptr;
    ByText<const PermissionRule*> by_server_name;

    void Add(const std::string& server_name, const PermissionRule* rule);
    [[nodiscard]] const PermissionRule* Find(std::string_view server_name) const;
  };
  struct Matcher {
    Candidates anyone;
    ByText<Candidates> exact;
    PrefixTree prefixes;  // -> index in by_prefix
    std::vector<Candidates> by_prefix;

    [[nodiscard]] const PermissionRule* Find(const PermissionQuery& query) const;
  };

  [[nodiscard]] const PermissionRule* FindFrom(std::string_view workload) const;

  std::vector<PermissionRulePtr> rules_;
  std::array<Matcher, kPermissionEffectCount> matchers_;  // by effect
  const PermissionRule* from_everyone_ = nullptr;
  ByText<const PermissionRule*> from_;
  bool uses_server_names_ = false;
  bool has_from_ = false;
};

// The rules of one workload's ports.
struct WorkloadPermissions {
  std::shared_ptr<const PermissionSet> general;  // of ports that are none of its inbounds'
  std::map<std::uint16_t, std::shared_ptr<const PermissionSet>> by_port;  // of its inbounds

  // The rules of `port`; null: there are none, nobody may.
  [[nodiscard]] const PermissionSet* Of(std::uint16_t port) const {
    const auto found = by_port.find(port);
    return found == by_port.end() ? general.get() : found->second.get();
  }
};

}  // namespace weir::model
