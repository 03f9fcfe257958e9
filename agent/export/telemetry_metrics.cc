#include "agent/export/exporter_set.h"

namespace weir::telemetry {
namespace {

using observe::MetricFamily;
using observe::MetricSample;
using observe::MetricType;

double Number(std::uint64_t value) {
  return static_cast<double>(value);
}

MetricFamily Single(std::string name, std::string help, MetricType type, std::uint64_t value) {
  return {std::move(name), std::move(help), type, {{.labels = {}, .value = Number(value)}}};
}

// One sample for records and one for spans.
MetricFamily ByKind(std::string name, std::string help, std::uint64_t records,
                    std::uint64_t spans) {
  return {std::move(name),
          std::move(help),
          MetricType::kCounter,
          {{.labels = {{"kind", "record"}}, .value = Number(records)},
           {.labels = {{"kind", "span"}}, .value = Number(spans)}}};
}

// The labels of an exporter's samples.
std::vector<std::pair<std::string, std::string>> LabelsOf(const ExporterStatus& exporter) {
  return {{"exporter", exporter.name}, {"signal", std::string(ToString(exporter.signal))}};
}

// One family with a sample for each exporter.
template <typename Value>
MetricFamily PerExporter(const std::vector<ExporterStatus>& exporters, std::string name,
                         std::string help, MetricType type, const Value& value) {
  MetricFamily family{std::move(name), std::move(help), type, {}};
  for (const ExporterStatus& exporter : exporters) {
    family.samples.push_back({.labels = LabelsOf(exporter), .value = Number(value(exporter))});
  }
  return family;
}

// One family with a sample for each exporter and reason of a drop that there was, another for
// each result.
void AppendBroken(const std::vector<ExporterStatus>& exporters,
                  std::vector<MetricFamily>& families) {
  MetricFamily dropped{
      "weir_export_dropped", "Items that were not exported.", MetricType::kCounter, {}};
  MetricFamily requests{
      "weir_export_requests", "Attempts to export, by how they ended.", MetricType::kCounter, {}};
  for (const ExporterStatus& exporter : exporters) {
    for (std::size_t i = 0; i < kExportDropCount; ++i) {
      if (exporter.dropped[i] == 0) {
        continue;
      }
      dropped.samples.push_back(
          {.labels = LabelsOf(exporter), .value = Number(exporter.dropped[i])});
      dropped.samples.back().labels.emplace_back("reason", ToString(static_cast<ExportDrop>(i)));
    }
    for (const auto& [result, count] :
         {std::pair("accepted", exporter.requests), std::pair("failed", exporter.failures)}) {
      requests.samples.push_back({.labels = LabelsOf(exporter), .value = Number(count)});
      requests.samples.back().labels.emplace_back("result", result);
    }
  }
  families.push_back(std::move(dropped));
  families.push_back(std::move(requests));
}

void AppendExporters(const std::vector<ExporterStatus>& exporters,
                     std::vector<MetricFamily>& families) {
  const auto counter = [&](std::string name, std::string help, const auto& value) {
    families.push_back(
        PerExporter(exporters, std::move(name), std::move(help), MetricType::kCounter, value));
  };
  const auto gauge = [&](std::string name, std::string help, const auto& value) {
    families.push_back(
        PerExporter(exporters, std::move(name), std::move(help), MetricType::kGauge, value));
  };
  counter("weir_export_offered", "Spans, log records and points that were to be exported.",
          [](const ExporterStatus& one) { return one.offered; });
  counter("weir_export_exported", "Those that the collector accepted.",
          [](const ExporterStatus& one) { return one.exported; });
  counter("weir_export_retries", "Attempts after the first of a request.",
          [](const ExporterStatus& one) { return one.retries; });
  AppendBroken(exporters, families);
  gauge("weir_export_queued", "Items that wait for the collector.",
        [](const ExporterStatus& one) { return one.queued; });
  gauge("weir_export_queue_bytes", "Bytes that wait for the collector.",
        [](const ExporterStatus& one) { return one.queue_bytes; });
  gauge("weir_export_accepting", "1 if the collector took the last request.",
        [](const ExporterStatus& one) { return std::uint64_t{one.is_accepting}; });
}

}  // namespace

SpanTotals TotalSpans(const ExporterSet& exporters, const Pipeline& pipeline) {
  // The far end first: what it counts has been generated before, so `queued` cannot wrap.
  const ExportStatus status = exporters.status();
  const PipelineTally spans = pipeline.counters().spans;
  SpanTotals totals{.generated = spans.generated,
                    .exported = status.exported(),
                    .kept = status.kept,
                    .dropped = spans.dropped + status.dropped()};
  totals.queued = totals.generated - totals.exported - totals.kept - totals.dropped;
  return totals;
}

std::vector<MetricFamily> PipelineMetrics(const Pipeline& pipeline) {
  const PipelineCounters counters = pipeline.counters();
  std::vector<MetricFamily> families;
  families.push_back(ByKind("weir_telemetry_generated", "Flow records and spans that were made.",
                            counters.records.generated, counters.spans.generated));
  families.push_back(ByKind("weir_telemetry_delivered", "Those that the consumers got.",
                            counters.records.delivered, counters.spans.delivered));
  families.push_back(ByKind("weir_telemetry_dropped",
                            "Those that found the queue of the telemetry thread full.",
                            counters.records.dropped, counters.spans.dropped));
  families.push_back(Single("weir_telemetry_queue_bytes",
                            "Bytes that wait for the telemetry thread.", MetricType::kGauge,
                            counters.queued_bytes));
  return families;
}

std::vector<MetricFamily> ExportMetrics(const std::vector<ExportStatus>& signals) {
  std::vector<ExporterStatus> exporters;
  std::uint64_t kept = 0;
  for (const ExportStatus& status : signals) {
    exporters.insert(exporters.end(), status.exporters.begin(), status.exporters.end());
    if (status.retired.offered != 0) {
      exporters.push_back(status.retired);
      exporters.back().name = "retired";
    }
    kept += status.kept;
  }
  std::vector<MetricFamily> families;
  AppendExporters(exporters, families);
  families.push_back(Single("weir_export_kept_spans",
                            "Spans of workloads without a collector: they stay in memory.",
                            MetricType::kCounter, kept));
  return families;
}

}  // namespace weir::telemetry
