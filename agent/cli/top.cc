#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/cli/gather.h"
#include "agent/cli/json_forms.h"
#include "agent/cli/run.h"
#include "agent/cli/terminal.h"
#include "agent/cli/text.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {
namespace {

constexpr char kClearScreen[] = "\033[H\033[J";

std::uint64_t CallsOf(const v1::TopRow& row) {
  return row.requests() + row.connections();
}

// Counts of two agents for one row; the quantiles are those of the slower one.
void Add(v1::TopRow& to, const v1::TopRow& from) {
  to.set_requests(to.requests() + from.requests());
  to.set_connections(to.connections() + from.connections());
  to.set_errors(to.errors() + from.errors());
  to.set_denied(to.denied() + from.denied());
  to.set_encrypted(to.encrypted() + from.encrypted());
  to.set_sent_bytes(to.sent_bytes() + from.sent_bytes());
  to.set_received_bytes(to.received_bytes() + from.received_bytes());
  to.set_p50_seconds(std::max(to.p50_seconds(), from.p50_seconds()));
  to.set_p99_seconds(std::max(to.p99_seconds(), from.p99_seconds()));
}

// Two agents see the two ends of a pair or of a path: it is counted where it leaves, or where
// it arrives, as each agent does for itself.
v1::TopList Merge(const std::vector<v1::TopList>& answers, const std::string& by) {
  using Key = std::tuple<std::string, std::string, std::string, std::string, std::string>;
  const bool one_end = by == "pair" || by == "path";
  const std::string better = by == "pair" ? "out" : "in";
  std::map<Key, v1::TopRow> rows;
  v1::TopList merged;
  std::vector<std::string> nodes;
  for (const v1::TopList& answer : answers) {
    nodes.push_back(answer.node());
    merged.set_window_seconds(std::max(merged.window_seconds(), answer.window_seconds()));
    merged.set_seen(merged.seen() + answer.seen());
    merged.set_lost(merged.lost() + answer.lost());
    merged.set_folded(merged.folded() + answer.folded());
    for (const v1::TopRow& row : answer.rows()) {
      const std::string place = one_end          ? ""
                                : row.pid() != 0 ? row.node() + " " + std::to_string(row.pid())
                                                 : row.direction();
      const auto [at, is_new] = rows.try_emplace(
          Key(row.source(), row.destination(), row.name(), row.verdict(), place), row);
      v1::TopRow& known = at->second;
      if (is_new) {
        continue;
      }
      if (one_end && known.direction() != row.direction()) {
        known = row.direction() == better ? row : known;
      } else {
        Add(known, row);
      }
    }
  }
  merged.set_api_version(kApiVersion);
  merged.set_by(by);
  merged.set_node(Join(nodes, ","));
  for (auto& [key, row] : rows) {
    *merged.add_rows() = std::move(row);
  }
  return merged;
}

double ShareOf(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

// Of one CPU, over the time that the row's seconds are of; negative when nobody can tell.
double CpuShareOf(const v1::TopRow& row) {
  return row.has_cpu_seconds() && row.age_seconds() > 0 ? row.cpu_seconds() / row.age_seconds()
                                                        : -1;
}

// Processes of the picture before, by node and pid: what they had used by then.
using CpuMarks = std::map<std::pair<std::string, std::uint32_t>, v1::TopRow>;

// Leaves in each row what its process has used since it was marked, if it was, and marks it
// anew: the first picture shows a process's whole life, as ps does, the next ones what is new.
void TakeCpuSince(CpuMarks& marks, v1::TopList& top) {
  CpuMarks now;
  for (v1::TopRow& row : *top.mutable_rows()) {
    if (!row.has_cpu_seconds()) {
      continue;
    }
    const auto [mark, is_new] = now.try_emplace({row.node(), row.pid()}, row);
    const auto before = marks.find(mark->first);
    if (before != marks.end() && before->second.age_seconds() < row.age_seconds()) {
      row.set_cpu_seconds(row.cpu_seconds() - before->second.cpu_seconds());
      row.set_age_seconds(row.age_seconds() - before->second.age_seconds());
    }
  }
  marks = std::move(now);
}

double WeightOf(const v1::TopRow& row, TopSort sort) {
  switch (sort) {
    case TopSort::kRate:
      return static_cast<double>(CallsOf(row));
    case TopSort::kP99:
      return row.p99_seconds();
    case TopSort::kErrors:
      return ShareOf(row.errors(), CallsOf(row));
    case TopSort::kBytes:
      return static_cast<double>(row.sent_bytes() + row.received_bytes());
    case TopSort::kCpu:
      return CpuShareOf(row);
  }
  return 0;
}

void Sort(v1::TopList& top, TopSort sort) {
  // Equal ones keep the order of their names, so that a live view does not flicker.
  std::ranges::stable_sort(*top.mutable_rows(), std::ranges::greater{},
                           [&](const v1::TopRow& row) { return WeightOf(row, sort); });
}

// The columns that name a row.
std::vector<std::string> NameHeader(const std::string& by) {
  if (by == "workload") {
    return {"WORKLOAD", "DIR"};
  }
  if (by == "path") {
    return {"DST", "PATH"};
  }
  if (by == "policy") {
    return {"POLICY", "VERDICT", "DIR"};
  }
  return by == "pid" ? std::vector<std::string>{">PID", "COMM", "WORKLOAD", "NODE"}
                     : std::vector<std::string>{"SRC", "DST"};
}

std::vector<std::string> NamesOf(const v1::TopRow& row, const std::string& by) {
  const auto shown = [](const std::string& text) {
    return text.empty() ? std::string("-") : Printable(text);
  };
  if (by == "workload") {
    return {shown(row.name()), shown(row.direction())};
  }
  if (by == "path") {
    return {shown(row.destination()), shown(row.name())};
  }
  if (by == "policy") {
    return {shown(row.name()), shown(row.verdict()), shown(row.direction())};
  }
  return by == "pid" ? std::vector<std::string>{std::to_string(row.pid()), shown(row.name()),
                                                shown(row.source()), shown(row.node())}
                     : std::vector<std::string>{shown(row.source()), shown(row.destination())};
}

std::string PerSecond(std::uint64_t count, double seconds) {
  return seconds > 0 ? fmt::format("{:.1f}", static_cast<double>(count) / seconds) : "-";
}

std::string BytesPerSecond(std::uint64_t bytes, double seconds) {
  return seconds > 0 ? FormatBytes(static_cast<std::uint64_t>(static_cast<double>(bytes) / seconds))
                     : "-";
}

// IN and OUT as the source sees them: what comes back and what goes.
std::string TableOf(const v1::TopList& top, std::size_t limit, const Style& style) {
  std::vector<std::string> header = NameHeader(top.by());
  for (const char* name :
       {">RPS", ">ERR%", ">P50", ">P99", ">IN/s", ">OUT/s", ">CONNS", ">MTLS%", ">DENY/s"}) {
    header.emplace_back(name);
  }
  const bool of_processes = top.by() == "pid";
  if (of_processes) {
    header.emplace_back(">CPU%");
  }
  Table table(std::move(header), style.width);
  const double seconds = top.window_seconds();
  for (std::size_t i = 0; i < static_cast<std::size_t>(top.rows_size()) && i < limit; ++i) {
    const v1::TopRow& row = top.rows(static_cast<int>(i));
    std::vector<std::string> cells = NamesOf(row, top.by());
    const std::uint64_t calls = CallsOf(row);
    for (std::string& cell : std::array<std::string, 9>{
             PerSecond(row.requests(), seconds),
             Paint(style, row.errors() == 0 ? Color::kNone : Color::kRed,
                   fmt::format("{:.1f}", 100 * ShareOf(row.errors(), calls))),
             FormatDuration(row.p50_seconds()), FormatDuration(row.p99_seconds()),
             BytesPerSecond(row.received_bytes(), seconds),
             BytesPerSecond(row.sent_bytes(), seconds), FormatCount(row.connections()),
             Paint(style, row.encrypted() == calls ? Color::kNone : Color::kYellow,
                   fmt::format("{:.0f}", 100 * ShareOf(row.encrypted(), calls))),
             Paint(style, row.denied() == 0 ? Color::kNone : Color::kRed,
                   PerSecond(row.denied(), seconds))}) {
      cells.push_back(std::move(cell));
    }
    if (of_processes) {
      const double share = CpuShareOf(row);
      cells.push_back(share < 0 ? "-" : fmt::format("{:.1f}", 100 * share));
    }
    table.Add(std::move(cells));
  }
  return table.Take();
}

std::string SummaryOf(const v1::TopList& top) {
  return fmt::format("seen {} lost {} folded {} window {} node {}\n", FormatCount(top.seen()),
                     FormatCount(top.lost()), FormatCount(top.folded()),
                     FormatDuration(top.window_seconds()), Printable(top.node()));
}

// One picture: on a terminal as much as fits it, over the one before.
std::string FrameOf(const v1::TopList& top, const Options& options, bool on_terminal) {
  const Style style = StyleOf(options.global);
  constexpr std::size_t kOtherLines = 3;  // title, header, the line of the cursor
  const std::size_t height = on_terminal ? HeightOf(1) : 0;
  const std::size_t fits = height > kOtherLines ? height - kOtherLines : 1;
  const std::size_t limit =
      height == 0 ? options.top.limit : std::min<std::size_t>(options.top.limit, fits);
  const auto now = base::SystemClock().WallNow();
  std::string title = fmt::format("{} by {}, {}", FormatTime(now, options.global.time_format, now),
                                  top.by(), SummaryOf(top));
  if (!on_terminal) {
    return TableOf(top, limit, style);
  }
  return kClearScreen + Shorten(title.substr(0, title.size() - 1), style.width) + "\n" +
         TableOf(top, limit, style);
}

// Waits for the next picture; false when the user has had enough.
bool WaitForNext(std::chrono::milliseconds interval, const sigset_t& signals) {
  const timespec time{.tv_sec = interval.count() / 1000,
                      .tv_nsec = interval.count() % 1000 * 1'000'000};
  return ::sigtimedwait(&signals, nullptr, &time) < 0;
}

Outcome<void> CheckFlags(const TopOptions& top) {
  if (top.output.format != Format::kText && !top.once) {
    return std::unexpected(Failure{.exit_code = kExitUsage,
                                   .what = "this output is one document and a live view has no end",
                                   .why = {},
                                   .remedy = "weir top --once -o json"});
  }
  if (top.sort == TopSort::kCpu && top.by != "pid") {
    return std::unexpected(
        Failure{.exit_code = kExitUsage,
                .what = "--sort cpu is of processes, and a row is a " + top.by + " here",
                .why = "the kernel counts CPU time by process",
                .remedy = "weir top --by pid --sort cpu"});
  }
  return {};
}

// Prints one picture; the exit code, kExitDone if that worked.
int Show(const v1::TopList& top, const Options& options, bool first, bool on_terminal) {
  if (const auto printed = PrintStructured(top, {"rows", ""}, options.top.output,
                                           StyleOf(options.global), kExitDone)) {
    return *printed;
  }
  const std::string text = (first || on_terminal ? "" : "\n") + FrameOf(top, options, on_terminal);
  (void)std::fputs(text.c_str(), stdout);
  (void)std::fflush(stdout);
  return kExitDone;
}

}  // namespace

int RunTop(const Options& options) {
  const TopOptions& top = options.top;
  if (const auto checked = CheckFlags(top); !checked) {
    return Report(checked.error());
  }
  sigset_t signals{};
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGTERM);
  if (!top.once) {
    (void)::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  }
  const bool on_terminal = !top.once && ::isatty(1) == 1;
  const std::string target = "/v1/top?by=" + top.by + "&window=" + UrlEncode(top.window);
  CpuMarks marks;
  for (bool first = true;; first = false) {
    const auto gathered = Gather<v1::TopList>(options.global, target);
    if (gathered.answers.empty()) {
      return gathered.exit_code;
    }
    v1::TopList merged = Merge(gathered.answers, top.by);
    TakeCpuSince(marks, merged);
    Sort(merged, top.sort);
    if (const int shown = Show(merged, options, first, on_terminal); shown != kExitDone) {
      return shown;
    }
    const bool enough = top.once || !WaitForNext(top.interval, signals);
    if (enough) {
      if (!options.global.quiet) {
        (void)std::fputs(SummaryOf(merged).c_str(), stderr);
      }
      return top.once ? gathered.exit_code : int{kExitInterrupted};
    }
  }
}

}  // namespace weir::cli
