#include <chrono>
#include <cstdio>
#include <string>

#include "agent/base/clock.h"
#include "agent/cli/failure.h"
#include "agent/cli/run.h"
#include "agent/cli/text.h"
#include "agent/identity/certificate_authority.h"

namespace weir::cli {
namespace {

int Print(const base::Result<identity::WrittenCertificate>& written, const std::string& what,
          const std::string& next) {
  if (!written) {
    Failure failure = FromError(written.error());
    failure.exit_code =
        failure.exit_code == kExitPermission ? int{kExitNegative} : failure.exit_code;
    return Report(failure);
  }
  const auto clock = base::SystemClock().WallNow();
  const base::WallTime end{std::chrono::seconds(written->not_after)};
  const std::string text = what + " of " + written->spiffe_id + "\n  certificate  " +
                           written->certificate_path + "\n  key          " + written->key_path +
                           "\n  serial       " + written->serial + "\n  valid until  " +
                           FormatTime(end, TimeFormat::kFull, clock) + "\n" + next + "\n";
  (void)std::fputs(text.c_str(), stdout);
  return kExitDone;
}

}  // namespace

int RunCaInit(const Options& options) {
  const CaInitOptions& init = options.ca_init;
  const auto written = identity::InitRoot({.directory = init.directory,
                                           .trust_domain = init.trust_domain,
                                           .lifetime = std::chrono::days(init.days),
                                           .force = init.force},
                                          base::SystemClock());
  return Print(written, "root", "next: weir ca node NAME --dir " + init.directory);
}

int RunCaNode(const Options& options) {
  const CaNodeOptions& node = options.ca_node;
  const auto written = identity::IssueNode({.directory = node.directory,
                                            .node = node.node,
                                            .lifetime = std::chrono::days(node.days),
                                            .force = node.force},
                                           base::SystemClock());
  return Print(written, "intermediate of node " + node.node,
               "next: copy both and " + node.directory + "/root.pem to the node's /etc/weir/ca");
}

}  // namespace weir::cli
