#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "agent/admin/flow_replay.h"
#include "agent/base/clock.h"
#include "agent/base/nearest_name.h"
#include "agent/cli/agent.h"
#include "agent/cli/filter_flags.h"
#include "agent/cli/flow_printer.h"
#include "agent/cli/json_forms.h"
#include "agent/cli/run.h"

namespace weir::cli {
namespace {

constexpr std::size_t kDefaultLast = 20;

Outcome<std::string> TimeOf(const std::string& flag, const std::string& text) {
  const auto parameter = TimeParameter(text, base::SystemClock().WallNow());
  if (!parameter) {
    return std::unexpected(
        Failure{.exit_code = kExitUsage,
                .what = flag + ": '" + text + "' is not a time",
                .why = "an age, a time of today or an RFC 3339 time is needed",
                .remedy = flag + " 5m, " + flag + " 14:00 or " + flag + " 2026-11-23T14:00:00Z"});
  }
  return UrlEncode(*parameter);
}

Outcome<std::string> TargetOf(const FlowsOptions& options, const std::string& expression) {
  std::string target = "/v1/flows?format=json";
  const auto add = [&](const std::string& name, const auto& value) {
    if (value) {
      target += "&" + name + "=" + std::to_string(*value);
    }
  };
  const bool whole =
      options.all || options.first || !options.since.empty() || !options.until.empty();
  if (options.last) {
    add("last", options.last);
  } else if (!whole && !options.follow) {
    add("last", std::optional(options.count ? std::min<std::uint64_t>(*options.count, kDefaultLast)
                                            : kDefaultLast));
  }
  add("first", options.first);
  add("max_rps", options.max_rps);
  if (!options.sample.empty()) {
    const bool good = options.sample.starts_with("1/") && options.sample.size() > 2 &&
                      options.sample.find_first_not_of("0123456789", 2) == std::string::npos;
    if (!good) {
      return std::unexpected(Failure{.exit_code = kExitUsage,
                                     .what = "--sample: '" + options.sample + "' is not a share",
                                     .why = {},
                                     .remedy = "--sample 1/100"});
    }
    target += "&sample=" + options.sample.substr(2);
  }
  target += options.all ? "&all=1" : "";
  target += options.follow ? "&follow=1" : "";
  const std::pair<std::string, std::string> times[] = {{"since", options.since},
                                                       {"until", options.until}};
  for (const auto& [name, text] : times) {
    if (text.empty()) {
      continue;
    }
    const auto time = TimeOf("--" + name, text);
    if (!time) {
      return std::unexpected(time.error());
    }
    target += "&" + name + "=" + *time;
  }
  return expression.empty() ? target : target + "&filter=" + UrlEncode(expression);
}

// Ends the streams at Ctrl-C, so that the summary is still printed. The signals must be
// blocked in the whole process before it is made.
class Interrupter {
 public:
  explicit Interrupter(std::vector<std::unique_ptr<Agent>>& agents) : agents_(agents) {
    sigset_t signals = Signals();
    (void)::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    thread_ = std::thread([this] { Wait(); });
  }
  Interrupter(const Interrupter&) = delete;
  Interrupter& operator=(const Interrupter&) = delete;
  ~Interrupter() {
    done_ = true;
    (void)::pthread_kill(thread_.native_handle(), SIGTERM);
    thread_.join();
  }
  [[nodiscard]] bool interrupted() const { return interrupted_; }

 private:
  static sigset_t Signals() {
    sigset_t signals{};
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGINT);
    ::sigaddset(&signals, SIGTERM);
    return signals;
  }

  void Wait() {
    const sigset_t signals = Signals();
    int signal = 0;
    if (::sigwait(&signals, &signal) != 0 || done_) {
      return;
    }
    interrupted_ = true;
    for (const auto& agent : agents_) {
      agent->Cancel();
    }
  }

  std::vector<std::unique_ptr<Agent>>& agents_;
  std::atomic<bool> done_{false};
  std::atomic<bool> interrupted_{false};
  std::thread thread_;
};

// Reads all agents at once, as a follower must; `printer` is used by one at a time.
std::vector<Outcome<void>> ReadAll(std::vector<std::unique_ptr<Agent>>& agents,
                                   const std::string& target, const std::string& expression,
                                   FlowPrinter& printer) {
  std::mutex mutex;
  bool enough = false;
  std::vector<Outcome<void>> outcomes(agents.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < agents.size(); ++i) {
      threads.emplace_back([&, i] {
        outcomes[i] = agents[i]->Stream(target, expression, [&, i](std::string_view line) {
          const std::lock_guard lock(mutex);
          if (enough) {
            return false;
          }
          enough = !printer.Take(i, line);
          return !enough;
        });
        const std::lock_guard lock(mutex);
        if (enough) {
          std::ranges::for_each(agents, [](auto& agent) { agent->Cancel(); });
        }
      });
    }
  }
  if (enough) {
    std::ranges::fill(outcomes, Outcome<void>{});
  }
  return outcomes;
}

int ExitCodeOf(const std::vector<Outcome<void>>& outcomes) {
  int code = kExitDone;
  std::size_t failed = 0;
  for (const auto& outcome : outcomes) {
    if (!outcome) {
      const int own = Report(outcome.error());
      code = failed++ == 0 ? own : code;
    }
  }
  return failed == 0 || failed == outcomes.size() ? code : kExitPartial;
}

Failure UnknownMember(const std::string& flag, const std::string& name) {
  return {.exit_code = kExitUsage,
          .what = flag + ": a flow has no member '" + name + "'",
          .why = "they are those of the JSON form, see weir flows -o json",
          .remedy = flag == "--fields" ? "--fields time,source.workload,http.status"
                                       : "-o 'template={time} {source.workload} {http.status}'"};
}

Failure UnknownColumn(const std::string& field) {
  std::vector<std::string> names;
  for (const FlowColumn& column : FlowColumns()) {
    names.push_back(column.name());
  }
  const std::vector<std::string_view> views(names.begin(), names.end());
  const std::string near(base::NearestName(field, views));
  return {.exit_code = kExitUsage,
          .what = "--fields: unknown column '" + field + "'" +
                  (near.empty() ? "" : ", did you mean '" + near + "'?"),
          .why = {},
          .remedy = "some of " + Join(names, ",")};
}

// A name of --fields that no column, or no member of the JSON form, has.
Outcome<void> CheckFields(const FlowsOptions& options) {
  const Format format = options.output.format;
  if (!options.fields.empty() && (format == Format::kOtlp || format == Format::kTemplate)) {
    return std::unexpected(Failure{.exit_code = kExitUsage,
                                   .what = "--fields has no meaning for this output",
                                   .why = "what stands in it is given by its form",
                                   .remedy = "leave it out, or -o jsonl --fields ..."});
  }
  const bool members = IsJson(format) || format == Format::kYaml;
  for (const std::string& field : options.fields) {
    if (members && !IsFlowMember(field)) {
      return std::unexpected(UnknownMember("--fields", field));
    }
    if (!members && FindFlowColumn(field) == nullptr) {
      return std::unexpected(UnknownColumn(field));
    }
  }
  return {};
}

Outcome<void> CheckTemplate(const Output& output) {
  if (output.format != Format::kTemplate) {
    return {};
  }
  const auto parsed = Template::Parse(output.argument);
  if (!parsed) {
    return std::unexpected(parsed.error());
  }
  for (const std::string& path : parsed->paths()) {
    if (!path.starts_with("tags.") && !IsFlowMember(path)) {
      return std::unexpected(UnknownMember("template", path));
    }
  }
  return {};
}

// What can be said against a combination of flags before any agent is asked.
Outcome<void> CheckFlags(const FlowsOptions& options) {
  const Format format = options.output.format;
  if (options.follow && format == Format::kJson) {
    return std::unexpected(
        Failure{.exit_code = kExitUsage,
                .what = "-o json is one document and a followed stream has no end",
                .why = {},
                .remedy = "weir flows -f -o jsonl"});
  }
  const bool has_rows =
      format == Format::kCompact || format == Format::kTable || format == Format::kWide;
  if (options.tree && (options.follow || !has_rows)) {
    return std::unexpected(Failure{
        .exit_code = kExitUsage,
        .what = options.follow ? "--tree needs the whole answer, --follow has none"
                               : "--tree is of lines for people, the others have parentSpanId",
        .why = options.follow ? "a flow comes when it ends, before the one that caused it" : "",
        .remedy = "weir flows --tree --last 50"});
  }
  if (!options.input_file.empty() && (options.follow || options.max_rps)) {
    return std::unexpected(Failure{.exit_code = kExitUsage,
                                   .what = "a file can neither be followed nor slowed down",
                                   .why = {},
                                   .remedy = "tail -f FILE | weir flows --all --input-file -"});
  }
  if (const auto checked = CheckTemplate(options.output); !checked) {
    return checked;
  }
  return CheckFields(options);
}

// Answers from lines that were kept instead of from an agent.
Outcome<void> Replay(const FlowsOptions& options, const std::string& target,
                     const std::string& expression, FlowPrinter& printer) {
  auto replay = admin::FlowReplay::Create(target, base::SystemClock().WallNow());
  if (!replay) {
    return std::unexpected(RefusedQuery(replay.error().message, replay.error().column,
                                        replay.error().candidates, expression));
  }
  std::ifstream file;
  const bool is_stdin = options.input_file == "-";
  if (!is_stdin) {
    file.open(options.input_file);
  }
  std::istream& lines = is_stdin ? std::cin : file;
  if (!lines) {
    return std::unexpected(Failure{.exit_code = kExitUsage,
                                   .what = "cannot read " + options.input_file,
                                   .why = {},
                                   .remedy = "weir flows --all -o jsonl >" + options.input_file});
  }
  const auto print = [&](std::string_view line) { return printer.Take(0, line); };
  using Step = admin::FlowReplay::Step;
  std::string line;
  Step step = Step::kMore;
  for (std::uint64_t number = 1; step == Step::kMore && std::getline(lines, line); ++number) {
    step = replay->Take(line, print);
    if (step == Step::kNoFlow) {
      return std::unexpected(
          Failure{.exit_code = kExitUsage,
                  .what = options.input_file + ":" + std::to_string(number) + ": this is no flow",
                  .why = "or one with a word that this version does not know",
                  .remedy = "keep flows with weir flows --all -o jsonl >FILE"});
    }
  }
  replay->Finish(options.input_file, print);
  return {};
}

// Ends the output, and says how it went.
int Conclude(const Options& options, FlowPrinter& printer,
             const std::vector<Outcome<void>>& outcomes, bool interrupted) {
  const bool answered = std::ranges::any_of(outcomes, [](const auto& o) { return o.has_value(); });
  if (answered || interrupted || printer.printed() != 0) {
    printer.Finish();
    if (!options.global.quiet) {
      (void)std::fputs(printer.SummaryText().c_str(), stderr);
    }
  }
  if (interrupted) {
    return kExitInterrupted;
  }
  if (printer.failed()) {
    return Report({.exit_code = kExitVersion,
                   .what = "cannot understand what the agent sent",
                   .why = "its version and the command's do not fit",
                   .remedy = "weir version"});
  }
  const int code = ExitCodeOf(outcomes);
  const bool empty = options.flows.exit_empty && printer.printed() == 0;
  return code == kExitDone && empty ? kExitNegative : code;
}

}  // namespace

int RunFlows(const Options& options) {
  const FlowsOptions& flows = options.flows;
  const std::string expression = ToExpression(flows);
  if (flows.print_filter) {
    (void)std::puts(expression.c_str());
    return kExitDone;
  }
  if (const auto checked = CheckFlags(flows); !checked) {
    return Report(checked.error());
  }
  const auto target = TargetOf(flows, expression);
  if (!target) {
    return Report(target.error());
  }
  const bool replays = !flows.input_file.empty();
  std::vector<std::unique_ptr<Agent>> agents;
  for (const std::string& socket : options.global.sockets) {
    agents.push_back(std::make_unique<Agent>(socket, options.global.timeout));
  }
  const std::size_t last =
      flows.last || (!flows.all && !flows.first && flows.since.empty() && flows.until.empty())
          ? flows.last.value_or(kDefaultLast)
          : 0;
  const bool several = agents.size() > 1 && !replays;
  FlowPrinter printer(flows, replays ? 1 : agents.size(),
                      {.style = StyleOf(options.global),
                       .time_format = options.global.time_format,
                       .numeric = flows.numeric},
                      {.sorted = (several || flows.tree) && !flows.follow, .last = last});
  if (replays) {
    return Conclude(options, printer, {Replay(flows, *target, expression, printer)},
                    /*interrupted=*/false);
  }
  Interrupter interrupter(agents);
  const auto outcomes = ReadAll(agents, *target, expression, printer);
  return Conclude(options, printer, outcomes, interrupter.interrupted());
}

}  // namespace weir::cli
