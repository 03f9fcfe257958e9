#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/cli/flow_rows.h"
#include "agent/cli/json_forms.h"
#include "agent/cli/options.h"
#include "weir/v1/flow.pb.h"

namespace weir::cli {

// Whether `format` is one of the forms that are JSON from the first byte to the last.
inline bool IsJson(Format format) {
  return format == Format::kJson || format == Format::kJsonLines;
}

// Whether `path` names a member of a flow's JSON form: "source.workload".
bool IsFlowMember(const std::string& path);

// FlowPrinter turns the lines that agents send into the chosen form. One thread at a time.
class FlowPrinter {
 public:
  // `sorted`: keep the flows of several agents back until Finish, which prints them by
  // time, the newest `last` of them (0: all).
  struct Order {
    bool sorted = false;
    std::size_t last = 0;
  };
  FlowPrinter(const FlowsOptions& options, std::size_t agents, FlowRowOptions rows, Order order);

  // A line of agent number `agent`; false when enough flows have been printed, or the
  // line was none (failed() says so).
  bool Take(std::size_t agent, std::string_view line);
  // Prints what was kept back.
  void Finish();

  // The last line on standard error, and before it, when nothing matched, why.
  [[nodiscard]] std::string SummaryText() const;
  [[nodiscard]] std::uint64_t printed() const { return printed_; }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  void TakeSummary(std::size_t agent, std::string_view line);
  void Print(const v1::Flow& flow, std::string_view json, const std::string& lead);
  void PrintJson(const v1::Flow& flow, std::string_view json);
  [[nodiscard]] std::string TextOf(const v1::Flow& flow, std::string_view json,
                                   const std::string& lead) const;
  // `json` with the members of --fields alone.
  [[nodiscard]] std::string ChosenJson(const v1::Flow& flow, std::string_view json) const;
  void PrintTree(std::size_t begin);
  [[nodiscard]] bool wants_table() const;
  void Flush();
  [[nodiscard]] v1::FlowSummary Total() const;
  [[nodiscard]] std::string WindowText(const v1::FlowSummary& total) const;

  const FlowsOptions& options_;
  FlowRowOptions rows_;
  Order order_;
  std::vector<const FlowColumn*> columns_;  // of the table
  Table table_;
  Template template_;
  std::vector<v1::FlowSummary> summaries_;
  std::vector<std::pair<v1::Flow, std::string>> kept_;
  std::string out_;
  std::size_t table_rows_ = 0;
  std::uint64_t printed_ = 0;
  bool failed_ = false;
};

}  // namespace weir::cli
