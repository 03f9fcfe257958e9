#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/nearest_name.h"
#include "agent/cli/check_texts.h"
#include "agent/cli/command_notes.h"
#include "agent/cli/commands.h"
#include "agent/cli/completion.h"
#include "agent/cli/flow_rows.h"
#include "agent/cli/gather.h"
#include "agent/cli/help.h"
#include "agent/cli/run.h"
#include "agent/cli/terminal.h"
#include "agent/cli/workload_text.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {
namespace {

using Command = int (*)(const Options&);
constexpr std::array<std::pair<std::string_view, Command>, 14> kCommands = {
    {{"flows", RunFlows},
     {"status", RunStatus},
     {"check", RunCheck},
     {"traces", RunTraces},
     {"map", RunMap},
     {"top", RunTop},
     {"workloads", RunWorkloads},
     {"certs", RunCerts},
     {"config check", RunConfigCheck},
     {"policy explain", RunPolicyExplain},
     {"policy show", RunPolicyShow},
     {"ca init", RunCaInit},
     {"ca node", RunCaNode},
     {"uninstall-node", RunUninstallNode}}};

int Print(const std::string& text) {
  (void)std::fputs(text.c_str(), stdout);
  return kExitDone;
}

int RunVersion(const Options&) {
  return Print("weir " WEIR_VERSION "\n");
}

int RunHelp(const CommandInfo& root, const std::string& topic) {
  const Style style = StyleOf(1, ColorMode::kAuto);
  if (topic.empty()) {
    return Print(RenderHelp(root, style));
  }
  if (const std::string text = TopicText(topic); !text.empty()) {
    return Print(text);
  }
  if (const CommandInfo* command = FindCommand(root, topic); command != nullptr) {
    return Print(RenderHelp(*command, style));
  }
  std::vector<std::string_view> names = {"exit-codes", "filter"};
  for (const CommandInfo& command : root.commands) {
    names.push_back(command.name);
  }
  const std::string near(base::NearestName(topic, names));
  return Report({.exit_code = kExitUsage,
                 .what = "no help on '" + topic + "'" +
                         (near.empty() ? "" : ", did you mean '" + near + "'?"),
                 .why = {},
                 .remedy = "weir help"});
}

// Names that the command knows by itself.
std::vector<std::string> KnownNames(std::string_view placeholder) {
  std::vector<std::string> names;
  if (placeholder == "COLUMNS") {
    for (const FlowColumn& column : FlowColumns()) {
      names.push_back(column.name());
    }
  }
  for (const CheckText& text : CheckTexts()) {
    if (placeholder.starts_with("CODE")) {
      names.emplace_back(text.code);
    }
  }
  return names;
}

// Names that only a running agent knows; a shell waits for them, so not for long.
std::vector<std::string> LiveNames(const GlobalOptions& options, std::string_view placeholder) {
  std::vector<std::string> names = KnownNames(placeholder);
  if (!names.empty()) {
    return names;
  }
  Agent agent(options.sockets.front(), options.timeout);
  if (placeholder == "RULE") {
    v1::TopList rules;
    if (agent.Get("/v1/top?by=policy&window=1h", rules)) {
      for (const v1::TopRow& row : rules.rows()) {
        names.push_back(row.name());
      }
    }
    return names;
  }
  if (placeholder == "ID") {
    v1::TraceList list;
    if (agent.Get("/v1/traces?limit=20", list)) {
      for (const v1::TraceSummary& trace : list.traces()) {
        names.push_back(trace.trace_id());
      }
    }
    return names;
  }
  v1::WorkloadList list;
  const bool known = placeholder == "NS/NAME" || placeholder == "NS" ||
                     placeholder == "SPIFFE-ID" || placeholder == "NODE";
  if (!known || !agent.Get("/v1/workloads", list)) {
    return names;
  }
  for (const v1::WorkloadStatus& workload : list.workloads()) {
    names.push_back(placeholder == "NS/NAME"     ? DisplayName(workload)
                    : placeholder == "NS"        ? workload.namespace_()
                    : placeholder == "SPIFFE-ID" ? workload.identity()
                                                 : list.node());
  }
  return names;
}

int RunComplete(const CommandLine& line, const std::vector<std::string>& words) {
  // The socket of WEIR_SOCKET or the usual one, and the patience of WEIR_TIMEOUT or that of
  // who types: what is being typed is not parsed.
  CommandLine defaults;
  const auto parsed = defaults.Parse({});
  GlobalOptions options = defaults.options().global;
  if (options.timeout == GlobalOptions().timeout) {
    options.timeout = std::chrono::milliseconds(300);
  }
  const auto live = [&](std::string_view placeholder) {
    return parsed ? LiveNames(options, placeholder) : std::vector<std::string>();
  };
  for (const std::string& candidate : Complete(line.Describe(), words, live)) {
    (void)std::puts(candidate.c_str());
  }
  return kExitDone;
}

int Run(const std::vector<std::string>& words) {
  CommandLine line;
  if (!words.empty() && words.front() == "__complete") {
    return RunComplete(line, {words.begin() + 1, words.end()});
  }
  const auto invocation = line.Parse(words);
  if (!invocation) {
    return Report(invocation.error());
  }
  const CommandInfo root = line.Describe();
  const Options& options = line.options();
  if (invocation->wants_help) {
    return RunHelp(root, invocation->command);
  }
  const std::string& name = invocation->command;
  if (name.empty()) {
    return Print(RenderOverview(root, StyleOf(options.global)));
  }
  if (name == "help") {
    return RunHelp(root, options.help_topic);
  }
  if (name == "completion") {
    return Print(CompletionScript(options.completion_shell));
  }
  if (name == "version") {
    return RunVersion(options);
  }
  if (name == "__man") {
    const auto written = WriteManuals(root, options.man_directory, WEIR_VERSION);
    return written ? int{kExitDone} : Report(written.error());
  }
  const auto* const command =
      std::ranges::find(kCommands, name, &std::pair<std::string_view, Command>::first);
  if (command == kCommands.end()) {
    return Report({.what = "command '" + name + "' is declared but not made"});
  }
  return command->second(options);
}

}  // namespace
}  // namespace weir::cli

int main(int argc, char** argv) {
  try {
    return weir::cli::Run({argv + 1, argv + argc});
  } catch (const std::exception& error) {  // no code of weir's throws: a library did
    return weir::cli::Report({.exit_code = weir::cli::kExitBug,
                              .what = std::string("internal error: ") + error.what(),
                              .why = "this is a bug in weir",
                              .remedy = "report it with the command line and weir version"});
  }
}
