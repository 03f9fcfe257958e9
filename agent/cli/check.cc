#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/nearest_name.h"
#include "agent/cli/check_texts.h"
#include "agent/cli/gather.h"
#include "agent/cli/json_forms.h"
#include "agent/cli/process.h"
#include "agent/cli/run.h"
#include "agent/cli/terminal.h"
#include "agent/cli/text.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {
namespace {

constexpr auto kRetryInterval = std::chrono::seconds(1);

int Describe(const std::string& code) {
  std::vector<std::string_view> codes;
  for (const CheckText& text : CheckTexts()) {
    codes.push_back(text.code);
    if (text.code == code) {
      const std::string shown =
          fmt::format("{}: {}\n\n{}\n{}\n{}", text.code, text.title, Wrap(text.looks_at, 80, 0),
                      "When it fails:\n" + Wrap(text.when_it_fails, 80, 2),
                      "What to do:\n" + Wrap(text.remedy, 80, 2));
      (void)std::fputs(shown.c_str(), stdout);
      return kExitDone;
    }
  }
  const std::string near(base::NearestName(code, codes));
  return Report({.exit_code = kExitUsage,
                 .what = "unknown code '" + code + "'" +
                         (near.empty() ? "" : ", did you mean '" + near + "'?"),
                 .why = {},
                 .remedy = fmt::format("one of {}", fmt::join(codes, ", "))});
}

// The agent tells facts; what was looked at is known here.
void FillTitles(v1::CheckReport& report) {
  for (v1::CheckResult& result : *report.mutable_results()) {
    const auto text = std::ranges::find(CheckTexts(), result.code(), &CheckText::code);
    if (result.title().empty() && text != CheckTexts().end()) {
      result.set_title(std::string(text->title));
    }
  }
}

// Results that --only and --skip leave.
void Select(v1::CheckReport& report, const CheckOptions& options) {
  v1::CheckReport selected = report;
  selected.clear_results();
  for (const v1::CheckResult& result : report.results()) {
    const bool wanted =
        options.only.empty() || result.code() == options.only || result.category() == options.only;
    const bool skipped = std::ranges::find(options.skip, result.code()) != options.skip.end();
    if (wanted && !skipped) {
      *selected.add_results() = result;
    }
  }
  report = std::move(selected);
}

struct Counts {
  std::size_t ok = 0;
  std::size_t warnings = 0;
  std::size_t failed = 0;
  std::size_t not_applicable = 0;
  std::size_t unknown = 0;
};

Counts Count(const v1::CheckReport& report) {
  Counts counts;
  for (const v1::CheckResult& result : report.results()) {
    if (result.outcome() == "ok") {
      ++counts.ok;
    } else if (result.outcome() == "warn") {
      ++counts.warnings;
    } else if (result.outcome() == "fail") {
      ++counts.failed;
    } else if (result.outcome() == "n/a") {
      ++counts.not_applicable;
    } else {
      ++counts.unknown;
    }
  }
  return counts;
}

bool IsBad(const v1::CheckReport& report, FailOn fail_on) {
  const Counts counts = Count(report);
  return counts.failed != 0 || (fail_on == FailOn::kWarn && counts.warnings != 0);
}

// What --wait waits for the end of.
bool IsUnsettled(const v1::CheckReport& report, const CheckOptions& options) {
  const Counts counts = Count(report);
  return counts.failed != 0 || (counts.warnings != 0 && !options.ignore_warnings);
}

std::string Mark(const std::string& outcome, const Style& style) {
  if (outcome == "ok") {
    return Paint(style, Color::kGreen, "ok     ");
  }
  if (outcome == "warn") {
    return Paint(style, Color::kYellow, "warn   ");
  }
  if (outcome == "fail") {
    return Paint(style, Color::kRed, "FAIL   ");
  }
  return outcome == "n/a" ? "n/a    " : Paint(style, Color::kYellow, "unknown");
}

std::string Line(const v1::CheckResult& result, const Style& style) {
  std::string line = "  " + Mark(result.outcome(), style) + " " + Printable(result.code()) + " " +
                     Printable(result.title());
  line += result.fact().empty() ? "\n" : ": " + Printable(result.fact()) + "\n";
  if (result.outcome() != "ok" && result.outcome() != "n/a" && !result.remedy().empty()) {
    line += "          try: " + Printable(result.remedy()) + "\n";
  }
  return line;
}

// By category; what passed and what does not apply is folded to a count unless verbose.
std::string ShortText(const v1::CheckReport& report, const CheckOptions& options,
                      const Style& style) {
  std::vector<std::string> categories;
  for (const v1::CheckResult& result : report.results()) {
    if (std::ranges::find(categories, result.category()) == categories.end()) {
      categories.push_back(result.category());
    }
  }
  std::string text;
  for (const std::string& category : categories) {
    std::string lines;
    std::size_t folded = 0;
    for (const v1::CheckResult& result : report.results()) {
      if (result.category() != category) {
        continue;
      }
      const bool quiet = result.outcome() == "ok" || result.outcome() == "n/a";
      folded += quiet && !options.verbose ? 1 : 0;
      lines += quiet && !options.verbose ? "" : Line(result, style);
    }
    text += Paint(style, Color::kBold, Printable(category)) +
            (folded == 0 ? "" : fmt::format(": {} fine", folded)) + "\n" + lines;
  }
  return text;
}

std::string TableText(const v1::CheckReport& report, const Style& style) {
  Table table({"CODE", "CATEGORY", "RESULT", "CHECK", "FACT", "REMEDY"}, style.width);
  for (const v1::CheckResult& result : report.results()) {
    std::string mark = Mark(result.outcome(), style);
    table.Add({Printable(result.code()), Printable(result.category()), mark,
               Printable(result.title()), Printable(result.fact()),
               result.remedy().empty() ? "-" : Printable(result.remedy())});
  }
  return report.results().empty() ? "" : table.Take();
}

std::string TotalText(const v1::CheckReport& report) {
  const Counts counts = Count(report);
  std::string text = fmt::format("{} ok, {} {}, {} failed, {} not applicable", counts.ok,
                                 counts.warnings, counts.warnings == 1 ? "warning" : "warnings",
                                 counts.failed, counts.not_applicable);
  text += counts.unknown == 0 ? "" : fmt::format(", {} could not tell", counts.unknown);
  return text + fmt::format(" ({:.1f} s)\n", report.duration_seconds());
}

std::string XmlEscape(const std::string& text) {
  std::string escaped;
  for (const char c : Printable(text)) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string JunitText(const v1::CheckReport& report) {
  const Counts counts = Count(report);
  std::string text = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<testsuite name=\"weir check\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" "
      "time=\"{:.3f}\">\n",
      report.results_size(), counts.failed, counts.not_applicable + counts.unknown,
      report.duration_seconds());
  for (const v1::CheckResult& result : report.results()) {
    fmt::format_to(std::back_inserter(text), "  <testcase classname=\"{}\" name=\"{} {}\"",
                   XmlEscape(result.category()), XmlEscape(result.code()),
                   XmlEscape(result.title()));
    if (result.outcome() == "fail") {
      fmt::format_to(std::back_inserter(text), "><failure message=\"{}\">{}</failure></testcase>\n",
                     XmlEscape(result.fact()), XmlEscape(result.remedy()));
    } else if (result.outcome() == "n/a" || result.outcome() == "unknown") {
      fmt::format_to(std::back_inserter(text), "><skipped message=\"{}\"/></testcase>\n",
                     XmlEscape(result.fact()));
    } else if (result.outcome() == "warn") {
      fmt::format_to(std::back_inserter(text), "><system-out>{}</system-out></testcase>\n",
                     XmlEscape("warning: " + result.fact()));
    } else {
      text += "/>\n";
    }
  }
  return text + "</testsuite>\n";
}

// The agent's program as a command of its own, with the agent.yaml that was named.
std::vector<std::string> AgentCommand(std::vector<std::string> words, const CheckOptions& options) {
  words.insert(words.begin(), FindAgentProgram());
  if (!options.agent_config.empty()) {
    words.insert(words.end(), {"--config", options.agent_config});
  }
  return words;
}

int CleanLeftovers(const CheckOptions& options) {
  const auto output = RunProgram(AgentCommand({"clean-leftovers"}, options));
  if (!output) {
    return Report(output.error());
  }
  (void)std::fputs(output->text.c_str(), stdout);
  constexpr int kAgentPrivileges = 11;  // exit status of weir-agent, see weir-agent --help
  return output->exit_code == 0                  ? int{kExitDone}
         : output->exit_code == kAgentPrivileges ? int{kExitPermission}
                                                 : int{kExitNegative};
}

// The reports on one workload. An agent that does not have it matters only when all others do
// not have it either.
Gathered<v1::CheckReport> AskAbout(const std::string& subject, const GlobalOptions& options) {
  Gathered<v1::CheckReport> gathered;
  std::vector<Failure> unknown;
  for (const std::string& socket : options.sockets) {
    Agent agent(socket, options.timeout);
    v1::CheckReport report;
    if (const auto got = agent.Get("/v1/checks?subject=" + UrlEncode(subject), report); got) {
      gathered.answers.push_back(std::move(report));
    } else if (got.error().exit_code == kExitNegative) {
      unknown.push_back(got.error());
    } else {
      gathered.exit_code = Report(got.error());
    }
  }
  if (gathered.answers.empty() && gathered.exit_code == kExitDone) {
    gathered.exit_code = Report(unknown.front());
  } else if (!gathered.answers.empty() && gathered.exit_code != kExitDone) {
    gathered.exit_code = kExitPartial;
  }
  return gathered;
}

// The reports of this round: of the machine (--pre) or of every agent.
Gathered<v1::CheckReport> Ask(const Options& options) {
  if (!options.check.pre) {
    return options.check.subject.empty() ? Gather<v1::CheckReport>(options.global, "/v1/checks")
                                         : AskAbout(options.check.subject, options.global);
  }
  Gathered<v1::CheckReport> gathered;
  const auto output = RunProgram(AgentCommand({"check", "--pre", "-o", "json"}, options.check));
  v1::CheckReport report;
  auto read = output ? FromJson(output->text, report) : std::unexpected(output.error());
  if (read && report.results().empty()) {
    read = std::unexpected(Failure{.exit_code = kExitVersion,
                                   .what = "weir-agent check --pre reported nothing",
                                   .why = fmt::format("it ended with status {}", output->exit_code),
                                   .remedy = "weir-agent check --pre"});
  }
  if (read) {
    gathered.answers.push_back(std::move(report));
  } else {
    gathered.exit_code = Report(read.error());
  }
  return gathered;
}

// The exit code, kExitDone if it could be printed.
int Print(const v1::CheckReport& report, const Options& options) {
  const Format format = options.check.output.format;
  if (const auto printed = PrintStructured(report, {"results", "{code}"}, options.check.output,
                                           StyleOf(options.global), kExitDone)) {
    return *printed;
  }
  std::string text;
  if (format == Format::kJunit) {
    text = JunitText(report);
  } else if (format == Format::kTable) {
    text = TableText(report, StyleOf(options.global)) + TotalText(report);
  } else {
    text = ShortText(report, options.check, StyleOf(options.global)) + TotalText(report);
  }
  const bool named = options.global.sockets.size() > 1 && format != Format::kJunit;
  text.insert(0, named ? "node " + Printable(report.node()) + "\n" : "");
  (void)std::fputs(text.c_str(), stdout);
  return kExitDone;
}

}  // namespace

int RunCheck(const Options& options) {
  if (!options.check.describe.empty()) {
    return Describe(options.check.describe);
  }
  if (options.check.clean_leftovers) {
    return CleanLeftovers(options.check);
  }
  if (options.check.pre && !options.check.subject.empty()) {
    return Report({.exit_code = kExitUsage,
                   .what = "--pre is about the machine, not about a workload",
                   .why = {},
                   .remedy = "weir check --pre, or weir check " + options.check.subject});
  }
  const auto end = std::chrono::steady_clock::now() + options.check.wait;
  for (;;) {
    auto gathered = Ask(options);
    bool bad = false;
    bool unsettled = gathered.answers.empty();
    for (v1::CheckReport& report : gathered.answers) {
      FillTitles(report);
      Select(report, options.check);
      bad = bad || IsBad(report, options.check.fail_on);
      unsettled = unsettled || IsUnsettled(report, options.check);
    }
    const bool again = unsettled && std::chrono::steady_clock::now() + kRetryInterval < end;
    if (!again) {
      for (const v1::CheckReport& report : gathered.answers) {
        if (const int printed = Print(report, options); printed != kExitDone) {
          return printed;
        }
      }
      return bad ? kExitNegative : gathered.exit_code;
    }
    std::this_thread::sleep_for(kRetryInterval);
  }
}

}  // namespace weir::cli
