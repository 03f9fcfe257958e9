#include "agent/daemon/top_view.h"

#include <algorithm>
#include <chrono>

#include "agent/base/utf8.h"
#include "agent/daemon/process_cpu.h"
#include "agent/daemon/timestamp.h"
#include "agent/export/top_table.h"
#include "weir/v1/admin.pb.h"

namespace weir::daemon {
namespace {

// Workers hand their records on in batches, so the store's order is that of their ends only
// about; what lies deeper below the window than this ends the search.
constexpr auto kDisorder = std::chrono::seconds(1);

telemetry::TopBy ByOf(const std::string& word) {
  using telemetry::TopBy;
  return word == "workload" ? TopBy::kWorkload
         : word == "path"   ? TopBy::kPath
         : word == "policy" ? TopBy::kPolicy
         : word == "pid"    ? TopBy::kPid
                            : TopBy::kPair;
}

// Texts of requests come from peers and may be any bytes; a message holds only UTF-8.
std::string Clean(const std::string& text) {
  std::string scratch;
  return std::string(base::ToUtf8(text, scratch));
}

void FillRow(const telemetry::TopRow& from, const std::string& node, v1::TopRow& to) {
  to.set_source(from.source);
  to.set_destination(from.destination);
  to.set_name(Clean(from.name));
  to.set_verdict(from.verdict);
  to.set_direction(std::string(observe::ToString(from.direction)));
  to.set_pid(from.pid);
  to.set_node(node);
  to.set_requests(from.requests);
  to.set_connections(from.connections);
  to.set_errors(from.errors);
  to.set_denied(from.denied);
  to.set_encrypted(from.encrypted);
  to.set_sent_bytes(from.sent_bytes);
  to.set_received_bytes(from.received_bytes);
  to.set_p50_seconds(ToSeconds(from.p50));
  to.set_p99_seconds(ToSeconds(from.p99));
  if (const auto cpu = from.pid != 0 ? CpuOf(from.pid, from.name) : std::nullopt) {
    to.set_cpu_seconds(cpu->cpu_seconds);
    to.set_age_seconds(cpu->age_seconds);
  }
}

}  // namespace

v1::TopList MakeTop(const admin::FlowStore& store, const admin::TopQuery& query,
                    base::WallTime started_at, const std::string& node) {
  const base::WallTime now = base::SystemClock().WallNow();
  base::WallTime begin = std::max(now - query.window, started_at);
  telemetry::TopTable table(ByOf(query.by));
  std::uint64_t seen = 0;
  std::uint64_t lost = 0;
  std::uint64_t before = store.next_sequence();
  bool below = false;
  while (!below) {
    const auto batch = store.ReadBefore(before);
    for (const auto& [sequence, flow] : batch) {
      lost += before - sequence - 1;
      before = sequence;
      const base::WallTime end = flow->timing.start + flow->timing.total;
      below = end < begin - kDisorder;
      if (below) {
        break;
      }
      if (end >= begin) {
        ++seen;
        table.Add(*flow);
      }
    }
    if (batch.size() < admin::FlowStore::kMaxReadRecords) {
      break;
    }
  }
  if (!below && before > 1) {
    // The store has given up older ones: the window is what it still covers.
    const auto oldest = store.usage().oldest;
    begin = oldest ? std::max(begin, *oldest) : begin;
  }
  v1::TopList top;
  top.set_by(query.by);
  top.set_window_seconds(ToSeconds(now - begin));
  for (const telemetry::TopRow& row : table.Rows()) {
    FillRow(row, node, *top.add_rows());
  }
  top.set_seen(seen);
  top.set_lost(lost);
  top.set_folded(table.folded());
  return top;
}

}  // namespace weir::daemon
