#include "agent/export/otlp_exporter.h"

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

void AppendExporter(const OtlpStatus& status, std::vector<MetricFamily>& families) {
  families.push_back(Single("weir_otlp_offered_spans", "Spans that were to be exported.",
                            MetricType::kCounter, status.offered));
  families.push_back(Single("weir_otlp_exported_spans", "Spans that the collector accepted.",
                            MetricType::kCounter, status.exported));
  MetricFamily dropped{
      "weir_otlp_dropped_spans", "Spans that were not exported.", MetricType::kCounter, {}};
  for (std::size_t i = 0; i < kOtlpDropCount; ++i) {
    dropped.samples.push_back(
        {.labels = {{"reason", std::string(ToString(static_cast<OtlpDrop>(i)))}},
         .value = Number(status.dropped[i])});
  }
  families.push_back(std::move(dropped));
  families.push_back(Single("weir_otlp_queued_spans", "Spans that wait for the collector.",
                            MetricType::kGauge, status.queued));
  families.push_back(Single("weir_otlp_queue_bytes", "Bytes that wait for the collector.",
                            MetricType::kGauge, status.queue_bytes));
  families.push_back({"weir_otlp_requests",
                      "Attempts to export, by how they ended.",
                      MetricType::kCounter,
                      {{.labels = {{"result", "accepted"}}, .value = Number(status.requests)},
                       {.labels = {{"result", "failed"}}, .value = Number(status.failures)}}});
  families.push_back(Single("weir_otlp_retries", "Attempts after the first of a request.",
                            MetricType::kCounter, status.retries));
  families.push_back(Single("weir_otlp_accepting", "1 if the collector took the last request.",
                            MetricType::kGauge, status.is_accepting ? 1 : 0));
}

}  // namespace

SpanTotals TotalSpans(const OtlpExporter& exporter, const Pipeline& pipeline) {
  // The far end first: what it counts has been generated before, so `queued` cannot wrap.
  const OtlpStatus status = exporter.status();
  const PipelineTally spans = pipeline.counters().spans;
  SpanTotals totals{.generated = spans.generated,
                    .exported = status.exported,
                    .kept = status.kept,
                    .dropped = spans.dropped + status.dropped_total()};
  totals.queued = totals.generated - totals.exported - totals.kept - totals.dropped;
  return totals;
}

std::vector<MetricFamily> TelemetryMetrics(const OtlpExporter& exporter, const Pipeline& pipeline) {
  const OtlpStatus status = exporter.status();
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
  AppendExporter(status, families);
  return families;
}

}  // namespace weir::telemetry
