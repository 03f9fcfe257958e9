#pragma once

#include <span>
#include <string>
#include <string_view>

#include "agent/cli/options.h"

namespace weir::cli {

// A flag of `weir flows` that stands for a term of the filter.
struct FilterFlag {
  std::string_view name;  // without dashes
  std::string_view field;
  std::string_view op;
  std::string_view value;  // placeholder, or words joined by |
  std::string_view help;
  bool sides = false;  // has --from- and --to- forms: fields src.FIELD and dst.FIELD
};
std::span<const FilterFlag> FilterFlags();

// The field of a flag's --from- or --to- form: "src" for workload, "src.ip" for ip.
std::string SideField(std::string_view field, std::string_view side);

// The filter that terms and expression make together, in the language of the admin API;
// empty without any.
std::string ToExpression(const FlowsOptions& options);

}  // namespace weir::cli
