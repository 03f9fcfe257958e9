#include "agent/daemon/subcommands.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "agent/daemon/checks.h"
#include "agent/daemon/exit_status.h"
#include "agent/datapath/leftovers.h"
#include "weir/v1/admin.pb.h"

namespace weir::daemon {

int RunPreflight(const datapath::Options& options, unsigned workload_count, bool json) {
  const auto results = datapath::Preflight(options, workload_count);
  v1::CheckReport report;
  report.set_api_version("weir/v1");
  report.set_version(WEIR_VERSION);
  for (const auto& result : results) {
    FillCheck(result, *report.add_results());
  }
  FillCheck(datapath::CheckLeftovers(options), *report.add_results());
  if (json) {
    std::string text;
    google::protobuf::util::JsonPrintOptions print;
    print.always_print_primitive_fields = true;
    (void)google::protobuf::util::MessageToJsonString(report, &text, print);  // cannot fail
    std::printf("%s\n", text.c_str());
  } else {
    for (const auto& result : report.results()) {
      std::printf("%-7s %s  %s\n", result.outcome().c_str(), result.code().c_str(),
                  result.fact().c_str());
      if (!result.remedy().empty()) {
        std::printf("        try: %s\n", result.remedy().c_str());
      }
    }
  }
  const bool failed = std::ranges::any_of(
      results, [](const auto& result) { return result.outcome == datapath::CheckOutcome::kFail; });
  return failed ? 1 : 0;
}

int RunCleanLeftovers(const datapath::Options& options) {
  const auto found = datapath::FindLeftovers(options);
  const auto removed =
      found ? datapath::CleanLeftovers(options, found->items) : std::unexpected(found.error());
  if (!removed) {
    std::fprintf(stderr, "weir-agent: %s\n", removed.error().ToString().c_str());
    return ExitStatusOf(removed.error().code());
  }
  for (const auto& item : *removed) {
    std::printf("removed %s\n", item.name.c_str());
  }
  std::printf("%zu left without owner, %zu removed, %u links of running agents untouched\n",
              found->items.size(), removed->size(), found->owned_links);
  return kExitDone;
}

int RunUninstall(const datapath::Options& options) {
  const auto done = datapath::UninstallNode(options);
  if (!done) {
    std::fprintf(stderr, "weir-agent: %s\n", done.error().ToString().c_str());
    return ExitStatusOf(done.error().code());
  }
  std::puts("nothing of weir is left on this node");
  return kExitDone;
}

}  // namespace weir::daemon
