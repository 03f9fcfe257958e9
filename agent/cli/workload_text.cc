#include "agent/cli/workload_text.h"

#include <fmt/format.h>

#include <iterator>

#include "agent/cli/text.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {
namespace {

std::string YesOrNo(bool yes) {
  return yes ? "yes" : "no";
}

}  // namespace

std::string DisplayName(const v1::WorkloadStatus& workload) {
  return Printable(workload.namespace_().empty() ? workload.name()
                                                 : workload.namespace_() + "/" + workload.name());
}

std::string StateOf(const v1::WorkloadStatus& workload, base::WallTime now) {
  if (!workload.problem().empty()) {
    return Printable(workload.problem());
  }
  if (!workload.hooks_effective()) {
    return "hooks not effective";
  }
  if (workload.listeners_alive() < workload.listeners()) {
    return fmt::format("{} of {} listeners alive", workload.listeners_alive(),
                       workload.listeners());
  }
  if (workload.probe().outcome() != "ok") {
    return "probe " + (workload.probe().outcome().empty() ? "not made yet"
                                                          : Printable(workload.probe().outcome()));
  }
  if (!workload.certificate().has_not_after()) {
    return "no certificate";
  }
  return ToWallTime(workload.certificate().not_after()) <= now ? "certificate expired" : "ok";
}

bool IsWell(const v1::WorkloadStatus& workload, base::WallTime now) {
  return StateOf(workload, now) == "ok";
}

std::string CertificateText(const v1::CertificateStatus& certificate, base::WallTime now) {
  if (!certificate.has_not_after()) {
    return "none";
  }
  const auto left = ToWallTime(certificate.not_after()) - now;
  if (left.count() <= 0) {
    return "expired " + FormatAge(-left) + " ago";
  }
  std::string text = FormatAge(left);
  if (certificate.has_next_renewal()) {
    const auto renewal = ToWallTime(certificate.next_renewal()) - now;
    text += renewal.count() > 0 ? " (renewal in " + FormatAge(renewal) + ")" : " (renewal due)";
  }
  return text;
}

std::string WorkloadDetails(const v1::WorkloadStatus& workload, base::WallTime now) {
  std::string text;
  const auto row = [&](const std::string& name, const std::string& value) {
    fmt::format_to(std::back_inserter(text), "  {:<20}{}\n", name,
                   value.empty() ? "-" : Printable(value));
  };
  const v1::CertificateStatus& certificate = workload.certificate();
  text += DisplayName(workload) + ": " + StateOf(workload, now) + "\n";
  row("identity", workload.identity());
  row("matched by", workload.kind() + " " + workload.match());
  row("netns cookie", std::to_string(workload.netns_cookie()));
  row("cgroup id", std::to_string(workload.cgroup_id()));
  row("local id", std::to_string(workload.local_id()));
  row("addresses", Join({workload.addresses().begin(), workload.addresses().end()}, ", "));
  row("mode", workload.mode() + ", " + workload.on_agent_down() + " when the agent is down");
  row("hooks effective", YesOrNo(workload.hooks_effective()));
  row("listeners", fmt::format("{} of {} alive", workload.listeners_alive(), workload.listeners()));
  row("self-probe",
      workload.probe().outcome() +
          (workload.probe().detail().empty() ? "" : ": " + workload.probe().detail()));
  row("certificate", CertificateText(certificate, now));
  row("serial", certificate.serial());
  row("issuer", certificate.issuer());
  row("last issue error", certificate.last_error());
  const v1::WorkloadCounters& counters = workload.counters();
  row("flows", fmt::format("{} out, {} in", FormatCount(counters.outbound()),
                           FormatCount(counters.inbound())));
  row("refused", FormatCount(counters.refused()));
  return text;
}

}  // namespace weir::cli
