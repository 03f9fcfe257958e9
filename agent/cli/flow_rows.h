#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/cli/terminal.h"
#include "agent/cli/text.h"

namespace weir::v1 {
class Flow;
}

namespace weir::cli {

struct FlowRowOptions {
  Style style;
  TimeFormat time_format = TimeFormat::kLocal;
  bool numeric = false;  // addresses instead of names
};

// One column of flows.
struct FlowColumn {
  std::string_view header;  // as Table takes it: '>' aligns to the right
  std::string (*cell)(const v1::Flow& flow, const FlowRowOptions& options);

  [[nodiscard]] std::string name() const;  // as --fields takes it: "src-id"
};

// Those of wide, in its order, which begins with those of compact.
std::span<const FlowColumn> FlowColumns();
inline constexpr std::size_t kCompactColumns = 12;

// Null when there is none of that name.
const FlowColumn* FindFlowColumn(std::string_view name);

// One line "NAME: value" for each of `columns` that the flow has.
std::string DictOf(const v1::Flow& flow, const std::vector<const FlowColumn*>& columns,
                   const FlowRowOptions& options);

// TIME DIR SRC -> DST PROTO METHOD PATH STATUS DUR VERDICT MTLS TRACE, "-" for what a flow
// does not have, without an end of line. `lead` stands before all but the time.
std::string CompactLine(const v1::Flow& flow, const FlowRowOptions& options,
                        const std::string& lead);

}  // namespace weir::cli
