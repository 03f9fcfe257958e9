#include "agent/export/top_table.h"

#include <algorithm>

#include "agent/export/party_name.h"
#include "agent/export/service_graph.h"

namespace weir::telemetry {
namespace {

using observe::Direction;
using observe::Flow;

std::string SourceOf(const Flow& flow) {
  std::string name;
  AppendPartyName(flow.source, kOutside, name);
  return name;
}

std::string DestinationOf(const Flow& flow) {
  std::string name;
  if (flow.destination.workload == nullptr) {
    return flow.destination.endpoint.ToString();
  }
  AppendPartyName(flow.destination, kOutside, name);
  return name;
}

// A connection of HTTP that made no request says nothing about how long one takes.
bool HasDuration(const Flow& flow) {
  return flow.is_request || flow.protocol == observe::Protocol::kOpaque ||
         flow.protocol == observe::Protocol::kTls;
}

}  // namespace

bool TopTable::Counts(const Flow& flow) const {
  switch (by_) {
    case TopBy::kPath:
      return flow.is_request && flow.http.has_value();
    case TopBy::kPid:
      return flow.pid != 0;
    case TopBy::kPair:
    case TopBy::kWorkload:
    case TopBy::kPolicy:
      return true;
  }
  return true;
}

void TopTable::NameRow(const Flow& flow, TopRow& row) const {
  row.direction = flow.direction;
  switch (by_) {
    case TopBy::kPair:
      row.source = SourceOf(flow);
      row.destination = DestinationOf(flow);
      return;
    case TopBy::kWorkload:
      row.name = flow.direction == Direction::kOutbound ? SourceOf(flow) : DestinationOf(flow);
      return;
    case TopBy::kPath:
      row.destination = DestinationOf(flow);
      row.name = flow.http->method + " " + flow.http->path;
      return;
    case TopBy::kPolicy:
      row.name = flow.policy;
      row.verdict = observe::ToString(flow.verdict);
      return;
    case TopBy::kPid:
      row.source = SourceOf(flow);
      row.name.assign(flow.comm.begin(), std::ranges::find(flow.comm, '\0'));
      row.pid = flow.pid;
      return;
  }
}

// No name has a NUL. The direction stands first, so that both ends of a row are apart.
std::string TopTable::KeyOf(const Flow& flow) const {
  TopRow row;
  NameRow(flow, row);
  std::string key = flow.direction == Direction::kOutbound ? "o" : "i";
  for (const std::string* part : {&row.source, &row.destination, &row.name, &row.verdict}) {
    key.append(*part).append(1, '\0');
  }
  return key + std::to_string(row.pid);
}

void TopTable::Add(const Flow& flow) {
  if (!Counts(flow)) {
    return;
  }
  std::string key = KeyOf(flow);
  auto found = cells_.find(key);
  if (found == cells_.end()) {
    const bool full = cells_.size() >= kMaxRows;
    folded_ += full ? 1 : 0;
    key = full ? std::string(kOther) : key;
    const auto [cell, is_new] = cells_.try_emplace(key);
    if (is_new && full) {
      cell->second.row.source = cell->second.row.destination = cell->second.row.name = kOther;
    } else if (is_new) {
      NameRow(flow, cell->second.row);
    }
    found = cell;
  }
  Cell& cell = found->second;
  ++(flow.is_request ? cell.row.requests : cell.row.connections);
  cell.row.errors += IsFailure(flow) ? 1 : 0;
  cell.row.denied += flow.verdict == observe::Verdict::kDeny ? 1 : 0;
  cell.row.encrypted += flow.mtls == observe::MtlsState::kOff ? 0 : 1;
  cell.row.sent_bytes += flow.bytes_sent;
  cell.row.received_bytes += flow.bytes_received;
  if (HasDuration(flow)) {
    cell.latency.Add(flow.timing.total);
  }
}

std::vector<TopRow> TopTable::Rows() const {
  std::vector<TopRow> rows;
  for (const auto& [key, cell] : cells_) {
    const bool outbound = key.front() == 'o' && key != kOther;
    std::string other_end = key;
    other_end.front() = outbound ? 'i' : 'o';
    const bool two_ends = cells_.contains(other_end);
    if (two_ends && ((by_ == TopBy::kPair && !outbound) || (by_ == TopBy::kPath && outbound))) {
      continue;
    }
    rows.push_back(cell.row);
    rows.back().p50 = cell.latency.Quantile(0.5);
    rows.back().p99 = cell.latency.Quantile(0.99);
  }
  return rows;
}

}  // namespace weir::telemetry
