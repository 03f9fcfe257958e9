#include "agent/cli/flow_printer.h"

#include <google/protobuf/field_mask.pb.h>
#include <google/protobuf/util/field_mask_util.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>
#include <iterator>

#include "agent/base/clock.h"
#include "agent/cli/agent.h"
#include "agent/cli/flow_otlp.h"
#include "agent/cli/gather.h"
#include "agent/cli/span_tree.h"

namespace weir::cli {
namespace {

constexpr std::string_view kSummaryStart = R"({"summary":)";
// A followed table fixes its widths by so many rows.
constexpr std::size_t kRowsForWidths = 20;
constexpr std::size_t kFlushBytes = 64U << 10U;

std::vector<const FlowColumn*> ColumnsOf(const FlowsOptions& options) {
  std::vector<const FlowColumn*> columns;
  for (const std::string& field : options.fields) {
    if (const FlowColumn* column = FindFlowColumn(field); column != nullptr) {
      columns.push_back(column);
    }
  }
  if (columns.empty()) {
    const auto all = FlowColumns();
    const auto shown = options.output.format == Format::kTable ? all.first(kCompactColumns) : all;
    std::ranges::transform(shown, std::back_inserter(columns),
                           [](const FlowColumn& column) { return &column; });
  }
  return columns;
}

std::vector<std::string> HeaderOf(const std::vector<const FlowColumn*>& columns) {
  std::vector<std::string> header;
  std::ranges::transform(columns, std::back_inserter(header),
                         [](const FlowColumn* column) { return std::string(column->header); });
  return header;
}

google::protobuf::FieldMask MaskOf(const std::vector<std::string>& fields) {
  google::protobuf::FieldMask mask;
  (void)google::protobuf::util::FieldMaskUtil::FromJsonString(Join(fields, ","), &mask);
  return mask;
}

bool HasWindow(const v1::FlowSummary& summary) {
  return summary.has_window_start() && summary.has_window_end();
}

}  // namespace

bool IsFlowMember(const std::string& path) {
  google::protobuf::FieldMask mask;
  using google::protobuf::util::FieldMaskUtil;
  return FieldMaskUtil::FromJsonString(path, &mask) && mask.paths_size() == 1 &&
         FieldMaskUtil::IsValidPath<v1::Flow>(mask.paths(0));
}

FlowPrinter::FlowPrinter(const FlowsOptions& options, std::size_t agents, FlowRowOptions rows,
                         Order order)
    : options_(options),
      rows_(rows),
      order_(order),
      columns_(ColumnsOf(options)),
      table_(HeaderOf(columns_), rows.style.width),
      template_(Template::Parse(options.output.argument).value_or(Template())),
      summaries_(agents) {
  if (options_.output.format == Format::kJson) {
    out_ = "{\"apiVersion\":\"" + std::string(kApiVersion) + "\",\"flows\":[";
  }
}

bool FlowPrinter::Take(std::size_t agent, std::string_view line) {
  if (line.starts_with(kSummaryStart)) {
    TakeSummary(agent, line);
    return !failed_;
  }
  v1::Flow flow;
  const bool raw = IsJson(options_.output.format) && options_.fields.empty();
  if ((!raw || order_.sorted) && !FromJson(line, flow)) {
    failed_ = true;
    return false;
  }
  if (order_.sorted) {
    kept_.emplace_back(std::move(flow), line);
    return true;
  }
  Print(flow, line, "");
  return !options_.count || printed_ < *options_.count;
}

void FlowPrinter::TakeSummary(std::size_t agent, std::string_view line) {
  v1::FlowSummaryLine parsed;
  if (!FromJson(line, parsed)) {
    failed_ = true;
    return;
  }
  const std::uint64_t before = summaries_[agent].lost();
  summaries_[agent] = parsed.summary();
  // Whoever follows is caught up now.
  table_rows_ = wants_table() && printed_ != 0 ? kRowsForWidths : 0;
  Flush();
  if (options_.follow && parsed.summary().lost() > before) {
    (void)std::fprintf(stderr, "weir: %s flows were lost: this reader is too slow\n",
                       FormatCount(parsed.summary().lost() - before).c_str());
  }
}

bool FlowPrinter::wants_table() const {
  const Format format = options_.output.format;
  return format == Format::kTable || format == Format::kWide ||
         (format == Format::kCompact && !options_.fields.empty());
}

void FlowPrinter::Print(const v1::Flow& flow, std::string_view json, const std::string& lead) {
  if (IsJson(options_.output.format)) {
    PrintJson(flow, json);
  } else if (wants_table()) {
    std::vector<std::string> row;
    const auto source = std::ranges::find(columns_, std::string_view("SRC"), &FlowColumn::header);
    const auto leads = source == columns_.end() ? columns_.begin() : source;
    for (auto column = columns_.begin(); column != columns_.end(); ++column) {
      row.push_back((column == leads ? lead : "") + (*column)->cell(flow, rows_));
    }
    table_.Add(std::move(row));
    ++table_rows_;
  } else {
    out_ += TextOf(flow, json, lead);
  }
  ++printed_;
  if (out_.size() >= kFlushBytes || table_rows_ >= kRowsForWidths) {
    Flush();
  }
}

// What stands for one flow in the forms that are neither JSON nor a table.
std::string FlowPrinter::TextOf(const v1::Flow& flow, std::string_view json,
                                const std::string& lead) const {
  switch (options_.output.format) {
    case Format::kDict:
      return (printed_ == 0 ? "" : "\n") + DictOf(flow, columns_, rows_);
    case Format::kOtlp:
      return ToOtlp(flow) + "\n";
    case Format::kYaml:
      return "---\n" + ToYaml(boost::json::parse(ChosenJson(flow, json)));
    case Format::kTemplate:
      // Members that are zero are not in the line, and are no less there.
      return template_.Render(boost::json::parse(ToPrettyJson(flow)));
    default:
      return CompactLine(flow, rows_, lead) + "\n";
  }
}

std::string FlowPrinter::ChosenJson(const v1::Flow& flow, std::string_view json) const {
  if (options_.fields.empty()) {
    return std::string(json);
  }
  v1::Flow chosen = flow;
  google::protobuf::util::FieldMaskUtil::TrimMessage(MaskOf(options_.fields), &chosen);
  return ToJson(chosen);
}

void FlowPrinter::PrintJson(const v1::Flow& flow, std::string_view json) {
  if (options_.output.format == Format::kJson) {
    out_ += printed_ == 0 ? "\n" : ",\n";
  }
  out_ += ChosenJson(flow, json);
  out_ += options_.output.format == Format::kJson ? "" : "\n";
}

void FlowPrinter::Flush() {
  if (table_rows_ >= kRowsForWidths) {
    out_ += table_.Take();
  }
  // A reader that has gone ends the process by SIGPIPE; other failures have no remedy here.
  (void)std::fwrite(out_.data(), 1, out_.size(), stdout);
  (void)std::fflush(stdout);
  out_.clear();
}

void FlowPrinter::Finish() {
  std::ranges::stable_sort(kept_, {}, [](const auto& kept) {
    return std::pair(kept.first.time().seconds(), kept.first.time().nanos());
  });
  const std::size_t most = order_.last != 0 ? order_.last : kept_.size();
  const std::size_t begin = kept_.size() > most ? kept_.size() - most : 0;
  if (options_.tree) {
    PrintTree(begin);
  }
  for (std::size_t i = begin; i < kept_.size() && !options_.tree; ++i) {
    if (!options_.count || printed_ < *options_.count) {
      Print(kept_[i].first, kept_[i].second, "");
    }
  }
  if (wants_table() && printed_ != 0) {
    table_rows_ = kRowsForWidths;
  }
  if (options_.output.format == Format::kJson) {
    v1::FlowSummaryLine line;
    *line.mutable_summary() = Total();
    std::string summary = ToPrettyJson(line.summary());
    summary.pop_back();
    out_ += "\n],\n\"summary\":" + summary + "}\n";
  }
  Flush();
}

// The flows from `begin` on, each below the one whose span is its parent.
void FlowPrinter::PrintTree(std::size_t begin) {
  std::vector<SpanKey> keys;
  for (std::size_t i = begin; i < kept_.size(); ++i) {
    const v1::Flow& flow = kept_[i].first;
    keys.push_back(
        {.id = flow.span_id(), .parent = flow.parent_span_id(), .start = ToWallTime(flow.time())});
  }
  for (const SpanPlace& place : ArrangeTree(keys)) {
    if (!options_.count || printed_ < *options_.count) {
      const auto& [flow, json] = kept_[begin + place.index];
      Print(flow, json, place.lead);
    }
  }
}

v1::FlowSummary FlowPrinter::Total() const {
  v1::FlowSummary total;
  std::vector<std::string> nodes;
  const auto key = [](const auto& time) { return std::pair(time.seconds(), time.nanos()); };
  for (const v1::FlowSummary& one : summaries_) {
    total.set_seen(total.seen() + one.seen());
    total.set_matched(total.matched() + one.matched());
    total.set_lost(total.lost() + one.lost());
    total.set_skipped(total.skipped() + one.skipped());
    if (!one.node().empty()) {
      nodes.push_back(one.node());
    }
    if (HasWindow(one)) {
      if (!HasWindow(total) || key(one.window_start()) < key(total.window_start())) {
        *total.mutable_window_start() = one.window_start();
      }
      if (!total.has_window_end() || key(total.window_end()) < key(one.window_end())) {
        *total.mutable_window_end() = one.window_end();
      }
    }
    if (one.nearest_matches() > total.nearest_matches()) {
      total.set_nearest_matches(one.nearest_matches());
      total.set_nearest_dropped_term(one.nearest_dropped_term());
    }
  }
  total.set_node(Join(nodes, ","));
  return total;
}

std::string FlowPrinter::WindowText(const v1::FlowSummary& total) const {
  if (!HasWindow(total)) {
    return "-";
  }
  const TimeFormat format = rows_.time_format;
  const auto now = base::SystemClock().WallNow();
  std::string start = FormatTime(ToWallTime(total.window_start()), format, now);
  std::string end = FormatTime(ToWallTime(total.window_end()), format, now);
  if (format == TimeFormat::kLocal || format == TimeFormat::kUtc) {
    start.resize(start.rfind('.'));
    end.resize(end.rfind('.'));
  }
  return start + "-" + end;
}

std::string FlowPrinter::SummaryText() const {
  const v1::FlowSummary total = Total();
  std::string text;
  if (printed_ == 0 && !options_.follow) {
    text = "no flow matched; " + FormatCount(total.seen()) + " seen";
    if (HasWindow(total)) {
      text += " in " + FormatAge(ToWallTime(total.window_end()) - ToWallTime(total.window_start()));
    }
    if (total.nearest_matches() != 0) {
      text += "; the nearest filter that matches drops \"" +
              Printable(total.nearest_dropped_term()) + "\" (" +
              FormatCount(total.nearest_matches()) + " match)";
    }
    text += "\n";
  }
  text += "seen " + FormatCount(total.seen()) + " matched " + FormatCount(total.matched()) +
          " lost " + FormatCount(total.lost());
  if (total.skipped() != 0) {
    text += " skipped " + FormatCount(total.skipped());
  }
  return text + " window " + WindowText(total) + " node " + total.node() + "\n";
}

}  // namespace weir::cli
