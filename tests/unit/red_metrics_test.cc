#include "agent/export/red_metrics.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/support/records.h"

namespace weir::telemetry {
namespace {

using observe::MetricFamily;
using observe::Record;
using test::MakeRequest;

// Samples of the family `name` in their OpenMetrics form, without the family's name.
std::map<std::string, double> Samples(const RedMetrics& metrics, const std::string& name) {
  std::map<std::string, double> samples;
  for (const MetricFamily& family : metrics.Collect()) {
    if (family.name != name) {
      continue;
    }
    for (const auto& sample : family.samples) {
      std::string text = sample.suffix;
      for (const auto& [label, value] : sample.labels) {
        text += " " + label + "=" + value;
      }
      EXPECT_TRUE(samples.emplace(text, sample.value).second) << text << " is there twice";
    }
  }
  return samples;
}

TEST(RedMetricsTest, CountsRequestsByTheirFacts) {
  RedMetrics metrics;
  Record failed = MakeRequest(/*is_client=*/true);
  failed.flow.http->status = 0;
  failed.flow.verdict = observe::Verdict::kError;
  failed.flow.reason = observe::Reason::kUpstreamRefused;
  metrics.Consume({MakeRequest(/*is_client=*/true), MakeRequest(/*is_client=*/true), failed});
  const std::map<std::string, double> expected = {
      {" direction=out source=crm/front destination=crm/back protocol=http1 verdict=allow "
       "reason=none mtls=mtls code=2xx",
       2},
      {" direction=out source=crm/front destination=crm/back protocol=http1 verdict=error "
       "reason=upstream-refused mtls=mtls code=none",
       1}};
  EXPECT_EQ(Samples(metrics, "weir_requests"), expected);
  EXPECT_TRUE(Samples(metrics, "weir_connections").empty());
}

TEST(RedMetricsTest, CountsErrorsOfGrpcThoughHttpSaysOk) {
  const auto code_of = [](std::int16_t grpc_status, std::uint16_t status = 200) {
    RedMetrics metrics;
    Record record = MakeRequest(/*is_client=*/true);
    record.flow.protocol = observe::Protocol::kGrpc;
    record.flow.http->status = status;
    record.flow.http->is_grpc = true;
    record.flow.http->grpc_status = grpc_status;
    metrics.Consume({record});
    const std::string labels = Samples(metrics, "weir_requests").begin()->first;
    return labels.substr(labels.rfind('=') + 1);
  };
  EXPECT_EQ(code_of(14), "error");     // UNAVAILABLE
  EXPECT_EQ(code_of(0), "2xx");        // OK
  EXPECT_EQ(code_of(5), "2xx");        // NOT_FOUND: the caller's
  EXPECT_EQ(code_of(-1, 503), "5xx");  // none was seen
}

TEST(RedMetricsTest, CountsConnectionsAndTheirBytes) {
  RedMetrics metrics;
  Record record = MakeRequest(/*is_client=*/false);
  record.flow.is_request = false;
  record.flow.protocol = observe::Protocol::kOpaque;
  record.flow.source.workload.reset();
  record.flow.bytes_sent = 10;
  record.flow.bytes_received = 20;
  metrics.Consume({record, record});
  const std::string labels =
      " direction=in source=outside destination=crm/back protocol=opaque verdict=allow "
      "reason=none mtls=mtls";
  EXPECT_EQ(Samples(metrics, "weir_connections").at(labels), 2);
  EXPECT_EQ(Samples(metrics, "weir_connection_sent_bytes").at(labels), 20);
  EXPECT_EQ(Samples(metrics, "weir_connection_received_bytes").at(labels), 40);
  EXPECT_TRUE(Samples(metrics, "weir_request_duration_seconds").empty());
}

TEST(RedMetricsTest, PutsDurationsIntoCumulativeBuckets) {
  RedMetrics metrics;
  for (const int milliseconds : {1, 3, 700, 60'000}) {
    Record record = MakeRequest(/*is_client=*/true);
    record.flow.timing.total = std::chrono::milliseconds(milliseconds);
    metrics.Consume({record});
  }
  const auto samples = Samples(metrics, "weir_request_duration_seconds");
  const std::string pair = " direction=out source=crm/front destination=crm/back";
  EXPECT_EQ(samples.at("_bucket" + pair + " le=0.001"), 1);  // a bound belongs to its bucket
  EXPECT_EQ(samples.at("_bucket" + pair + " le=0.005"), 2);
  EXPECT_EQ(samples.at("_bucket" + pair + " le=0.5"), 2);
  EXPECT_EQ(samples.at("_bucket" + pair + " le=1.0"), 3);
  EXPECT_EQ(samples.at("_bucket" + pair + " le=+Inf"), 4);
  EXPECT_EQ(samples.at("_count" + pair), 4);
  EXPECT_DOUBLE_EQ(samples.at("_sum" + pair), 60.704);
}

TEST(RedMetricsTest, ShowsTheNewestSampledRequestOfABucketAsItsExemplar) {
  RedMetrics metrics;
  Record first = MakeRequest(/*is_client=*/true, /*trace=*/1);
  Record second = MakeRequest(/*is_client=*/true, /*trace=*/2, /*span=*/3);
  Record unsampled = MakeRequest(/*is_client=*/true, /*trace=*/4);
  first.flow.sampled = second.flow.sampled = true;
  Record slow = unsampled;
  slow.flow.timing.total = std::chrono::seconds(2);
  metrics.Consume({first, second, unsampled, slow});
  std::size_t exemplars = 0;
  for (const MetricFamily& family : metrics.Collect()) {
    for (const auto& sample : family.samples) {
      if (!sample.exemplar) {
        continue;
      }
      ++exemplars;
      EXPECT_EQ(sample.labels.back(), std::pair(std::string("le"), std::string("0.005")));
      EXPECT_EQ(sample.exemplar->labels[0].second, "00000000000000000000000000000002");
      EXPECT_EQ(sample.exemplar->labels[1].second, "0000000000000003");
      EXPECT_DOUBLE_EQ(sample.exemplar->value, 0.003);
      EXPECT_DOUBLE_EQ(sample.exemplar->time, 1'800'000'000.003);
    }
  }
  EXPECT_EQ(exemplars, 1U);
}

TEST(RedMetricsTest, CountsRequestsByWhatToldTheirParent) {
  RedMetrics metrics;
  Record called = MakeRequest(/*is_client=*/true);
  called.flow.parent_source = observe::ParentSource::kSole;
  Record connection = called;
  connection.flow.is_request = false;
  metrics.Consume({called, called, connection, MakeRequest(/*is_client=*/false)});
  const auto samples = Samples(metrics, "weir_request_parents");
  EXPECT_EQ(samples.size(), 10U);
  EXPECT_EQ(samples.at(" direction=out parent=sole"), 2);
  EXPECT_EQ(samples.at(" direction=in parent=none"), 1);
  EXPECT_EQ(samples.at(" direction=out parent=none"), 0);
}

TEST(RedMetricsTest, MakesTwelveSeriesForAPairWhoseRequestsEndAlike) {
  const auto count = [](int pairs) {
    RedMetrics metrics;
    for (int i = 0; i < pairs; ++i) {
      Record record = MakeRequest(/*is_client=*/true);
      record.flow.destination.workload = test::MakeWorkload("back-" + std::to_string(i));
      metrics.Consume({record, record});
    }
    std::size_t series = 0;
    for (const MetricFamily& family : metrics.Collect()) {
      series += family.samples.size();
    }
    return series;
  };
  EXPECT_LT(count(0), 20U);
  EXPECT_EQ(count(50) - count(0), 50U * 12);
}

TEST(RedMetricsTest, CountsHowLongCallsWaitedForATunnel) {
  RedMetrics metrics;
  Record first = MakeRequest(/*is_client=*/true);
  first.flow.timing.tunnel_wait = std::chrono::milliseconds(20);
  Record second = first;  // on the same connection: it found the stream there
  second.flow.http->request_index = 1;
  Record opaque = first;
  opaque.flow.is_request = false;
  opaque.flow.http.reset();
  Record whole = first;  // the HTTP connection itself is in its requests
  whole.flow.is_request = false;
  Record local = first;
  local.flow.mtls = observe::MtlsState::kLocal;
  metrics.Consume({first, second, opaque, whole, local, MakeRequest(/*is_client=*/false)});
  const auto samples = Samples(metrics, "weir_tunnel_wait_seconds");
  EXPECT_EQ(samples.at("_bucket le=0.001"), 1);
  EXPECT_EQ(samples.at("_bucket le=0.005"), 1);
  EXPECT_EQ(samples.at("_bucket le=0.05"), 3);
  EXPECT_EQ(samples.at("_bucket le=+Inf"), 3);
  EXPECT_EQ(samples.at("_count"), 3);
  EXPECT_DOUBLE_EQ(samples.at("_sum"), 0.04);
}

TEST(RedMetricsTest, CountsUnderOtherBeyondTheLimitOfSeries) {
  RedMetrics metrics(/*max_series=*/8);
  for (int i = 0; i < 20; ++i) {
    Record record = MakeRequest(/*is_client=*/true);
    record.flow.destination.workload = test::MakeWorkload("back-" + std::to_string(i));
    metrics.Consume({record, record});
  }
  const auto samples = Samples(metrics, "weir_requests");
  EXPECT_EQ(samples.size(), 9U);
  EXPECT_EQ(samples.at(" direction=out source=other destination=other protocol=other "
                       "verdict=other reason=other mtls=other code=other"),
            24);
  EXPECT_EQ(Samples(metrics, "weir_request_duration_seconds")
                .at("_count direction=out source=other destination=other"),
            38);
  EXPECT_EQ(Samples(metrics, "weir_metrics_overflow").at(""), 24 + 38);
}

}  // namespace
}  // namespace weir::telemetry
