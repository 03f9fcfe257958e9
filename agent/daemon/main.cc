#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <thread>

#include "agent/base/log.h"
#include "agent/daemon/agent.h"
#include "agent/daemon/exit_status.h"
#include "agent/daemon/subcommands.h"

namespace {

using weir::daemon::kExitConfiguration;
using weir::daemon::kExitUsage;

struct Arguments {
  std::string config_path = "/etc/weir/agent.yaml";
  std::string output = "text";
  bool config_given = false;
};

void PrintRefusal(const Arguments& arguments, const weir::config::AgentConfig& agent,
                  const weir::config::Diagnostics& findings) {
  const auto refusal = weir::config::RefusalOf(
      findings, "weir config check " + agent.documents_directory + " --agent-config " +
                    arguments.config_path + " lists every error");
  std::fprintf(stderr, "weir-agent: %s\n", refusal.ToString().c_str());
}

// agent.yaml for a subcommand that also works without one.
weir::config::AgentConfig ConfigOrDefaults(const Arguments& arguments, bool& ok) {
  weir::config::Diagnostics findings;
  auto agent = weir::config::LoadAgentConfig(arguments.config_path, findings);
  ok = findings.ok();
  if (!ok && arguments.config_given) {
    PrintRefusal(arguments, agent, findings);
  }
  if (!ok && !arguments.config_given) {
    ok = true;
    return {};
  }
  return agent;
}

int RunAgent(const Arguments& arguments) {
  weir::config::Diagnostics findings;
  auto agent = weir::config::LoadAgentConfig(arguments.config_path, findings);
  if (!findings.ok()) {
    PrintRefusal(arguments, agent, findings);
    return kExitConfiguration;
  }
  if (auto log = weir::base::StartLog(agent.log_level); !log) {
    std::fprintf(stderr, "weir-agent: %s\n", log.error().ToString().c_str());
    return kExitConfiguration;
  }
  auto running = weir::daemon::Agent::Start(std::move(agent), arguments.config_path);
  if (!running) {
    std::fprintf(stderr, "weir-agent: %s\n", running.error().error.ToString().c_str());
    return running.error().status;
  }
  return (*running)->Run();
}

int RunCheck(const Arguments& arguments, const weir::config::AgentConfig& agent) {
  return weir::daemon::RunPreflight(weir::daemon::DatapathOptions(agent, 1),
                                    static_cast<unsigned>(agent.workloads.size()),
                                    arguments.output == "json");
}

int RunClean(const Arguments&, const weir::config::AgentConfig& agent) {
  return weir::daemon::RunCleanLeftovers(weir::daemon::DatapathOptions(agent, 1));
}

int RunUninstall(const Arguments&, const weir::config::AgentConfig& agent) {
  return weir::daemon::RunUninstall(weir::daemon::DatapathOptions(agent, 1));
}

// `without_config`: goes on with the defaults when agent.yaml is broken.
int RunSubcommand(const Arguments& arguments, bool without_config,
                  int (*run)(const Arguments&, const weir::config::AgentConfig&)) {
  bool ok = false;
  const auto agent = ConfigOrDefaults(arguments, ok);
  return ok || without_config ? run(arguments, agent) : kExitConfiguration;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app(
      "weir's node agent: intercepts, encrypts and records the TCP traffic of enrolled "
      "workloads.\nRun it from systemd or a DaemonSet; talk to it with `weir`.",
      "weir-agent");
  app.footer(
      "Examples:\n"
      "  weir-agent --config /etc/weir/agent.yaml\n"
      "  weir-agent check --pre            what this machine lacks, before anything is installed\n"
      "  weir-agent uninstall-node         removes every trace of weir from the kernel\n\n"
      "Exit status: 0 ended by a signal or done; 2 usage; 10 configuration; 11 privileges;\n"
      "12 kernel; 13 certificate authority; 14 admin socket; 15 already running; 70 other.");
  auto* config = app.add_option("-c,--config", arguments.config_path, "This node's configuration")
                     ->capture_default_str();
  app.set_version_flag("--version", std::string("weir-agent ") + WEIR_VERSION);
  auto* check = app.add_subcommand("check", "Check this machine (WK101 to WK110)");
  bool before_installation = false;  // accepted: there is no other form here
  check->add_flag("--pre", before_installation, "Before an installation; see `weir check`");
  check->add_option("-o,--output", arguments.output, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  check->add_option("-c,--config", arguments.config_path);
  auto* uninstall = app.add_subcommand("uninstall-node",
                                       "Remove all programs, links, pins, rules, routes and "
                                       "sysctls that agents left on this node");
  uninstall->add_option("-c,--config", arguments.config_path);
  auto* clean = app.add_subcommand("clean-leftovers",
                                   "Remove what earlier agents left in the kernel and no running "
                                   "one, nor this node's own, owns");
  clean->add_option("-c,--config", arguments.config_path);
  auto* version = app.add_subcommand("version", "Print the version");
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  arguments.config_given = config->count() > 0 || check->count("--config") > 0 ||
                           uninstall->count("--config") > 0 || clean->count("--config") > 0;
  if (version->parsed()) {
    std::puts("weir-agent " WEIR_VERSION);
    return 0;
  }
  if (check->parsed()) {
    return RunSubcommand(arguments, /*without_config=*/false, RunCheck);
  }
  if (clean->parsed()) {
    return RunSubcommand(arguments, /*without_config=*/false, RunClean);
  }
  return uninstall->parsed() ? RunSubcommand(arguments, /*without_config=*/true, RunUninstall)
                             : RunAgent(arguments);
}
