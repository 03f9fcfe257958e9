#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "agent/daemon/facts.h"
#include "agent/export/exporter_set.h"
#include "agent/export/pipeline.h"

namespace weir::v1 {
class CheckReport;
class CheckResult;
}  // namespace weir::v1

namespace weir::daemon {

// What the checks of a running agent look at, besides the control thread's facts.
struct CheckInput {
  std::shared_ptr<const ControlFacts> facts;
  datapath::Options datapath;
  // Of spans first, then of the other signals; never empty.
  std::vector<telemetry::ExportStatus> exports = std::vector<telemetry::ExportStatus>(1);
  telemetry::PipelineCounters pipeline;
};

void FillCheck(const datapath::CheckResult& from, v1::CheckResult& to);

// Runs the checks WK101-WK110, WK201-WK208, WK301-WK304, WK401-WK405, WK501 and WK701 on
// this node. Reads files and the facts; changes nothing. Any thread but a worker.
v1::CheckReport RunChecks(const CheckInput& input);

// Those of them that are about one workload: WK203, WK301 to WK303, WK401, WK402 and WK405 of it.
// `subject` is its name, with or without the namespace, or unit:NAME; empty: no configured
// workload has that.
std::optional<v1::CheckReport> RunChecksOf(const CheckInput& input, std::string_view subject);

}  // namespace weir::daemon
