#pragma once

#include <string>
#include <string_view>

#include "agent/observe/record.h"

namespace weir::telemetry {

// Appends the display name of `party`'s workload, or `outside` if it has none, without an
// allocation of its own: called for every record.
inline void AppendPartyName(const observe::Party& party, std::string_view outside,
                            std::string& out) {
  if (party.workload == nullptr) {
    out += outside;
    return;
  }
  if (!party.workload->ns.empty()) {
    out += party.workload->ns;
    out += '/';
  }
  out += party.workload->name;
}

// For unordered tables with names in their keys that are found by a view.
struct NameHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view name) const noexcept {
    return std::hash<std::string_view>{}(name);
  }
};

// How somebody is called who has no workload: a client, whose address says nothing.
inline constexpr std::string_view kOutside = "outside";
// What counts beyond a limit on names are kept under.
inline constexpr std::string_view kOther = "other";

}  // namespace weir::telemetry
