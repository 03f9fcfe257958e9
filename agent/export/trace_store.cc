#include "agent/export/trace_store.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string_view>

#include "agent/export/party_name.h"
#include "agent/observe/error_type.h"

namespace weir::telemetry {
namespace {

std::string NameOf(const observe::Party& party) {
  return party.workload != nullptr ? party.workload->display_name() : party.endpoint.ToString();
}

std::string ServiceOf(const observe::Record& record) {
  if (record.local == nullptr) {
    return std::string(kOutside);
  }
  if (!record.local->resource.service_name.empty() || record.local->workload == nullptr) {
    return record.local->resource.service_name;
  }
  return record.local->workload->display_name();
}

std::string LinksText(const std::vector<observe::SpanLink>& links) {
  std::string text;
  for (const observe::SpanLink& link : links) {
    text += text.empty() ? "" : " ";
    text += observe::ToHex(link.trace_id) + "-" + observe::ToHex(link.span_id);
  }
  return text;
}

StoredSpan ToStored(const observe::Record& record) {
  const observe::Span& span = *record.span;
  const observe::Flow& flow = record.flow;
  StoredSpan stored;
  stored.trace_id = span.trace_id;
  stored.span_id = span.span_id;
  stored.parent_span_id = span.parent_span_id;
  stored.is_client = span.is_client;
  stored.parent_source = span.parent_source;
  stored.sampled_by = span.sampled_by;
  stored.links = LinksText(span.links);
  stored.mtls = flow.mtls;
  stored.verdict = flow.verdict;
  stored.reason = flow.reason;
  stored.timing = flow.timing;
  stored.service = ServiceOf(record);
  stored.source = NameOf(flow.source);
  stored.destination = NameOf(flow.destination);
  if (flow.http) {
    stored.status = flow.http->status;
    stored.method = flow.http->method;
    stored.host = flow.http->host;
    stored.path = flow.http->path;
  }
  stored.database = flow.database;
  stored.is_connection = !flow.is_request && !flow.http;
  stored.error_type = observe::ErrorType(flow, span.is_client);
  stored.is_error = !stored.error_type.empty();
  return stored;
}

// Memory of one span, the room that the table needs for it included.
std::size_t SpanBytes(const StoredSpan& span) {
  std::size_t bytes = sizeof(span) + 64;
  if (span.database != nullptr) {
    bytes += sizeof(*span.database) + span.database->summary.capacity();
  }
  for (const std::string* text : {&span.service, &span.source, &span.destination, &span.method,
                                  &span.host, &span.path, &span.error_type, &span.links}) {
    bytes += text->capacity();
  }
  return bytes;
}

TraceSummary Summarise(const std::vector<StoredSpan>& spans) {
  std::set<std::string_view> services;
  std::set<observe::SpanId> ids;
  for (const StoredSpan& span : spans) {
    ids.insert(span.span_id);
    services.insert(span.service);
  }
  TraceSummary summary{.trace_id = spans.front().trace_id, .start = spans.front().start()};
  const StoredSpan* root = nullptr;
  base::WallTime end = spans.front().start();
  for (const StoredSpan& span : spans) {
    summary.start = std::min(summary.start, span.start());
    end = std::max(end, span.end());
    summary.errors += span.is_error ? 1 : 0;
    const bool is_root = !ids.contains(span.parent_span_id);
    if (is_root && (root == nullptr || span.start() < root->start())) {
      root = &span;
    }
  }
  summary.duration = end - summary.start;
  summary.spans = spans.size();
  summary.services = services.size();
  if (root == nullptr) {  // a loop of parents
    root = &spans.front();
  }
  summary.root_service = root->service;
  summary.root_name = root->name();
  summary.root_status = root->status;
  return summary;
}

bool Matches(const TraceQuery& query, const TraceSummary& summary,
             const std::vector<StoredSpan>& spans) {
  if ((query.since && summary.start < *query.since) || summary.duration < query.min_duration ||
      (query.errors_only && summary.errors == 0)) {
    return false;
  }
  return query.service.empty() || std::ranges::any_of(spans, [&](const StoredSpan& span) {
           return span.service == query.service;
         });
}

// The `limit` longest, longest first.
void KeepSlowest(std::vector<TraceSummary>& traces, std::size_t limit) {
  std::ranges::stable_sort(traces, std::ranges::greater{}, &TraceSummary::duration);
  traces.resize(std::min(traces.size(), limit));
}

// Walks the tree below `root` in the order of output. `children` and `spans` have the same
// indices; what was emitted before is left out.
class TreeWalk {
 public:
  TreeWalk(std::vector<StoredSpan> spans, std::vector<std::vector<std::size_t>> children)
      : spans_(std::move(spans)), children_(std::move(children)), is_done_(spans_.size()) {}

  [[nodiscard]] bool IsDone(std::size_t index) const { return is_done_[index]; }

  void EmitTree(std::size_t root) {
    std::vector<Step> stack{{.index = root}};
    while (!stack.empty()) {
      const Step step = stack.back();
      stack.pop_back();
      if (is_done_[step.index]) {
        continue;
      }
      is_done_[step.index] = true;
      const std::size_t place = nodes_.size();
      nodes_.push_back({std::move(spans_[step.index]), step.parent, step.depth});
      const auto& children = children_[step.index];
      for (auto child = children.rbegin(); child != children.rend(); ++child) {
        stack.push_back({.index = *child, .parent = place, .depth = step.depth + 1});
      }
    }
  }

  std::vector<TraceNode> Take() { return std::move(nodes_); }

 private:
  struct Step {
    std::size_t index = 0;
    std::optional<std::size_t> parent{};
    std::size_t depth = 0;
  };
  std::vector<StoredSpan> spans_;
  std::vector<std::vector<std::size_t>> children_;
  std::vector<bool> is_done_;
  std::vector<TraceNode> nodes_;
};

}  // namespace

std::string StoredSpan::name() const {
  if (database != nullptr) {
    return std::string(database->name());
  }
  return is_connection ? std::string(observe::kConnectionSpanName) : method + " " + path;
}

std::vector<TraceNode> AssembleTrace(std::vector<StoredSpan> spans) {
  std::ranges::sort(spans, [](const StoredSpan& a, const StoredSpan& b) {
    return std::pair(a.start(), a.span_id) < std::pair(b.start(), b.span_id);
  });
  std::map<observe::SpanId, std::size_t> by_id;
  std::vector<StoredSpan> unique;
  for (StoredSpan& span : spans) {
    if (by_id.emplace(span.span_id, unique.size()).second) {
      unique.push_back(std::move(span));
    }
  }
  std::vector<std::vector<std::size_t>> children(unique.size());
  std::vector<std::size_t> roots;
  for (std::size_t i = 0; i < unique.size(); ++i) {
    const auto parent = by_id.find(unique[i].parent_span_id);
    if (parent == by_id.end() || parent->second == i) {
      roots.push_back(i);
    } else {
      children[parent->second].push_back(i);
    }
  }
  TreeWalk walk(std::move(unique), std::move(children));
  for (const std::size_t root : roots) {
    walk.EmitTree(root);
  }
  for (std::size_t i = 0; i < by_id.size(); ++i) {  // loops of parents
    if (!walk.IsDone(i)) {
      walk.EmitTree(i);
    }
  }
  return walk.Take();
}

// The low bytes of a trace id are random (W3C trace context level 2); a peer that chooses
// them can only slow down a table whose size is bounded.
std::size_t TraceStore::TraceIdHash::operator()(const observe::TraceId& id) const noexcept {
  std::size_t hash = 0;
  std::memcpy(&hash, id.data() + 8, sizeof(hash));
  return hash;
}

void TraceStore::Consume(const std::vector<observe::Record>& records) noexcept {
  const std::lock_guard lock(mutex_);
  for (const observe::Record& record : records) {
    if (record.span) {
      Insert(ToStored(record));
    }
  }
  while (counters_.bytes > limits_.bytes || counters_.spans > limits_.spans) {
    EvictOldest();
  }
}

void TraceStore::Insert(StoredSpan span) {
  ++counters_.stored;
  const auto [found, is_new] = traces_.try_emplace(span.trace_id);
  if (is_new) {
    order_.push_back(span.trace_id);
  }
  Trace& trace = found->second;
  if (trace.spans.size() == kMaxSpansPerTrace) {
    ++counters_.truncated;
    return;
  }
  const std::size_t bytes = SpanBytes(span) + (is_new ? 128 : 0);
  trace.bytes += bytes;
  counters_.bytes += bytes;
  ++counters_.spans;
  trace.spans.push_back(std::move(span));
}

void TraceStore::EvictOldest() {
  const auto oldest = traces_.find(order_.front());
  order_.pop_front();
  counters_.bytes -= oldest->second.bytes;
  counters_.spans -= oldest->second.spans.size();
  counters_.evicted += oldest->second.spans.size();
  traces_.erase(oldest);
}

TraceList TraceStore::List(const TraceQuery& query) const {
  TraceList list;
  const std::lock_guard lock(mutex_);
  list.seen = traces_.size();
  for (auto id = order_.rbegin(); id != order_.rend(); ++id) {
    const Trace& trace = traces_.find(*id)->second;
    TraceSummary summary = Summarise(trace.spans);
    if (!Matches(query, summary, trace.spans)) {
      continue;
    }
    ++list.matched;
    list.traces.push_back(std::move(summary));
    if (!query.slowest_first && list.traces.size() > query.limit) {
      list.traces.pop_back();
    } else if (query.slowest_first && list.traces.size() >= 2 * query.limit + 1) {
      KeepSlowest(list.traces, query.limit);  // never more than twice the limit is held
    }
  }
  if (query.slowest_first) {
    KeepSlowest(list.traces, query.limit);
  }
  return list;
}

std::vector<TraceNode> TraceStore::Get(const observe::TraceId& id) const {
  std::vector<StoredSpan> spans;
  {
    const std::lock_guard lock(mutex_);
    const auto found = traces_.find(id);
    if (found == traces_.end()) {
      return {};
    }
    spans = found->second.spans;
  }
  return AssembleTrace(std::move(spans));
}

TraceStoreCounters TraceStore::counters() const {
  const std::lock_guard lock(mutex_);
  TraceStoreCounters counters = counters_;
  counters.traces = traces_.size();
  counters.limit_bytes = limits_.bytes;
  return counters;
}

}  // namespace weir::telemetry
