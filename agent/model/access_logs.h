#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/model/access_log_format.h"
#include "agent/model/snapshot.h"

// What MeshAccessLog documents say for the workloads of this node. Plain data, immutable once
// published.
namespace weir::model {

enum class LogSink : std::uint8_t { kFile, kTcp, kOtlp };

// A value of OTLP's type AnyValue, with operators in its texts.
struct LogValue {
  enum class Kind : std::uint8_t { kText, kBool, kInt, kDouble, kList, kMap };
  Kind kind = Kind::kText;
  LogText text{};
  bool flag = false;
  std::int64_t number = 0;
  double real = 0;
  std::vector<std::string> keys{};  // kMap: one for each of `values`
  std::vector<LogValue> values{};   // kList and kMap
};
inline constexpr std::size_t kMaxLogValueDepth = 8;
inline constexpr std::size_t kMaxLogValues = 256;  // in one body, at all depths

// Where lines or log records go. Files and TCP have `request` and `connection`, OTLP the rest.
struct LogBackend {
  LogSink sink = LogSink::kFile;
  // The path of the file; "tcp://HOST:PORT"; the name of the OTLP exporter.
  std::string target;
  LogFormat request{};     // of a request's line
  LogFormat connection{};  // of a connection's: the same, but for Kuma's defaults
  std::vector<std::pair<std::string, LogText>> attributes{};
  LogValue request_body{};
  LogValue connection_body{};
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

inline constexpr std::size_t kMaxLogFiles = 32;  // and TCP sinks, of a node

}  // namespace weir::model
