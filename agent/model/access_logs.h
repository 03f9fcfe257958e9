#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/model/access_log_format.h"
#include "agent/model/snapshot.h"

// What MeshAccessLog documents say for the workloads of this node. Plain data, immutable once
// published.
namespace weir::model {

// A file that lines go to.
struct LogBackend {
  std::string path;
  LogFormat request;     // of a request's line
  LogFormat connection;  // of a connection's: the same, but for Kuma's defaults
};

// Who a peer must be, by its SPIFFE id.
struct LogMatch {
  bool is_prefix = false;  // else exactly
  std::string spiffe_id;
};

// All of what matches is logged to every backend; several rules are independent.
struct LogRule {
  std::vector<LogMatch> matches;  // alternatives; empty: everybody
  std::vector<LogBackend> backends;
};

struct WorkloadLogs {
  std::vector<LogRule> inbound;
  std::vector<LogRule> outbound;
};

using AccessLogs = std::map<LocalId, WorkloadLogs>;

inline constexpr std::size_t kMaxLogFiles = 32;  // of a node

}  // namespace weir::model
