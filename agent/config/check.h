#pragma once

#include <cstddef>
#include <string>

#include "agent/config/diagnostic.h"

namespace weir::config {

// What `weir config check` and a starting agent say about a set of files.
struct CheckReport {
  Diagnostics diagnostics;
  std::size_t document_count = 0;
  std::size_t workload_count = 0;
  std::size_t permission_count = 0;  // MeshTrafficPermission documents
  std::size_t rule_count = 0;        // entries of them

  [[nodiscard]] bool ok() const { return diagnostics.ok(); }
  // The findings, one per line, and a last line that sums up.
  [[nodiscard]] std::string ToText() const;
};

// Validates every document of `directory`, together with `agent_config_path` unless it is
// empty, as the agent would before taking them. Nothing is changed. Blocks.
CheckReport CheckDirectory(const std::string& directory, const std::string& agent_config_path = "");

}  // namespace weir::config
