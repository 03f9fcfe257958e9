#include "agent/admin/flow_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "agent/admin/flow_message.h"
#include "weir/v1/flow.pb.h"

namespace weir::admin {
namespace {

constexpr std::int64_t kNanosPerSecond = 1'000'000'000;
constexpr std::size_t kDefaultLast = 20;

void SetTime(google::protobuf::Timestamp* to, base::WallTime time) {
  to->set_seconds(time.time_since_epoch().count() / kNanosPerSecond);
  to->set_nanos(static_cast<std::int32_t>(time.time_since_epoch().count() % kNanosPerSecond));
}

base::WallTime EndOf(const observe::Flow& flow) {
  return flow.timing.start + flow.timing.total;
}

}  // namespace

const std::string& FlowLines::Get(const StoredFlow& stored) {
  Line& line = lines_[stored.sequence % lines_.size()];
  if (line.sequence != stored.sequence) {
    line.text = ToJson(ToMessage(stored, node_), /*with_defaults=*/false) + "\n";
    line.sequence = stored.sequence;
  }
  return line.text;
}

FlowReader::FlowReader(FlowQuery query, const FlowStore& store, FlowLines& lines,
                       const base::Clock& clock)
    : query_(std::move(query)),
      store_(store),
      lines_(lines),
      clock_(clock),
      phase_(Phase::kForward),
      failed_alone_(query_.filter.term_count()) {
  const bool whole = query_.first || query_.since || query_.until;
  if (!query_.last && !whole && !query_.follow) {
    query_.last = kDefaultLast;
  }
  before_ = resume_ = store_.next_sequence();
  if (query_.last) {
    query_.last = std::min(*query_.last, store_.limits().max_records);
    phase_ = *query_.last == 0 ? Phase::kEmitFound : Phase::kSearchBack;
  } else {
    next_ = whole ? store_.first_sequence() : resume_;
  }
}

FlowReader::Step FlowReader::Read(std::string& out, std::size_t max_bytes) {
  Step step = Step::kDone;
  switch (phase_) {
    case Phase::kSearchBack:
      step = SearchBack();
      break;
    case Phase::kEmitFound:
      step = EmitFound(out, max_bytes);
      break;
    case Phase::kForward:
      step = Forward(out, max_bytes);
      break;
    case Phase::kEnd:
      return Step::kDone;
  }
  if (step == Step::kDone) {
    AppendSummary(out);
    phase_ = Phase::kEnd;
  } else if (step == Step::kCaughtUp) {
    const auto now = clock_.Now();
    const bool news = summary_seen_ != summary_.seen || summary_lost_ != summary_.lost;
    const bool never = summary_time_ == base::MonotonicTime::min();
    if (never || now - summary_time_ >= (news ? kSummaryEvery : kIdleSummaryEvery)) {
      AppendSummary(out);
    }
  } else if (summary_lost_ != summary_.lost && query_.follow) {
    AppendSummary(out);  // a slow reader learns at once what it missed
  }
  return step;
}

FlowReader::Step FlowReader::SearchBack() {
  const auto batch = store_.ReadBefore(before_);
  for (const StoredFlow& stored : batch) {
    summary_.lost += before_ - stored.sequence - 1;
    before_ = stored.sequence;
    if (Take(stored) && InSample(stored)) {
      found_.push_front(stored);
      if (found_.size() == *query_.last) {
        phase_ = Phase::kEmitFound;
        return Step::kMore;
      }
    }
  }
  if (batch.size() < FlowStore::kMaxReadRecords) {
    phase_ = Phase::kEmitFound;
  }
  return Step::kMore;
}

FlowReader::Step FlowReader::EmitFound(std::string& out, std::size_t max_bytes) {
  while (!found_.empty() && out.size() < max_bytes) {
    out += lines_.Get(found_.front());
    found_.pop_front();
  }
  if (!found_.empty()) {
    return Step::kMore;
  }
  if (!query_.follow) {
    return Step::kDone;
  }
  next_ = resume_;
  phase_ = Phase::kForward;
  return Step::kMore;
}

FlowReader::Step FlowReader::Forward(std::string& out, std::size_t max_bytes) {
  const std::uint64_t end = query_.follow ? UINT64_MAX : resume_;
  const auto batch = store_.ReadFrom(next_);
  for (const StoredFlow& stored : batch) {
    if (stored.sequence >= end) {
      return Step::kDone;
    }
    if (out.size() >= max_bytes) {
      return Step::kMore;
    }
    summary_.lost += stored.sequence - next_;
    next_ = stored.sequence + 1;
    if (Take(stored) && InSample(stored) && WithinRate()) {
      out += lines_.Get(stored);
      if (query_.first && summary_.matched - summary_.skipped >= *query_.first) {
        return Step::kDone;
      }
    }
  }
  if (batch.size() == FlowStore::kMaxReadRecords) {
    return Step::kMore;
  }
  if (query_.follow && query_.until && clock_.WallNow() >= *query_.until) {
    return Step::kDone;
  }
  return query_.follow ? Step::kCaughtUp : Step::kDone;
}

bool FlowReader::Take(const StoredFlow& stored) {
  const base::WallTime time = EndOf(*stored.flow);
  if ((query_.since && time < *query_.since) || (query_.until && time >= *query_.until)) {
    return false;
  }
  ++summary_.seen;
  summary_.window_start = std::min(summary_.window_start, time);
  summary_.window_end = std::max(summary_.window_end, time);
  if (!query_.filter.Matches(*stored.flow)) {
    NoteTermsFailed(*stored.flow);
    return false;
  }
  ++summary_.matched;
  return true;
}

bool FlowReader::WithinRate() {
  if (!query_.max_rps) {
    return true;
  }
  const auto now = clock_.Now();
  if (now - rate_second_ >= std::chrono::seconds(1)) {
    rate_second_ = now;
    rate_count_ = 0;
  }
  if (++rate_count_ > *query_.max_rps) {
    ++summary_.skipped;
    return false;
  }
  return true;
}

bool FlowReader::InSample(const StoredFlow& stored) {
  std::uint64_t lot = stored.sequence;
  if (const auto& trace = stored.flow->trace_id; trace != observe::TraceId{}) {
    // The low bytes are random (W3C trace context level 2).
    std::memcpy(&lot, trace.data() + trace.size() - sizeof(lot), sizeof(lot));
  }
  if (lot % query_.sample != 0) {
    ++summary_.skipped;
    return false;
  }
  return true;
}

void FlowReader::NoteTermsFailed(const observe::Flow& flow) {
  if (summary_.matched != 0) {
    return;  // the hint is for empty answers
  }
  if (const auto term = query_.filter.OnlyFailingTerm(flow)) {
    ++failed_alone_[*term];
  }
}

void FlowReader::AppendSummary(std::string& out) {
  v1::FlowSummaryLine line;
  v1::FlowSummary* summary = line.mutable_summary();
  summary->set_seen(summary_.seen);
  summary->set_matched(summary_.matched);
  summary->set_lost(summary_.lost);
  summary->set_skipped(summary_.skipped);
  summary->set_node(lines_.node());
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
  summary_time_ = clock_.Now();
  summary_seen_ = summary_.seen;
  summary_lost_ = summary_.lost;
}

}  // namespace weir::admin
