#include "agent/export/service_graph.h"

#include <algorithm>
#include <map>

#include "agent/observe/error_type.h"

namespace weir::telemetry {
namespace {

using observe::Direction;
using observe::Flow;
using observe::MtlsState;

// "o" or "i", then source and destination with a NUL between: no name has one.
void MakeKey(const Flow& flow, std::string& key) {
  key = flow.direction == Direction::kOutbound ? 'o' : 'i';
  AppendPartyName(flow.source, kOutside, key);
  key += '\0';
  if (flow.destination.workload != nullptr) {
    AppendPartyName(flow.destination, kOutside, key);
  } else {
    key += flow.destination.endpoint.ToString();
  }
}

template <std::size_t N>
void AddAll(std::array<std::uint64_t, N>& to, const std::array<std::uint64_t, N>& from) {
  std::ranges::transform(to, from, to.begin(), std::plus<>());
}

std::size_t Index(auto value) {
  return static_cast<std::size_t>(value);
}

}  // namespace

bool IsFailure(const Flow& flow) {
  return flow.verdict == observe::Verdict::kDeny || flow.verdict == observe::Verdict::kError ||
         !observe::ErrorType(flow, /*is_client=*/false).empty();
}

void ServiceGraph::Side::Add(const Flow& flow) {
  errors += IsFailure(flow) ? 1 : 0;
  if (flow.is_request) {
    ++requests;
    ++requests_by_mtls[Index(flow.mtls)];
    ++by_parent_source[Index(flow.parent_source)];
  } else {
    ++connections;
    ++connections_by_mtls[Index(flow.mtls)];
  }
  const bool has_requests =
      flow.protocol != observe::Protocol::kOpaque && flow.protocol != observe::Protocol::kTls;
  if (flow.is_request || !has_requests) {
    latency.Add(flow.timing.total);
  }
}

void ServiceGraph::Side::Merge(const Side& other) {
  requests += other.requests;
  connections += other.connections;
  errors += other.errors;
  AddAll(requests_by_mtls, other.requests_by_mtls);
  AddAll(connections_by_mtls, other.connections_by_mtls);
  AddAll(by_parent_source, other.by_parent_source);
  latency.Merge(other.latency);
}

void ServiceGraph::Consume(const std::vector<observe::Record>& records) noexcept {
  if (records.empty()) {
    return;
  }
  const std::lock_guard lock(mutex_);
  Slot& slot = CurrentSlot();
  for (const observe::Record& record : records) {
    FindSide(slot, record.flow).Add(record.flow);
  }
  while (cells_ > kMaxCells && slots_.size() > 1) {
    DropOldestSlot();
  }
}

ServiceGraph::Slot& ServiceGraph::CurrentSlot() {
  const base::MonotonicTime begin = begin_ + (clock_.Now() - begin_) / kSlot * kSlot;
  if (slots_.empty() || slots_.back().begin < begin) {
    slots_.push_back({.begin = begin});
  }
  while (slots_.front().begin + kSlot * kMaxSlots <= begin) {
    DropOldestSlot();
  }
  return slots_.back();
}

void ServiceGraph::DropOldestSlot() {
  covered_since_ = slots_.front().begin + kSlot;
  cells_ -= slots_.front().cells.size();
  slots_.pop_front();
}

ServiceGraph::Side& ServiceGraph::FindSide(Slot& slot, const Flow& flow) {
  MakeKey(flow, key_);
  auto found = slot.cells.find(key_);
  if (found != slot.cells.end()) {
    return found->second;
  }
  if (slot.cells.size() >= kMaxEdgesPerSlot) {
    ++folded_;
    key_.resize(1);
    key_.append(kOther).append(1, '\0').append(kOther);
  }
  const auto [cell, is_new] = slot.cells.try_emplace(key_);
  cells_ += is_new ? 1 : 0;
  return cell->second;
}

GraphEdge ServiceGraph::ToEdge(const Side& side) {
  const auto& by_mtls = side.requests != 0 ? side.requests_by_mtls : side.connections_by_mtls;
  return {.source = {},
          .destination = {},
          .requests = side.requests,
          .connections = side.connections,
          .errors = side.errors,
          .tunnel = by_mtls[Index(MtlsState::kTunnel)],
          .local = by_mtls[Index(MtlsState::kLocal)],
          .plain = by_mtls[Index(MtlsState::kOff)],
          .by_parent_source = side.by_parent_source,
          .p50 = side.latency.Quantile(0.5),
          .p99 = side.latency.Quantile(0.99)};
}

ServiceGraphView ServiceGraph::View(base::Nanoseconds window) const {
  std::map<std::string, Side, std::less<>> sums;
  ServiceGraphView view;
  {
    const std::lock_guard lock(mutex_);
    const base::MonotonicTime now = clock_.Now();
    view.window = std::min(window, now - covered_since_);
    view.folded = folded_;
    for (const Slot& slot : slots_) {
      if (slot.begin + kSlot <= now - window) {
        continue;
      }
      for (const auto& [key, side] : slot.cells) {
        sums[key].Merge(side);
      }
    }
  }
  std::map<std::string, GraphEdge, std::less<>> edges;  // by the key without its direction
  for (const auto& [key, side] : sums) {                // "i" first, so that "o" wins
    GraphEdge edge = ToEdge(side);
    edge.is_seen_at_source = key.front() == 'o';
    const std::size_t border = key.find('\0');
    edge.source = key.substr(1, border - 1);
    edge.destination = key.substr(border + 1);
    if (!edge.is_seen_at_source && edge.source != kOutside) {
      edge.by_parent_source = {};  // all would be "header": the one that the source's node wrote
    }
    edges[key.substr(1)] = std::move(edge);
  }
  for (auto& [key, edge] : edges) {
    view.edges.push_back(std::move(edge));
  }
  return view;
}

}  // namespace weir::telemetry
