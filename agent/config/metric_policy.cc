// MeshMetric, in the forms of 2.x and 3.0.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "agent/config/document_readers.h"
#include "agent/config/documents.h"
#include "agent/config/fields.h"
#include "agent/config/target.h"
#include "agent/model/metric_filter.h"

namespace weir::config {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMaxBackends = 8;
constexpr std::size_t kMaxPathBytes = 256;
constexpr milliseconds kDefaultInterval = std::chrono::minutes(1);
constexpr milliseconds kLeastInterval = std::chrono::seconds(1);
constexpr milliseconds kMostInterval = std::chrono::hours(1);

std::vector<model::MetricSelector> ReadSelectors(Fields& profiles, std::string_view name) {
  std::vector<model::MetricSelector> selectors;
  profiles.ForEach(name, [&](const Node& item) {
    Fields fields(item, "a selector", profiles.reader());
    model::MetricSelector selector;
    if (const Node* type = fields.Require("type")) {
      const auto choice =
          ReadChoice(*type, "type", {"Prefix", "Regex", "Exact", "Contains"}, profiles.reader());
      selector.type = static_cast<model::MetricSelector::Type>(choice.value_or(0));
    }
    (void)fields.Require("match");  // its absence is reported here
    selector.match = fields.String("match").value_or("");
    if (selector.match.size() > model::kMaxMetricMatchBytes) {
      fields.ErrorAt("match",
                     "must have at most " + std::to_string(model::kMaxMetricMatchBytes) + " bytes");
    } else if (auto made = model::MetricFilter::Make({.include = {selector}}); !made) {
      fields.ErrorAt("match", made.error().message());
    }
    fields.Finish();
    selectors.push_back(std::move(selector));
  });
  if (selectors.size() > model::kMaxMetricSelectors) {
    profiles.ErrorAt(name, "at most " + std::to_string(model::kMaxMetricSelectors) + " selectors");
  }
  return selectors;
}

void ReadSidecar(Fields& body, MetricConfiguration& metrics) {
  const Node* node = body.Take("sidecar");
  if (node == nullptr) {
    return;
  }
  Fields sidecar(*node, "sidecar", body.reader());
  sidecar.NotActedOn({"includeUnused", "regex", "usedOnly"},
                     "weir has a series only for what was used; \"profiles\" select");
  if (const Node* inner = sidecar.Take("profiles")) {
    Fields profiles(*inner, "profiles", body.reader());
    model::MetricSelection selection;
    profiles.ForEach("appendProfiles", [&](const Node& item) {
      Fields profile(item, "a profile", body.reader());
      if (const Node* name = profile.Require("name")) {
        const auto choice = ReadChoice(*name, "name", {"All", "Basic", "None"}, body.reader());
        selection.profiles.push_back(static_cast<model::MetricProfile>(choice.value_or(0)));
      }
      profile.Finish();
    });
    selection.include = ReadSelectors(profiles, "include");
    selection.exclude = ReadSelectors(profiles, "exclude");
    profiles.Finish();
    if (auto filter = model::MetricFilter::Make(std::move(selection))) {  // else it was reported
      metrics.filter = std::move(*filter);
    }
  }
  sidecar.Finish();
}

// Whether the metrics may go out without TLS, which is all that weir does.
bool IsPlain(Fields& prometheus) {
  const Node* node = prometheus.Take("tls");
  if (node == nullptr) {
    return true;
  }
  Fields tls(*node, "tls", prometheus.reader());
  std::optional<std::size_t> choice = 0;
  if (const Node* mode = tls.Take("mode")) {
    choice = ReadChoice(*mode, "mode", {"Disabled", "ProvidedTLS", "ActiveMTLSBackend"},
                        prometheus.reader());
    if (choice.value_or(0) != 0) {
      prometheus.reader().Warn(*mode, "weir serves metrics without TLS only: with \"" +
                                          mode->scalar + "\" this backend is not served");
    }
  }
  tls.Finish();
  return choice == std::size_t{0};
}

void ReadPrometheus(Fields& backend, MetricConfiguration& metrics) {
  PrometheusBackend result;
  const Node* node = backend.Take("prometheus");
  if (node == nullptr) {
    metrics.prometheus.push_back(std::move(result));
    return;
  }
  Fields fields(*node, "prometheus", backend.reader());
  result.port = static_cast<std::uint16_t>(
      fields.Unsigned("port", {.least = 1, .most = 65535}).value_or(result.port));
  result.path = fields.String("path").value_or(result.path);
  const bool is_path = std::ranges::all_of(
      result.path, [](char c) { return c > ' ' && c < 0x7f && c != '?' && c != '#'; });
  if (!result.path.starts_with('/') || !is_path || result.path.size() > kMaxPathBytes) {
    fields.ErrorAt("path", "must begin with '/' and have neither '?', '#' nor spaces");
  }
  fields.NotActedOn({"clientId"}, "whoever can connect is answered");
  const bool is_plain = IsPlain(fields);
  fields.Finish();
  if (is_plain) {
    metrics.prometheus.push_back(std::move(result));
  }
}

void ReadOtlp(Fields& backend, MetricConfiguration& metrics) {
  const Node* node = backend.Require("openTelemetry");
  if (node == nullptr) {
    return;
  }
  Fields fields(*node, "openTelemetry", backend.reader());
  OtlpMetrics result{.target = ReadOtlpTarget(fields), .interval = kDefaultInterval};
  result.interval =
      fields.Duration("refreshInterval", kLeastInterval, kMostInterval).value_or(result.interval);
  fields.Finish();
  metrics.otlp.push_back(std::move(result));
}

}  // namespace

void ReadMeshMetric(Fields& body, const Envelope& envelope, DocumentSet& set) {
  PolicyDocument policy{.envelope = envelope, .target = ReadTargetRef(body), .configuration = {}};
  if (!policy.target.section_name.empty()) {
    body.reader().Warn(body.map(),
                       "\"sectionName\" has no meaning in MeshMetric: the policy is for the whole "
                       "workload");
  }
  if (body.Require("default") == nullptr) {
    return;
  }
  const auto found = std::ranges::find(body.map().entries, "default", &MapEntry::key);
  (void)ReadMetricConfiguration(*found->value, body.reader());  // reports what is wrong
  policy.configuration = found->value;
  set.metric_policies.push_back(std::move(policy));
}

MetricConfiguration ReadMetricConfiguration(const Node& node, const Reader& reader) {
  MetricConfiguration metrics;
  Fields fields(node, "default", reader);
  ReadSidecar(fields, metrics);
  fields.NotActedOn({"applications"}, "weir does not collect the metrics of applications");
  fields.ForEach("backends", [&](const Node& item) {
    Fields backend(item, "a backend", reader);
    const Node* type = backend.Require("type");
    const auto choice = type == nullptr
                            ? std::nullopt
                            : ReadChoice(*type, "type", {"Prometheus", "OpenTelemetry"}, reader);
    if (choice == std::size_t{0}) {
      ReadPrometheus(backend, metrics);
    } else if (choice) {
      ReadOtlp(backend, metrics);
    }
    backend.Finish();
  });
  if (metrics.prometheus.size() + metrics.otlp.size() > kMaxBackends) {
    fields.ErrorAt("backends", "at most " + std::to_string(kMaxBackends) + " backends");
  }
  fields.Finish();
  return metrics;
}

}  // namespace weir::config
