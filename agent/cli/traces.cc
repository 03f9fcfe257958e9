#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/cli/gather.h"
#include "agent/cli/run.h"
#include "agent/cli/terminal.h"
#include "agent/cli/text.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {
namespace {

// Deeper than any real trace; a hostile one is cut there.
constexpr std::size_t kMaxDepth = 64;

auto StartOf(const v1::TraceSpan* span) {
  return std::pair(span->start().seconds(), span->start().nanos());
}

// The spans of one trace as a tree. A span whose parent nobody has is a root.
class Tree {
 public:
  explicit Tree(const std::vector<v1::Trace>& answers) {
    std::set<std::string> known;
    for (const v1::Trace& answer : answers) {
      for (const v1::TraceSpan& span : answer.spans()) {
        if (known.insert(span.span_id()).second) {
          spans_.push_back(&span);
        }
      }
    }
    std::ranges::sort(spans_, {}, StartOf);
    for (const v1::TraceSpan* span : spans_) {
      const bool has_parent =
          span->parent_span_id() != span->span_id() && known.contains(span->parent_span_id());
      children_[has_parent ? span->parent_span_id() : ""].push_back(span);
    }
  }

  [[nodiscard]] const std::vector<const v1::TraceSpan*>& spans() const { return spans_; }

  // One line per span, from each root down; what hangs in a loop of parents comes last.
  void Print(Table& table, const Style& style) {
    PrintBelow("", "", table, style, 0);
    for (const v1::TraceSpan* span : spans_) {
      if (!printed_.contains(span)) {
        PrintSpan(*span, "", "", table, style, 0);
      }
    }
  }

 private:
  void PrintBelow(const std::string& parent, const std::string& margin, Table& table,
                  const Style& style, std::size_t depth) {
    const auto found = children_.find(parent);
    if (found == children_.end() || depth > kMaxDepth) {
      return;
    }
    for (std::size_t i = 0; i < found->second.size(); ++i) {
      const bool last = i + 1 == found->second.size();
      const bool top = depth == 0;
      PrintSpan(*found->second[i], top ? "" : margin + (last ? "`- " : "|- "),
                top ? "" : margin + (last ? "   " : "|  "), table, style, depth);
    }
  }

  void PrintSpan(const v1::TraceSpan& span, const std::string& lead, const std::string& margin,
                 Table& table, const Style& style, std::size_t depth) {
    if (!printed_.insert(&span).second) {
      return;
    }
    const std::string status = span.status_code() != 0     ? std::to_string(span.status_code())
                               : span.error_type().empty() ? "-"
                                                           : Printable(span.error_type());
    const std::string parent =
        span.parent_source().empty() || span.parent_source() == "none" ? "-" : span.parent_source();
    const auto offset = ToWallTime(span.start()) - ToWallTime(spans_.front()->start());
    table.Add({lead + Paint(style, Color::kBold, Printable(span.service())), Printable(span.kind()),
               Printable(span.name()),
               Paint(style, span.error() ? Color::kRed : Color::kNone, status),
               "+" + FormatDuration(std::chrono::duration<double>(offset).count()),
               FormatDuration(span.duration_seconds()), Printable(parent),
               span.node().empty() ? "-" : Printable(span.node())});
    PrintBelow(span.span_id(), margin, table, style, depth + 1);
  }

  std::vector<const v1::TraceSpan*> spans_;
  std::map<std::string, std::vector<const v1::TraceSpan*>> children_;
  std::set<const v1::TraceSpan*> printed_;
};

int PrintTrace(const std::vector<v1::Trace>& answers, const Options& options) {
  if (options.traces.format == Format::kJson) {
    v1::Trace joined = answers.front();
    std::set<std::string> known;
    joined.clear_spans();
    for (const v1::Trace& answer : answers) {
      for (const v1::TraceSpan& span : answer.spans()) {
        if (known.insert(span.span_id()).second) {
          *joined.add_spans() = span;
        }
      }
    }
    (void)std::fputs(ToPrettyJson(joined).c_str(), stdout);
    return kExitDone;
  }
  Tree tree(answers);
  std::set<std::string> services;
  std::size_t errors = 0;
  for (const v1::TraceSpan* span : tree.spans()) {
    services.insert(span->service());
    errors += span->error() ? 1 : 0;
  }
  const Style style = StyleOf(options.global);
  Table table({"SERVICE", "KIND", "NAME", ">STATUS", ">START", ">DURATION", "PARENT", "NODE"});
  tree.Print(table, style);
  const std::string text =
      fmt::format("trace {}: {} spans, {} services, {} errors\n{}", options.traces.id,
                  tree.spans().size(), services.size(), errors, table.Take());
  (void)std::fputs(text.c_str(), stdout);
  return kExitDone;
}

// One trace of several agents is still one trace; each agent that does not have it answers
// 404, which matters only when all do.
int ShowTrace(const Options& options) {
  std::vector<v1::Trace> answers;
  std::vector<Failure> failures;
  for (const std::string& socket : options.global.sockets) {
    Agent agent(socket, options.global.timeout);
    v1::Trace trace;
    if (auto got = agent.Get("/v1/traces/" + UrlEncode(options.traces.id), trace); got) {
      answers.push_back(std::move(trace));
    } else {
      failures.push_back(got.error());
    }
  }
  if (answers.empty()) {
    return Report(failures.front());
  }
  const int printed = PrintTrace(answers, options);
  for (const Failure& failure : failures) {
    if (failure.exit_code != kExitNegative) {
      (void)Report(failure);
      return kExitPartial;
    }
  }
  return printed;
}

Outcome<std::string> ListTarget(const TracesOptions& traces) {
  std::string target = "/v1/traces?limit=" + std::to_string(traces.limit);
  if (!traces.since.empty()) {
    const auto time = TimeParameter(traces.since, base::SystemClock().WallNow());
    if (!time) {
      return std::unexpected(Failure{.exit_code = kExitUsage,
                                     .what = "--since: '" + traces.since + "' is not a time",
                                     .why = {},
                                     .remedy = "--since 5m, --since 14:00"});
    }
    target += "&since=" + UrlEncode(*time);
  }
  target += traces.slow.empty() ? "" : "&slow=" + UrlEncode(traces.slow);
  target += traces.service.empty() ? "" : "&service=" + UrlEncode(traces.service);
  target += traces.errors ? "&errors=1" : "";
  return target;
}

// The summaries of several agents: those of one trace are joined, newest first.
std::vector<v1::TraceSummary> Merge(const std::vector<v1::TraceList>& answers, std::size_t limit) {
  std::map<std::string, v1::TraceSummary> by_id;
  for (const v1::TraceList& answer : answers) {
    for (const v1::TraceSummary& trace : answer.traces()) {
      const auto [at, fresh] = by_id.emplace(trace.trace_id(), trace);
      v1::TraceSummary& known = at->second;
      if (fresh) {
        continue;
      }
      known.set_span_count(known.span_count() + trace.span_count());
      known.set_error_count(known.error_count() + trace.error_count());
      known.set_duration_seconds(std::max(known.duration_seconds(), trace.duration_seconds()));
      if (ToWallTime(trace.start()) < ToWallTime(known.start())) {
        *known.mutable_start() = trace.start();
        known.set_root_service(trace.root_service());
        known.set_root_name(trace.root_name());
      }
      known.set_service_count(std::max(known.service_count(), trace.service_count()));
    }
  }
  std::vector<v1::TraceSummary> traces;
  for (const auto& [id, trace] : by_id) {
    traces.push_back(trace);
  }
  std::ranges::sort(traces, std::ranges::greater{},
                    [](const auto& trace) { return ToWallTime(trace.start()); });
  traces.resize(std::min(traces.size(), limit));
  return traces;
}

}  // namespace

int RunTraces(const Options& options) {
  if (!options.traces.id.empty()) {
    return ShowTrace(options);
  }
  const auto target = ListTarget(options.traces);
  if (!target) {
    return Report(target.error());
  }
  const auto gathered = Gather<v1::TraceList>(options.global, *target);
  if (gathered.answers.empty()) {
    return gathered.exit_code;
  }
  if (options.traces.format == Format::kJson) {
    for (const v1::TraceList& answer : gathered.answers) {
      (void)std::fputs(ToPrettyJson(answer).c_str(), stdout);
    }
    return gathered.exit_code;
  }
  const Style style = StyleOf(options.global);
  const auto now = base::SystemClock().WallNow();
  Table table({"TRACE", "TIME", ">DURATION", ">SPANS", ">SERVICES", ">ERRORS", "ROOT", "NAME"});
  const auto traces = Merge(gathered.answers, options.traces.limit);
  for (const v1::TraceSummary& trace : traces) {
    table.Add({trace.trace_id(), FormatTime(ToWallTime(trace.start()), TimeFormat::kLocal, now),
               FormatDuration(trace.duration_seconds()), std::to_string(trace.span_count()),
               std::to_string(trace.service_count()),
               Paint(style, trace.error_count() == 0 ? Color::kNone : Color::kRed,
                     std::to_string(trace.error_count())),
               Printable(trace.root_service()), Printable(trace.root_name())});
  }
  if (!traces.empty()) {
    (void)std::fputs(table.Take().c_str(), stdout);
  }
  if (!options.global.quiet) {
    std::uint64_t seen = 0;
    std::uint64_t matched = 0;
    for (const v1::TraceList& answer : gathered.answers) {
      seen += answer.seen();
      matched += answer.matched();
    }
    (void)std::fprintf(stderr, "%sseen %s matched %s\n", traces.empty() ? "no trace matched; " : "",
                       FormatCount(seen).c_str(), FormatCount(matched).c_str());
  }
  return gathered.exit_code;
}

}  // namespace weir::cli
