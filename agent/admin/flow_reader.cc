#include "agent/admin/flow_reader.h"

#include <algorithm>
#include <utility>

#include "agent/admin/flow_message.h"
#include "weir/v1/flow.pb.h"

namespace weir::admin {
namespace {

constexpr std::size_t kDefaultLast = 20;

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
      selection_(query_) {
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
    const bool news =
        summary_seen_ != selection_.summary().seen || summary_lost_ != selection_.summary().lost;
    const bool never = summary_time_ == base::MonotonicTime::min();
    if (never || now - summary_time_ >= (news ? kSummaryEvery : kIdleSummaryEvery)) {
      AppendSummary(out);
    }
  } else if (summary_lost_ != selection_.summary().lost && query_.follow) {
    AppendSummary(out);  // a slow reader learns at once what it missed
  }
  return step;
}

FlowReader::Step FlowReader::SearchBack() {
  const auto batch = store_.ReadBefore(before_);
  for (const StoredFlow& stored : batch) {
    selection_.summary().lost += before_ - stored.sequence - 1;
    before_ = stored.sequence;
    if (Take(stored)) {
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
    selection_.summary().lost += stored.sequence - next_;
    next_ = stored.sequence + 1;
    if (Take(stored) && WithinRate()) {
      out += lines_.Get(stored);
      if (query_.first &&
          selection_.summary().matched - selection_.summary().skipped >= *query_.first) {
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
  return selection_.Take(*stored.flow) && selection_.InSample(*stored.flow, stored.sequence);
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
    ++selection_.summary().skipped;
    return false;
  }
  return true;
}

void FlowReader::AppendSummary(std::string& out) {
  selection_.AppendSummary(lines_.node(), out);
  summary_time_ = clock_.Now();
  summary_seen_ = selection_.summary().seen;
  summary_lost_ = selection_.summary().lost;
}

}  // namespace weir::admin
