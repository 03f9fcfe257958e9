#pragma once

#include <string>
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

// TIME DIR SRC -> DST PROTO METHOD PATH STATUS DUR VERDICT MTLS TRACE, "-" for what a flow
// does not have, without an end of line.
std::string CompactLine(const v1::Flow& flow, const FlowRowOptions& options);

std::vector<std::string> WideHeader();
std::vector<std::string> WideRow(const v1::Flow& flow, const FlowRowOptions& options);

}  // namespace weir::cli
