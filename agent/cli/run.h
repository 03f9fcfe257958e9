#pragma once

#include <string>

#include "agent/cli/command_info.h"
#include "agent/cli/options.h"

// The commands. Each prints its result to standard output, everything else to standard
// error, and returns the exit code.
namespace weir::cli {

int RunFlows(const Options& options);
int RunStatus(const Options& options);
int RunCheck(const Options& options);
int RunTraces(const Options& options);
int RunMap(const Options& options);
int RunTop(const Options& options);
int RunWorkloads(const Options& options);
int RunCerts(const Options& options);
int RunConfigCheck(const Options& options);
int RunPolicyExplain(const Options& options);
int RunPolicyShow(const Options& options);
int RunCaInit(const Options& options);
int RunCaNode(const Options& options);
int RunUninstallNode(const Options& options);

// Path of weir-agent: beside this program or in the sbin next to it, else as PATH
// finds it.
std::string FindAgentProgram();

}  // namespace weir::cli
