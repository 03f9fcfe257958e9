#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/nearest_name.h"
#include "agent/cli/agent.h"
#include "agent/cli/filter_flags.h"
#include "agent/cli/flow_printer.h"
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

// A name of --fields that no column, or no member of the JSON form, has.
Outcome<void> CheckFields(const FlowsOptions& options) {
  for (const std::string& field : options.fields) {
    if (IsJson(options.format)) {
      if (!IsFlowMember(field)) {
        return std::unexpected(
            Failure{.exit_code = kExitUsage,
                    .what = "--fields: a flow has no member '" + field + "'",
                    .why = "with -o json and jsonl they are those of the JSON form",
                    .remedy = "--fields time,source.workload,http.status"});
      }
      continue;
    }
    std::vector<std::string> names;
    for (const FlowColumn& column : FlowColumns()) {
      names.push_back(column.name());
    }
    if (std::ranges::find(names, field) == names.end()) {
      const std::vector<std::string_view> views(names.begin(), names.end());
      const std::string near(base::NearestName(field, views));
      return std::unexpected(Failure{.exit_code = kExitUsage,
                                     .what = "--fields: unknown column '" + field + "'" +
                                             (near.empty() ? "" : ", did you mean '" + near + "'?"),
                                     .why = {},
                                     .remedy = "some of " + Join(names, ",")});
    }
  }
  return {};
}

// What can be said against a combination of flags before any agent is asked.
Outcome<void> CheckFlags(const FlowsOptions& options) {
  if (options.follow && options.format == Format::kJson) {
    return std::unexpected(
        Failure{.exit_code = kExitUsage,
                .what = "-o json is one document and a followed stream has no end",
                .why = {},
                .remedy = "weir flows -f -o jsonl"});
  }
  if (options.tree && (options.follow || IsJson(options.format))) {
    return std::unexpected(Failure{
        .exit_code = kExitUsage,
        .what = options.follow ? "--tree needs the whole answer, --follow has none"
                               : "--tree is for people, the JSON forms have parentSpanId",
        .why = options.follow ? "a flow comes when it ends, before the one that caused it" : "",
        .remedy = "weir flows --tree --last 50"});
  }
  return CheckFields(options);
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
  std::vector<std::unique_ptr<Agent>> agents;
  for (const std::string& socket : options.global.sockets) {
    agents.push_back(std::make_unique<Agent>(socket, options.global.timeout));
  }
  const std::size_t last =
      flows.last || (!flows.all && !flows.first && flows.since.empty() && flows.until.empty())
          ? flows.last.value_or(kDefaultLast)
          : 0;
  FlowPrinter printer(flows, agents.size(),
                      {.style = StyleOf(options.global),
                       .time_format = options.global.time_format,
                       .numeric = flows.numeric},
                      {.sorted = (agents.size() > 1 || flows.tree) && !flows.follow, .last = last});
  Interrupter interrupter(agents);
  const auto outcomes = ReadAll(agents, *target, expression, printer);
  const bool answered = std::ranges::any_of(outcomes, [](const auto& o) { return o.has_value(); });
  if (answered || interrupter.interrupted() || printer.printed() != 0) {
    printer.Finish();
    if (!options.global.quiet) {
      (void)std::fputs(printer.SummaryText().c_str(), stderr);
    }
  }
  if (interrupter.interrupted()) {
    return kExitInterrupted;
  }
  if (printer.failed()) {
    return Report({.exit_code = kExitVersion,
                   .what = "cannot understand what the agent sent",
                   .why = "its version and the command's do not fit",
                   .remedy = "weir version"});
  }
  const int code = ExitCodeOf(outcomes);
  return code == kExitDone && flows.exit_empty && printer.printed() == 0 ? kExitNegative : code;
}

}  // namespace weir::cli
