#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/cli/gather.h"
#include "agent/cli/json_forms.h"
#include "agent/cli/run.h"
#include "agent/cli/span_tree.h"
#include "agent/cli/terminal.h"
#include "agent/cli/text.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {
namespace {

// The spans of one trace of several agents, each once.
std::vector<const v1::TraceSpan*> SpansOf(const std::vector<v1::Trace>& answers) {
  std::set<std::string> known;
  std::vector<const v1::TraceSpan*> spans;
  for (const v1::Trace& answer : answers) {
    for (const v1::TraceSpan& span : answer.spans()) {
      if (known.insert(span.span_id()).second) {
        spans.push_back(&span);
      }
    }
  }
  return spans;
}

std::vector<SpanPlace> PlacesOf(const std::vector<const v1::TraceSpan*>& spans) {
  std::vector<SpanKey> keys;
  for (const v1::TraceSpan* span : spans) {
    keys.push_back({.id = span->span_id(),
                    .parent = span->parent_span_id(),
                    .start = ToWallTime(span->start())});
  }
  return ArrangeTree(keys);
}

// From the first start to the last end.
struct Extent {
  base::WallTime start = base::WallTime::max();
  double seconds = 0;
};

double SecondsBetween(base::WallTime from, base::WallTime to) {
  return std::chrono::duration<double>(to - from).count();
}

Extent ExtentOf(const std::vector<const v1::TraceSpan*>& spans) {
  Extent extent;
  for (const v1::TraceSpan* span : spans) {
    extent.start = std::min(extent.start, ToWallTime(span->start()));
  }
  for (const v1::TraceSpan* span : spans) {
    extent.seconds =
        std::max(extent.seconds, SecondsBetween(extent.start, ToWallTime(span->start())) +
                                     span->duration_seconds());
  }
  return extent;
}

std::string ResultOf(const v1::TraceSpan& span, const Style& style) {
  const std::string status = span.status_code() != 0     ? std::to_string(span.status_code())
                             : span.error_type().empty() ? "-"
                                                         : Printable(span.error_type());
  return Paint(style, span.error() ? Color::kRed : Color::kNone, status);
}

std::string TreeOf(const std::vector<const v1::TraceSpan*>& spans, const Style& style) {
  Table table({"SERVICE", "KIND", "NAME", ">STATUS", ">START", ">DURATION", "PARENT", "NODE"},
              style.width);
  const Extent extent = ExtentOf(spans);
  for (const SpanPlace& place : PlacesOf(spans)) {
    const v1::TraceSpan& span = *spans[place.index];
    const std::string parent =
        span.parent_source().empty() || span.parent_source() == "none" ? "-" : span.parent_source();
    table.Add({place.lead + Paint(style, Color::kBold, Printable(span.service())),
               Printable(span.kind()), Printable(span.name()), ResultOf(span, style),
               "+" + FormatDuration(SecondsBetween(extent.start, ToWallTime(span.start()))),
               FormatDuration(span.duration_seconds()), Printable(parent),
               span.node().empty() ? "-" : Printable(span.node())});
  }
  return table.Take();
}

// The parts of a span's time, each with the mark that fills it in a bar, how it is called and
// where it ends. A part that did not happen is not there.
struct Part {
  char mark;
  std::string name;
  double end_seconds;
};

std::vector<Part> PartsOf(const v1::TraceSpan& span) {
  const char waiting = span.error() ? '!' : span.kind() == "client" ? '-' : '=';
  const std::map<std::string, Part> known = {
      {"weir.tunnel.ready", {'~', "tunnel", 0}},
      {"weir.upstream.connected", {'+', "connect", 0}},
      {"weir.response.first_byte", {waiting, "first byte", 0}}};
  std::vector<Part> parts;
  bool answered = false;
  for (const v1::SpanEvent& event : span.events()) {
    if (const auto part = known.find(event.name()); part != known.end()) {
      parts.push_back(part->second);
      parts.back().end_seconds = event.offset_seconds();
      answered = part->first == "weir.response.first_byte";
    }
  }
  parts.push_back(answered ? Part{'#', "body", span.duration_seconds()}
                           : Part{waiting, "rest", span.duration_seconds()});
  return parts;
}

// "tunnel 1.2ms, connect 300us, first byte 4.0ms, body 80us"
std::string PartsText(const v1::TraceSpan& span) {
  std::vector<std::string> texts;
  double before = 0;
  for (const Part& part : PartsOf(span)) {
    texts.push_back(part.name + " " + FormatDuration(std::max(part.end_seconds - before, 0.0)));
    before = part.end_seconds;
  }
  return span.events().empty() ? "-" : Join(texts, ", ");
}

// The spans along the time: "=" where a server, "-" where a client, "!" where it failed. Where
// it is known what a span waited for, that part is filled with a mark of its own.
std::string WaterfallOf(const std::vector<const v1::TraceSpan*>& spans, const Style& style) {
  constexpr std::size_t kWidthInPipe = 120;
  constexpr std::size_t kBesideBar = 60;  // what the other columns take on a usual screen
  constexpr std::size_t kLeastBar = 20;
  const std::size_t width = style.width == 0 ? kWidthInPipe : style.width;
  const std::size_t bar = width > kBesideBar + kLeastBar ? width - kBesideBar : kLeastBar;
  const Extent extent = ExtentOf(spans);
  const auto column = [&](double seconds) {
    const double share = extent.seconds > 0 ? seconds / extent.seconds : 0;
    return std::min(static_cast<std::size_t>(share * static_cast<double>(bar)), bar - 1);
  };
  const bool split =
      std::ranges::any_of(spans, [](const auto* span) { return !span->events().empty(); });
  std::vector<std::string> header = {"SERVICE", "TIME", ">DURATION", ">STATUS", "NAME"};
  if (split) {
    header.emplace_back("PARTS");
  }
  Table table(std::move(header));
  for (const SpanPlace& place : PlacesOf(spans)) {
    const v1::TraceSpan& span = *spans[place.index];
    const double begin = SecondsBetween(extent.start, ToWallTime(span.start()));
    const std::size_t first = column(begin);
    const std::size_t last = std::max(first, column(begin + span.duration_seconds()));
    std::string filled;
    for (const Part& part : PartsOf(span)) {
      const std::size_t end = std::max(first, column(begin + part.end_seconds)) - first;
      filled.resize(std::max(filled.size(), end), part.mark);
    }
    filled.resize(last - first + 1, PartsOf(span).back().mark);
    const std::string line = "[" + std::string(first, ' ') +
                             Paint(style, span.error() ? Color::kRed : Color::kCyan, filled) +
                             std::string(bar - last - 1, ' ') + "]";
    std::vector<std::string> row = {
        place.lead + Paint(style, Color::kBold, Printable(span.service())), line,
        FormatDuration(span.duration_seconds()), ResultOf(span, style), Printable(span.name())};
    if (split) {
      row.push_back(PartsText(span));
    }
    table.Add(std::move(row));
  }
  return table.Take() + (split ? "~ tunnel  + connect  - = first byte  # body  ! failed\n" : "");
}

v1::Trace JoinSpans(const std::vector<v1::Trace>& answers,
                    const std::vector<const v1::TraceSpan*>& spans) {
  v1::Trace joined = answers.front();
  joined.clear_spans();
  for (const v1::TraceSpan* span : spans) {
    *joined.add_spans() = *span;
  }
  return joined;
}

int PrintTrace(const std::vector<v1::Trace>& answers, const Options& options) {
  const auto spans = SpansOf(answers);
  const Style style = StyleOf(options.global);
  if (const auto printed = PrintStructured(JoinSpans(answers, spans), {"spans", "{spanId}"},
                                           options.traces.output, style, kExitDone)) {
    return *printed;
  }
  std::set<std::string> services;
  std::size_t errors = 0;
  for (const v1::TraceSpan* span : spans) {
    services.insert(span->service());
    errors += span->error() ? 1 : 0;
  }
  const std::string text =
      fmt::format("trace {}: {} spans, {} services, {} errors, {}\n{}", options.traces.id,
                  spans.size(), services.size(), errors, FormatDuration(ExtentOf(spans).seconds),
                  options.traces.output.format == Format::kWaterfall ? WaterfallOf(spans, style)
                                                                     : TreeOf(spans, style));
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
  if (traces.slow) {
    target += "&sort=duration";
    target += traces.slow->empty() ? "" : "&slow=" + UrlEncode(*traces.slow);
  }
  target += traces.service.empty() ? "" : "&service=" + UrlEncode(traces.service);
  target += traces.errors ? "&errors=1" : "";
  return target;
}

// The answers of several agents in one: summaries of one trace are joined.
v1::TraceList Merge(const std::vector<v1::TraceList>& answers, const TracesOptions& options) {
  v1::TraceList merged;
  std::vector<std::string> nodes;
  std::map<std::string, v1::TraceSummary> by_id;
  for (const v1::TraceList& answer : answers) {
    nodes.push_back(answer.node());
    merged.set_seen(merged.seen() + answer.seen());
    merged.set_matched(merged.matched() + answer.matched());
    merged.set_evicted_spans(merged.evicted_spans() + answer.evicted_spans());
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
  std::ranges::stable_sort(traces, std::ranges::greater{}, [&](const auto& trace) {
    return options.slow ? std::pair(trace.duration_seconds(), base::WallTime{})
                        : std::pair(0.0, ToWallTime(trace.start()));
  });
  traces.resize(std::min<std::size_t>(traces.size(), options.limit));
  merged.set_api_version(kApiVersion);
  merged.set_node(Join(nodes, ","));
  merged.mutable_traces()->Add(traces.begin(), traces.end());
  return merged;
}

}  // namespace

int RunTraces(const Options& options) {
  const Format format = options.traces.output.format;
  if (options.traces.id.empty() && (format == Format::kTree || format == Format::kWaterfall)) {
    return Report({.exit_code = kExitUsage,
                   .what = "a tree and a waterfall are of one trace, and none is named",
                   .why = {},
                   .remedy = "weir traces lists them; weir traces ID -o waterfall"});
  }
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
  const v1::TraceList list = Merge(gathered.answers, options.traces);
  const Style style = StyleOf(options.global);
  if (const auto printed = PrintStructured(list, {"traces", "{traceId}"}, options.traces.output,
                                           style, gathered.exit_code)) {
    return *printed;
  }
  const auto now = base::SystemClock().WallNow();
  Table table({"TRACE", "TIME", ">DURATION", ">SPANS", ">SERVICES", ">ERRORS", "ROOT", "NAME"},
              style.width);
  for (const v1::TraceSummary& trace : list.traces()) {
    table.Add({trace.trace_id(),
               FormatTime(ToWallTime(trace.start()), options.global.time_format, now),
               FormatDuration(trace.duration_seconds()), std::to_string(trace.span_count()),
               std::to_string(trace.service_count()),
               Paint(style, trace.error_count() == 0 ? Color::kNone : Color::kRed,
                     std::to_string(trace.error_count())),
               Printable(trace.root_service()), Printable(trace.root_name())});
  }
  if (!list.traces().empty()) {
    (void)std::fputs(table.Take().c_str(), stdout);
  }
  if (!options.global.quiet) {
    (void)std::fprintf(stderr, "%sseen %s matched %s node %s\n",
                       list.traces().empty() ? "no trace matched; " : "",
                       FormatCount(list.seen()).c_str(), FormatCount(list.matched()).c_str(),
                       Printable(list.node()).c_str());
  }
  return gathered.exit_code;
}

}  // namespace weir::cli
