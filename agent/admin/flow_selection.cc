#include "agent/admin/flow_selection.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "agent/admin/flow_message.h"
#include "weir/v1/flow.pb.h"

namespace weir::admin {
namespace {

constexpr std::int64_t kNanosPerSecond = 1'000'000'000;

void SetTime(google::protobuf::Timestamp* to, base::WallTime time) {
  to->set_seconds(time.time_since_epoch().count() / kNanosPerSecond);
  to->set_nanos(static_cast<std::int32_t>(time.time_since_epoch().count() % kNanosPerSecond));
}

}  // namespace

FlowSelection::FlowSelection(FlowQuery query)
    : query_(std::move(query)), failed_alone_(query_.filter.term_count()) {}

bool FlowSelection::Take(const observe::Flow& flow) {
  const base::WallTime time = EndOf(flow);
  if ((query_.since && time < *query_.since) || (query_.until && time >= *query_.until)) {
    return false;
  }
  ++summary_.seen;
  summary_.window_start = std::min(summary_.window_start, time);
  summary_.window_end = std::max(summary_.window_end, time);
  if (!query_.filter.Matches(flow)) {
    NoteTermsFailed(flow);
    return false;
  }
  ++summary_.matched;
  return true;
}

bool FlowSelection::InSample(const observe::Flow& flow, std::uint64_t sequence) {
  std::uint64_t lot = sequence;
  if (const auto& trace = flow.trace_id; trace != observe::TraceId{}) {
    // The low bytes are random (W3C trace context level 2).
    std::memcpy(&lot, trace.data() + trace.size() - sizeof(lot), sizeof(lot));
  }
  if (lot % query_.sample != 0) {
    ++summary_.skipped;
    return false;
  }
  return true;
}

void FlowSelection::NoteTermsFailed(const observe::Flow& flow) {
  if (summary_.matched != 0) {
    return;  // the hint is for empty answers
  }
  if (const auto term = query_.filter.OnlyFailingTerm(flow)) {
    ++failed_alone_[*term];
  }
}

void FlowSelection::AppendSummary(std::string_view node, std::string& out) const {
  v1::FlowSummaryLine line;
  v1::FlowSummary* summary = line.mutable_summary();
  summary->set_seen(summary_.seen);
  summary->set_matched(summary_.matched);
  summary->set_lost(summary_.lost);
  summary->set_skipped(summary_.skipped);
  summary->set_node(std::string(node));
  if (summary_.seen != 0) {
    SetTime(summary->mutable_window_start(), summary_.window_start);
    SetTime(summary->mutable_window_end(), summary_.window_end);
  }
  const auto nearest = std::ranges::max_element(failed_alone_);
  if (summary_.matched == 0 && nearest != failed_alone_.end() && *nearest != 0) {
    const auto term = static_cast<std::size_t>(nearest - failed_alone_.begin());
    summary->set_nearest_dropped_term(std::string(query_.filter.term(term)));
    summary->set_nearest_matches(*nearest);
  }
  out += ToJson(line, /*with_defaults=*/true) + "\n";
}

}  // namespace weir::admin
