#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <string>
#include <vector>

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

Color WordColor(bool good) {
  return good ? Color::kGreen : Color::kRed;
}

std::string Heading(const Style& style, const std::string& title) {
  return "\n" + Paint(style, Color::kBold, title) + "\n";
}

// Every line of a table indented.
std::string Indented(const std::string& table) {
  std::string text;
  for (const std::string& line : Split(table, '\n')) {
    text += line.empty() ? "" : "  " + line + "\n";
  }
  return text;
}

std::string AgentText(const v1::Status& status, const Style& style, base::WallTime now) {
  const std::string up =
      status.has_started_at() ? FormatAge(now - ToWallTime(status.started_at())) : "-";
  std::string text = fmt::format("weir-agent {} on {}: {}, up {}, {} workers, trust domain {}\n",
                                 Printable(status.version()), Printable(status.node()),
                                 Paint(style, WordColor(status.ready()),
                                       status.ready()           ? "ready"
                                       : status.state().empty() ? "not ready"
                                                                : status.state()),
                                 up, status.workers(), Printable(status.trust_domain()));
  for (const std::string& reason : status.not_ready_reasons()) {
    text += "  not ready: " + Printable(reason) + "\n";
  }
  return text;
}

std::string FeaturesText(const v1::Status& status, const Style& style) {
  Table table({"FEATURE", "NEEDED BY", "AVAILABLE", "INSTEAD"});
  for (const v1::Feature& feature : status.features()) {
    table.Add({Printable(feature.name()), Printable(feature.needed_by()),
               Paint(style, WordColor(feature.available()), feature.available() ? "yes" : "no"),
               feature.available() ? "-" : Printable(feature.fallback())});
  }
  return status.features().empty() ? "" : Heading(style, "Kernel") + Indented(table.Take());
}

std::string WorkloadsText(const v1::Status& status, const Style& style, base::WallTime now) {
  Table table({"WORKLOAD", "MODE", "STATE", "CERTIFICATE", ">OUT", ">IN", ">REFUSED"});
  for (const v1::WorkloadStatus& workload : status.workloads()) {
    const v1::WorkloadCounters& counters = workload.counters();
    table.Add({DisplayName(workload), Printable(workload.mode()),
               Paint(style, WordColor(IsWell(workload, now)), StateOf(workload, now)),
               CertificateText(workload.certificate(), now), FormatCount(counters.outbound()),
               FormatCount(counters.inbound()), FormatCount(counters.refused())});
  }
  return Heading(style, "Workloads") +
         (status.workloads().empty() ? "  none is enrolled\n" : Indented(table.Take()));
}

// One line for each exporter: what it sends where to, how it is, and what became of it.
std::string ExporterLines(const v1::Status& status) {
  if (status.exporters().empty()) {
    return "  exporter: none, spans stay in memory\n";
  }
  std::string text;
  for (const v1::ExporterStatus& exporter : status.exporters()) {
    fmt::format_to(
        std::back_inserter(text), "  exporter {}: {} by {} {} {}, {} exported, {} queued",
        Printable(exporter.name()),
        exporter.signal().empty() ? "traces" : Printable(exporter.signal()),
        Printable(exporter.kind()), Printable(exporter.endpoint()), Printable(exporter.state()),
        FormatCount(exporter.exported()), FormatCount(exporter.queued()));
    for (const v1::CounterValue& drop : exporter.dropped()) {
      fmt::format_to(std::back_inserter(text), ", {} dropped ({})", FormatCount(drop.value()),
                     Printable(drop.reason()));
    }
    if (!exporter.last_error().empty()) {
      text += ", last error: " + Printable(exporter.last_error());
    }
    text += '\n';
  }
  return text;
}

std::string QueuesText(const v1::Status& status, const Style& style) {
  Table table({"QUEUE", ">GENERATED", ">EXPORTED", ">DROPPED", ">QUEUED", ">BYTES", ">LIMIT"});
  for (const v1::QueueStatus& queue : status.queues()) {
    table.Add({Printable(queue.name()), FormatCount(queue.generated()),
               FormatCount(queue.exported()),
               Paint(style, queue.dropped() == 0 ? Color::kNone : Color::kRed,
                     FormatCount(queue.dropped())),
               FormatCount(queue.queued()), FormatBytes(queue.queued_bytes()),
               FormatBytes(queue.limit_bytes())});
  }
  const v1::FlowStoreStatus& flows = status.flow_store();
  std::string text = Heading(style, "Queues") + Indented(table.Take());
  fmt::format_to(std::back_inserter(text),
                 "  flow store: {} of {} records, {} of {}, {} lost before it, {} followers\n",
                 FormatCount(flows.records()), FormatCount(flows.limit_records()),
                 FormatBytes(flows.bytes()), FormatBytes(flows.limit_bytes()),
                 FormatCount(flows.lost()), flows.followers());
  return text + ExporterLines(status);
}

std::string ConfigText(const v1::Status& status, const Style& style, base::WallTime now) {
  const v1::ConfigStatus& config = status.config();
  std::string text = Heading(style, "Configuration");
  fmt::format_to(std::back_inserter(text), "  revision {}, loaded {} ago, {} rejected\n",
                 config.revision(),
                 config.has_loaded_at() ? FormatAge(now - ToWallTime(config.loaded_at())) : "-",
                 config.rejections());
  for (const std::string& error : config.last_rejection().errors()) {
    text += "  " + Paint(style, Color::kRed, "rejected") + " " + Printable(error) + "\n";
  }
  for (const std::string& warning : config.warnings()) {
    text += "  " + Paint(style, Color::kYellow, "warning") + " " + Printable(warning) + "\n";
  }
  return text;
}

std::string DropsText(const v1::Status& status, const Style& style) {
  Table table({"DROPPED", "REASON", ">COUNT"});
  std::size_t rows = 0;
  for (const v1::CounterValue& drop : status.drops()) {
    if (drop.value() != 0) {
      table.Add({Printable(drop.name()), Printable(drop.reason()), FormatCount(drop.value())});
      ++rows;
    }
  }
  return Heading(style, "Drops") + (rows == 0 ? "  none\n" : Indented(table.Take()));
}

// What --check finds, one line each.
std::vector<std::string> ProblemsOf(const v1::Status& status, base::WallTime now) {
  std::vector<std::string> problems;
  if (!status.ready()) {
    problems.push_back("the agent is not ready");
  }
  for (const v1::WorkloadStatus& workload : status.workloads()) {
    if (!IsWell(workload, now)) {
      problems.push_back(DisplayName(workload) + ": " + StateOf(workload, now));
    }
  }
  if (status.config().has_last_rejection()) {
    problems.push_back("the newest configuration was rejected");
  }
  return problems;
}

bool PrintWorkload(const v1::Status& status, const std::string& name, base::WallTime now) {
  const auto found = std::ranges::find_if(status.workloads(), [&](const auto& workload) {
    return DisplayName(workload) == name || workload.name() == name;
  });
  if (found == status.workloads().end()) {
    return false;
  }
  (void)std::fputs(WorkloadDetails(*found, now).c_str(), stdout);
  return true;
}

std::string FullText(const v1::Status& status, const Style& style, base::WallTime now) {
  return AgentText(status, style, now) + FeaturesText(status, style) +
         WorkloadsText(status, style, now) + QueuesText(status, style) +
         ConfigText(status, style, now) + DropsText(status, style);
}

}  // namespace

int RunStatus(const Options& options) {
  const auto gathered = Gather<v1::Status>(options.global, "/v1/status");
  const Style style = StyleOf(options.global);
  const auto now = base::SystemClock().WallNow();
  int code = gathered.exit_code;
  bool found = options.status.workload.empty();
  for (std::size_t i = 0; i < gathered.answers.size(); ++i) {
    const v1::Status& status = gathered.answers[i];
    if (!options.status.workload.empty()) {
      found = PrintWorkload(status, options.status.workload, now) || found;
    } else if (const auto printed =
                   PrintStructured(status, {}, options.status.output, style, code)) {
      code = *printed;
    } else {
      (void)std::fputs((std::string(i == 0 ? "" : "\n") + FullText(status, style, now)).c_str(),
                       stdout);
    }
    if (options.status.check) {
      for (const std::string& problem : ProblemsOf(status, now)) {
        (void)std::fprintf(stderr, "weir: %s\n", problem.c_str());
        code = code == kExitDone ? kExitNegative : code;
      }
    }
  }
  if (!found && !gathered.answers.empty()) {
    return Report({.exit_code = kExitNegative,
                   .what = "no workload " + options.status.workload + " is enrolled here",
                   .why = {},
                   .remedy = "weir workloads"});
  }
  return code;
}

}  // namespace weir::cli
