#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/cli/failure.h"
#include "agent/cli/run.h"
#include "agent/cli/text.h"
#include "agent/config/check.h"

namespace weir::cli {

int RunConfigCheck(const Options& options) {
  const config::CheckReport report =
      config::CheckDirectory(options.config_check.directory, options.config_check.agent_config);
  (void)std::fputs(report.ToText().c_str(), report.ok() ? stdout : stderr);
  return report.ok() ? kExitDone : kExitNegative;
}

int RunUninstallNode(const Options& options) {
  std::vector<std::string> arguments = {FindAgentProgram(), "uninstall-node"};
  arguments.insert(arguments.end(), options.uninstall_arguments.begin(),
                   options.uninstall_arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments) {
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  const base::Error error = base::SystemError("run " + arguments.front()).error();
  return Report({.exit_code = kExitUnreachable,
                 .what = error.message(),
                 .why = "the agent's program was found neither beside weir nor in PATH",
                 .remedy = "install weir-agent, or add its directory to PATH"});
}

}  // namespace weir::cli
