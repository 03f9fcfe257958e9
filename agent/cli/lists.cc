#include <cstdio>
#include <string>

#include "agent/base/clock.h"
#include "agent/cli/gather.h"
#include "agent/cli/json_forms.h"
#include "agent/cli/run.h"
#include "agent/cli/terminal.h"
#include "agent/cli/text.h"
#include "agent/cli/workload_text.h"
#include "weir/v1/admin.pb.h"

namespace weir::cli {
namespace {

using RowOf = std::vector<std::string> (*)(const v1::WorkloadStatus&, const std::string& node,
                                           const Style&, base::WallTime);

std::string StateWord(const v1::WorkloadStatus& workload, const Style& style, base::WallTime now) {
  return Paint(style, IsWell(workload, now) ? Color::kGreen : Color::kRed, StateOf(workload, now));
}

std::vector<std::string> WorkloadRow(const v1::WorkloadStatus& workload, const std::string& node,
                                     const Style& style, base::WallTime now) {
  return {DisplayName(workload),
          Printable(node),
          Printable(workload.kind()),
          Printable(Join({workload.addresses().begin(), workload.addresses().end()}, ",")),
          Printable(workload.mode()),
          Printable(workload.identity()),
          StateWord(workload, style, now)};
}

std::vector<std::string> CertificateRow(const v1::WorkloadStatus& workload, const std::string&,
                                        const Style& style, base::WallTime now) {
  const v1::CertificateStatus& certificate = workload.certificate();
  const bool valid = certificate.has_not_after() && ToWallTime(certificate.not_after()) > now;
  return {Printable(workload.identity()),
          certificate.serial().empty() ? "-" : Printable(certificate.serial()),
          certificate.has_not_after()
              ? FormatTime(ToWallTime(certificate.not_after()), TimeFormat::kFull, now)
              : "-",
          Paint(style, valid ? Color::kGreen : Color::kRed, CertificateText(certificate, now)),
          certificate.issuer().empty() ? "-" : Printable(certificate.issuer()),
          certificate.last_error().empty() ? "-" : Printable(certificate.last_error())};
}

int PrintList(const GlobalOptions& global, const ListOptions& list, const ListForm& form,
              Table table, RowOf row_of) {
  auto gathered = Gather<v1::WorkloadList>(global, "/v1/workloads");
  const Style style = StyleOf(global);
  const auto now = base::SystemClock().WallNow();
  std::size_t rows = 0;
  bool structured = false;
  for (v1::WorkloadList& answer : gathered.answers) {
    v1::WorkloadList shown = answer;
    shown.clear_workloads();
    for (const v1::WorkloadStatus& workload : answer.workloads()) {
      if (list.name.empty() || DisplayName(workload) == list.name || workload.name() == list.name) {
        *shown.add_workloads() = workload;
        table.Add(row_of(workload, answer.node(), style, now));
        ++rows;
      }
    }
    if (const auto printed = PrintStructured(shown, form, list.output, style, kExitDone)) {
      structured = true;
      if (*printed != kExitDone) {
        return *printed;
      }
    }
  }
  if (rows != 0 && !structured) {
    (void)std::fputs(table.Take().c_str(), stdout);
  }
  if (rows == 0 && !gathered.answers.empty() && !list.name.empty()) {
    return Report({.exit_code = kExitNegative,
                   .what = "no workload " + list.name + " is enrolled here",
                   .why = {},
                   .remedy = "weir workloads"});
  }
  if (rows == 0 && !gathered.answers.empty() && !structured) {
    (void)std::fputs("no workload is enrolled here\n", stderr);
  }
  return gathered.exit_code;
}

}  // namespace

int RunWorkloads(const Options& options) {
  return PrintList(options.global, options.workloads, {"workloads", "{namespace}/{name}"},
                   Table({"WORKLOAD", "NODE", "KIND", "ADDRESSES", "MODE", "IDENTITY", "STATE"}),
                   WorkloadRow);
}

int RunCerts(const Options& options) {
  return PrintList(options.global, options.certs, {"workloads", "{identity}"},
                   Table({"IDENTITY", "SERIAL", "NOT AFTER", "LEFT", "ISSUER", "LAST ERROR"}),
                   CertificateRow);
}

}  // namespace weir::cli
