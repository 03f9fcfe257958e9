#include "agent/export/metrics_encoder.h"

#include <otlp/metrics.pb.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <system_error>

#include "agent/export/otlp_fields.h"
#include "agent/export/wire.h"

namespace weir::telemetry {
namespace {

namespace otlp = opentelemetry::proto::metrics::v1;
using observe::MetricFamily;
using observe::MetricSample;
using observe::MetricType;
using otlp::HistogramDataPoint;
using otlp::Metric;
using otlp::NumberDataPoint;
using otlp::ScopeMetrics;

std::uint64_t UnixNanoseconds(base::WallTime time) {
  return static_cast<std::uint64_t>(time.time_since_epoch().count());
}

std::string_view UnitOf(std::string_view name) {
  return name.ends_with("_seconds") ? "s" : name.ends_with("_bytes") ? "By" : "";
}

// The bytes of a hexadecimal id; empty when it is none of `size` bytes.
std::string FromHex(std::string_view text, std::size_t size) {
  std::string bytes;
  for (std::size_t i = 0; text.size() == 2 * size && i < text.size(); i += 2) {
    std::uint8_t byte = 0;
    if (std::from_chars(text.data() + i, text.data() + i + 2, byte, 16).ptr !=
        text.data() + i + 2) {
      return {};
    }
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

void AppendExemplar(const observe::Exemplar& exemplar, std::string& out) {
  std::string message;
  wire::AppendFixed(otlp::Exemplar::kTimeUnixNanoFieldNumber,
                    static_cast<std::uint64_t>(exemplar.time * 1e9), message);
  wire::AppendFixed(otlp::Exemplar::kAsDoubleFieldNumber, exemplar.value, message);
  for (const auto& [name, value] : exemplar.labels) {
    if (name == "trace_id") {
      wire::AppendBytes(otlp::Exemplar::kTraceIdFieldNumber, FromHex(value, 16), message);
    } else if (name == "span_id") {
      wire::AppendBytes(otlp::Exemplar::kSpanIdFieldNumber, FromHex(value, 8), message);
    }
  }
  wire::AppendBytes(HistogramDataPoint::kExemplarsFieldNumber, message, out);
}

// Encodes the families of one collection.
class Encoder {
 public:
  Encoder(base::WallTime start, base::WallTime now)
      : start_(UnixNanoseconds(start)), now_(UnixNanoseconds(now)) {}

  void Append(const MetricFamily& family, std::string& out) {
    std::string message;
    wire::AppendBytes(Metric::kNameFieldNumber, family.name, message);
    wire::AppendBytes(Metric::kDescriptionFieldNumber, family.help, message);
    if (const std::string_view unit = UnitOf(family.name); !unit.empty()) {
      wire::AppendBytes(Metric::kUnitFieldNumber, unit, message);
    }
    std::string data;
    switch (family.type) {
      case MetricType::kGauge:
        AppendNumbers(family, data);
        wire::AppendBytes(Metric::kGaugeFieldNumber, data, message);
        break;
      case MetricType::kCounter:
        AppendNumbers(family, data);
        wire::AppendUnsigned(otlp::Sum::kAggregationTemporalityFieldNumber,
                             otlp::AGGREGATION_TEMPORALITY_CUMULATIVE, data);
        wire::AppendUnsigned(otlp::Sum::kIsMonotonicFieldNumber, 1, data);
        wire::AppendBytes(Metric::kSumFieldNumber, data, message);
        break;
      case MetricType::kHistogram:
        AppendHistogram(family, data);
        wire::AppendUnsigned(otlp::Histogram::kAggregationTemporalityFieldNumber,
                             otlp::AGGREGATION_TEMPORALITY_CUMULATIVE, data);
        wire::AppendBytes(Metric::kHistogramFieldNumber, data, message);
        break;
    }
    wire::AppendBytes(ScopeMetrics::kMetricsFieldNumber, message, out);
  }

  [[nodiscard]] std::size_t points() const { return points_; }

 private:
  void AppendNumbers(const MetricFamily& family, std::string& out) {
    for (const MetricSample& sample : family.samples) {
      std::string point;
      wire::AppendFixed(NumberDataPoint::kStartTimeUnixNanoFieldNumber, start_, point);
      wire::AppendFixed(NumberDataPoint::kTimeUnixNanoFieldNumber, now_, point);
      wire::AppendFixed(NumberDataPoint::kAsDoubleFieldNumber, sample.value, point);
      for (const auto& [name, value] : sample.labels) {
        AppendTextAttribute(NumberDataPoint::kAttributesFieldNumber, name, value, point);
      }
      wire::AppendBytes(otlp::Sum::kDataPointsFieldNumber, point, out);
      ++points_;
    }
  }

  // A label set's samples come one after the other: its buckets, cumulative and in the order of
  // their bounds, its count and its sum.
  void AppendHistogram(const MetricFamily& family, std::string& out) {
    std::string bounds;
    std::string counts;
    std::string exemplars;
    double below = 0;
    double count = 0;
    for (const MetricSample& sample : family.samples) {
      if (sample.suffix == "_bucket") {
        const std::string& bound = sample.labels.back().second;  // the label "le"
        AppendPacked(static_cast<std::uint64_t>(sample.value - below), counts);
        below = sample.value;
        double number = 0;
        if (bound != "+Inf" &&
            std::from_chars(bound.data(), bound.data() + bound.size(), number).ec == std::errc()) {
          AppendPacked(number, bounds);
        }
        if (sample.exemplar) {
          AppendExemplar(*sample.exemplar, exemplars);
        }
      } else if (sample.suffix == "_count") {
        count = sample.value;
      } else {
        AppendHistogramPoint(sample, {count, sample.value, counts, bounds, exemplars}, out);
        below = 0;
        bounds.clear();
        counts.clear();
        exemplars.clear();
      }
    }
  }

  struct Buckets {
    double count = 0;
    double sum = 0;
    std::string_view counts;     // fixed64, packed
    std::string_view bounds;     // double, packed
    std::string_view exemplars;  // whole fields
  };

  void AppendHistogramPoint(const MetricSample& labels, const Buckets& buckets, std::string& out) {
    std::string point;
    wire::AppendFixed(HistogramDataPoint::kStartTimeUnixNanoFieldNumber, start_, point);
    wire::AppendFixed(HistogramDataPoint::kTimeUnixNanoFieldNumber, now_, point);
    if (buckets.count > 0) {
      wire::AppendFixed(HistogramDataPoint::kCountFieldNumber,
                        static_cast<std::uint64_t>(buckets.count), point);
    }
    wire::AppendFixed(HistogramDataPoint::kSumFieldNumber, buckets.sum, point);
    wire::AppendBytes(HistogramDataPoint::kBucketCountsFieldNumber, buckets.counts, point);
    wire::AppendBytes(HistogramDataPoint::kExplicitBoundsFieldNumber, buckets.bounds, point);
    point += buckets.exemplars;
    for (const auto& [name, value] : labels.labels) {
      AppendTextAttribute(HistogramDataPoint::kAttributesFieldNumber, name, value, point);
    }
    wire::AppendBytes(otlp::Histogram::kDataPointsFieldNumber, point, out);
    ++points_;
  }

  template <typename Number>
  static void AppendPacked(Number value, std::string& out) {
    static_assert(sizeof(Number) == 8);
    std::array<char, sizeof(Number)> bytes;
    std::memcpy(bytes.data(), &value, sizeof(Number));  // little endian, as wire.h demands
    out.append(bytes.data(), bytes.size());
  }

  std::uint64_t start_;
  std::uint64_t now_;
  std::size_t points_ = 0;
};

static_assert(int{otlp::Sum::kDataPointsFieldNumber} == otlp::Gauge::kDataPointsFieldNumber);

}  // namespace

std::size_t AppendMetrics(const std::vector<MetricFamily>& families,
                          const model::MetricFilter& filter, base::WallTime start,
                          base::WallTime now, std::string& out) {
  Encoder encoder(start, now);
  for (const MetricFamily& family : families) {
    if (!family.samples.empty() &&
        filter.Admits(family.name, family.type == MetricType::kCounter)) {
      encoder.Append(family, out);
    }
  }
  return encoder.points();
}

}  // namespace weir::telemetry
