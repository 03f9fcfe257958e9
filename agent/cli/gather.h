#pragma once

#include <string>
#include <utility>
#include <vector>

#include "agent/cli/agent.h"
#include "agent/cli/failure.h"
#include "agent/cli/options.h"

namespace weir::cli {

inline constexpr char kApiVersion[] = "weir/v1";

// The answers of several agents, and how the command ends if it goes on with them.
template <typename M>
struct Gathered {
  std::vector<M> answers;
  int exit_code = kExitDone;
};

// Asks every agent for GET `target`. Failures are reported at once; with some answers the
// exit code is kExitPartial, with none that of the first failure.
template <typename M>
Gathered<M> Gather(const GlobalOptions& options, const std::string& target) {
  Gathered<M> gathered;
  for (const std::string& socket : options.sockets) {
    Agent agent(socket, options.timeout);
    M message;
    auto got = agent.Get(target, message);
    if (got && message.api_version() != kApiVersion) {
      got =
          std::unexpected(Failure{.exit_code = kExitVersion,
                                  .what = "the agent at " + socket + " speaks API '" +
                                          message.api_version() + "', this command " + kApiVersion,
                                  .why = "their versions are too far apart",
                                  .remedy = "use the weir command of the agent's version"});
    }
    if (got) {
      gathered.answers.push_back(std::move(message));
    } else {
      const int code = Report(got.error());
      gathered.exit_code = gathered.exit_code == kExitDone ? code : gathered.exit_code;
    }
  }
  if (gathered.exit_code != kExitDone && !gathered.answers.empty()) {
    gathered.exit_code = kExitPartial;
  }
  return gathered;
}

}  // namespace weir::cli
