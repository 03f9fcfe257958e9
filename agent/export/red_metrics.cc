#include "agent/export/red_metrics.h"

#include <algorithm>

#include "agent/observe/error_type.h"

namespace weir::telemetry {
namespace {

using observe::Flow;
using observe::MetricFamily;
using observe::MetricSample;
using observe::MetricType;
using Labels = std::vector<std::pair<std::string, std::string>>;

// Of a database or of gRPC: their errors show in no status of HTTP.
constexpr unsigned kProtocolError = 6;

// 0 for none, 1 for 1xx, ..., 5 for 5xx, or kProtocolError.
unsigned CodeClass(const Flow& flow) {
  const bool is_grpc = flow.http && flow.http->is_grpc && flow.http->grpc_status >= 0;
  if ((flow.database != nullptr && flow.database->is_error) ||
      (is_grpc && !observe::ErrorType(flow, /*is_client=*/false).empty())) {
    return kProtocolError;
  }
  const unsigned status = flow.http ? flow.http->status : 0U;
  return status >= 100 && status < 600 ? status / 100 : 0;
}

std::string CodeText(unsigned code_class) {
  if (code_class == kProtocolError) {
    return "error";
  }
  return code_class == 0 ? "none" : std::to_string(code_class) + "xx";
}

// Direction, source and destination; the NUL keeps names apart.
void StartKey(const Flow& flow, std::string& key) {
  key = static_cast<char>(flow.direction);
  AppendPartyName(flow.source, kOutside, key);
  key += '\0';
  AppendPartyName(flow.destination, kOutside, key);
  key += '\0';
}

void AppendFacts(const Flow& flow, std::string& key) {
  key += static_cast<char>(flow.protocol);
  key += static_cast<char>(flow.verdict);
  key += static_cast<char>(flow.reason);
  key += static_cast<char>(flow.mtls);
  key += static_cast<char>(CodeClass(flow));
}

Labels PairLabels(const Flow& flow) {
  std::string source;
  AppendPartyName(flow.source, kOutside, source);
  std::string destination;
  AppendPartyName(flow.destination, kOutside, destination);
  return {{"direction", std::string(ToString(flow.direction))},
          {"source", std::move(source)},
          {"destination", std::move(destination)}};
}

Labels ConnectionLabels(const Flow& flow) {
  Labels labels = PairLabels(flow);
  labels.emplace_back("protocol", ToString(flow.protocol));
  labels.emplace_back("verdict", ToString(flow.verdict));
  labels.emplace_back("reason", ToString(flow.reason));
  labels.emplace_back("mtls", ToString(flow.mtls));
  return labels;
}

Labels RequestLabels(const Flow& flow) {
  Labels labels = ConnectionLabels(flow);
  labels.emplace_back("code", CodeText(CodeClass(flow)));
  return labels;
}

template <typename Table>
MetricFamily ToFamily(std::string name, std::string help, const Table& table,
                      const auto& value_of) {
  MetricFamily family{std::move(name), std::move(help), MetricType::kCounter, {}};
  family.samples.reserve(table.size());
  for (const auto& [key, entry] : table) {
    family.samples.push_back(
        {.labels = entry.labels, .value = static_cast<double>(value_of(entry))});
  }
  return family;
}

double Seconds(auto duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

template <typename T, typename MakeLabels>
T& RedMetrics::Entry(Table<T>& table, std::size_t limit, const Flow& flow,
                     const MakeLabels& make_labels) {
  const auto found = table.find(key_);
  if (found != table.end()) {
    return found->second;
  }
  Labels labels = make_labels(flow);
  if (table.size() >= limit) {
    ++overflow_;
    key_.resize(1);  // the direction alone
    for (auto& [name, value] : labels) {
      if (name != "direction") {
        value = kOther;
      }
    }
  }
  T& entry = table[key_];
  entry.labels = std::move(labels);
  return entry;
}

void RedMetrics::Consume(const std::vector<observe::Record>& records) noexcept {
  const std::lock_guard lock(mutex_);
  for (const observe::Record& record : records) {
    AddCount(record.flow);
    AddWait(record.flow);
    if (record.flow.is_request) {
      AddDuration(record.flow);
      ++parents_[static_cast<std::size_t>(record.flow.direction)]
                [static_cast<std::size_t>(record.flow.parent_source)];
    }
  }
}

void RedMetrics::AddCount(const Flow& flow) {
  StartKey(flow, key_);
  AppendFacts(flow, key_);
  Counter& counter = flow.is_request ? Entry(requests_, max_series_, flow, RequestLabels)
                                     : Entry(connections_, max_series_, flow, ConnectionLabels);
  ++counter.count;
  counter.sent_bytes += flow.bytes_sent;
  counter.received_bytes += flow.bytes_received;
}

void RedMetrics::AddDuration(const Flow& flow) {
  StartKey(flow, key_);
  Duration& duration = Entry(durations_, max_series_ / 8, flow, PairLabels);
  const double seconds = Seconds(flow.timing.total);
  const auto bound = std::ranges::lower_bound(kBounds, seconds);
  Bucket& bucket = duration.buckets[static_cast<std::size_t>(bound - kBounds.begin())];
  ++bucket.count;
  if (flow.sampled) {
    bucket.trace_id = flow.trace_id;
    bucket.span_id = flow.span_id;
    bucket.duration = flow.timing.total;
    bucket.end = flow.timing.start + flow.timing.total;
  }
  duration.sum += flow.timing.total;
}

void RedMetrics::AddWait(const Flow& flow) {
  const bool is_http = flow.is_request || flow.http;
  if (flow.direction != observe::Direction::kOutbound || flow.mtls != observe::MtlsState::kTunnel ||
      (is_http && !flow.is_request)) {
    return;
  }
  // Later requests of a connection find the stream that the first one waited for.
  const bool waited = !is_http || flow.http->request_index == 0;
  const base::Nanoseconds wait =
      waited ? std::max(flow.timing.tunnel_wait, base::Nanoseconds(0)) : base::Nanoseconds(0);
  const auto bound = std::ranges::lower_bound(kWaitBounds, Seconds(wait));
  ++waits_.counts[static_cast<std::size_t>(bound - kWaitBounds.begin())];
  waits_.sum += wait;
}

void RedMetrics::AppendWaits(std::vector<MetricFamily>& families) const {
  MetricFamily family{"weir_tunnel_wait_seconds",
                      "Time that calls to other nodes waited for a tunnel.",
                      MetricType::kHistogram,
                      {}};
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < waits_.counts.size(); ++i) {
    count += waits_.counts[i];
    family.samples.push_back(
        {.labels = {{"le", i < kWaitBounds.size() ? observe::BoundText(kWaitBounds[i]) : "+Inf"}},
         .value = static_cast<double>(count),
         .suffix = "_bucket"});
  }
  family.samples.push_back({.labels = {}, .value = static_cast<double>(count), .suffix = "_count"});
  family.samples.push_back({.labels = {}, .value = Seconds(waits_.sum), .suffix = "_sum"});
  families.push_back(std::move(family));
}

void RedMetrics::AppendParents(std::vector<MetricFamily>& families) const {
  MetricFamily family{"weir_request_parents",
                      "Requests that have ended, by what told the parent of their span.",
                      MetricType::kCounter,
                      {}};
  for (std::size_t direction = 0; direction < parents_.size(); ++direction) {
    for (std::size_t source = 0; source < kParentSources; ++source) {
      family.samples.push_back(
          {.labels = {{"direction",
                       std::string(ToString(static_cast<observe::Direction>(direction)))},
                      {"parent",
                       std::string(ToString(static_cast<observe::ParentSource>(source)))}},
           .value = static_cast<double>(parents_[direction][source])});
    }
  }
  families.push_back(std::move(family));
}

void RedMetrics::AppendBuckets(const Duration& duration, MetricFamily& family) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < duration.buckets.size(); ++i) {
    const Bucket& bucket = duration.buckets[i];
    count += bucket.count;
    Labels labels = duration.labels;
    labels.emplace_back("le", i < kBounds.size() ? observe::BoundText(kBounds[i]) : "+Inf");
    MetricSample sample{
        .labels = std::move(labels), .value = static_cast<double>(count), .suffix = "_bucket"};
    if (bucket.trace_id != observe::TraceId{}) {
      sample.exemplar = observe::Exemplar{.labels = {{"trace_id", observe::ToHex(bucket.trace_id)},
                                                     {"span_id", observe::ToHex(bucket.span_id)}},
                                          .value = Seconds(bucket.duration),
                                          .time = Seconds(bucket.end.time_since_epoch())};
    }
    family.samples.push_back(std::move(sample));
  }
  family.samples.push_back(
      {.labels = duration.labels, .value = static_cast<double>(count), .suffix = "_count"});
  family.samples.push_back(
      {.labels = duration.labels, .value = Seconds(duration.sum), .suffix = "_sum"});
}

void RedMetrics::AppendDurations(std::vector<MetricFamily>& families) const {
  MetricFamily family{"weir_request_duration_seconds",
                      "Time from a request's first byte to its response's last.",
                      MetricType::kHistogram,
                      {}};
  for (const auto& [key, duration] : durations_) {
    AppendBuckets(duration, family);
  }
  families.push_back(std::move(family));
}

std::vector<MetricFamily> RedMetrics::Collect() const {
  const std::lock_guard lock(mutex_);
  std::vector<MetricFamily> families;
  families.push_back(ToFamily("weir_requests",
                              "Requests of HTTP and commands of databases that have ended.",
                              requests_, [](const Counter& counter) { return counter.count; }));
  AppendParents(families);
  AppendDurations(families);
  AppendWaits(families);
  families.push_back(ToFamily("weir_connections", "Connections that have ended.", connections_,
                              [](const Counter& counter) { return counter.count; }));
  families.push_back(ToFamily("weir_connection_sent_bytes",
                              "Bytes of ended connections towards the destination.", connections_,
                              [](const Counter& counter) { return counter.sent_bytes; }));
  families.push_back(ToFamily("weir_connection_received_bytes",
                              "Bytes of ended connections from the destination.", connections_,
                              [](const Counter& counter) { return counter.received_bytes; }));
  families.push_back({"weir_metrics_overflow",
                      "Flows counted under \"other\", as there were too many label sets.",
                      MetricType::kCounter,
                      {{.labels = {}, .value = static_cast<double>(overflow_)}}});
  return families;
}

}  // namespace weir::telemetry
