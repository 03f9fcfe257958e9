#include "agent/export/batch_exporter.h"

#include <gtest/gtest.h>
#include <otlp/trace_service.pb.h>

#include <atomic>
#include <thread>

#include "agent/client/gzip.h"
#include "agent/export/exporter_set.h"
#include "tests/support/records.h"
#include "tests/support/scripted_http_server.h"
#include "tests/unit/export_support.h"

namespace weir::telemetry {
namespace {

using observe::Record;
using opentelemetry::proto::collector::trace::v1::ExportTraceServiceRequest;
using opentelemetry::proto::collector::trace::v1::ExportTraceServiceResponse;
using std::chrono::milliseconds;
using test::MakeRequest;
using test::Respond;
using test::ScriptedHttpServer;
using test::ServedReply;
using test::ServedRequest;

ServedReply Partial(std::int64_t rejected, const std::string& message) {
  ExportTraceServiceResponse response;
  response.mutable_partial_success()->set_rejected_spans(rejected);
  response.mutable_partial_success()->set_error_message(message);
  return Respond(200, response.SerializeAsString());
}

class BatchExporterTest : public ExportTest {
 protected:
  void StartServer(ScriptedHttpServer::Script script) {
    server_ = std::make_unique<ScriptedHttpServer>(std::move(script));
  }
  void StartExporter(const ExporterOptions& options = kQuick) {
    ExportTest::StartExporter(CollectorAt(server_->url()), options);
  }

  std::unique_ptr<ScriptedHttpServer> server_;
};

TEST_F(BatchExporterTest, SendsOneResourcePerWorkload) {
  StartServer([](const ServedRequest&) { return Respond(200); });
  StartExporter();
  Record front = MakeRequest(/*is_client=*/true);
  Record back = MakeRequest(/*is_client=*/false);
  Record flow_only = front;
  flow_only.span.reset();
  exporters_->Consume({front, back, front, flow_only});
  const ExporterStatus status = WaitUntilDrained();
  EXPECT_EQ(status.exported, 3U);
  EXPECT_TRUE(status.is_accepting);
  EXPECT_EQ(status.queue_bytes, 0U);
  const ServedRequest request = server_->requests().at(0);
  EXPECT_TRUE(request.head.starts_with("POST /v1/traces HTTP/1.1\r\n")) << request.head;
  EXPECT_EQ(request.Field("content-type"), "application/x-protobuf");
  EXPECT_TRUE(request.Field("user-agent").starts_with("weir-otlp-exporter/"));
  ExportTraceServiceRequest message;
  ASSERT_TRUE(message.ParseFromString(request.body));
  ASSERT_EQ(message.resource_spans_size(), 2);
  EXPECT_EQ(message.resource_spans(0).resource().attributes(0).value().string_value(), "front");
  EXPECT_EQ(message.resource_spans(0).scope_spans(0).spans_size(), 2);
  EXPECT_EQ(message.resource_spans(1).resource().attributes(0).value().string_value(), "back");
}

TEST_F(BatchExporterTest, KeepsTheConnectionBetweenRequests) {
  StartServer([](const ServedRequest&) { return Respond(200); });
  StartExporter();
  for (int i = 0; i < 3; ++i) {
    Offer(1);
    (void)WaitUntilDrained();
  }
  EXPECT_EQ(server_->requests().size(), 3U);
  EXPECT_EQ(server_->connections(), 1);
}

TEST_F(BatchExporterTest, GathersSpansUntilABatchIsFullOrOld) {
  StartServer([](const ServedRequest&) { return Respond(200); });
  ExporterOptions options = kQuick;
  options.batch_age = std::chrono::hours(1);
  options.batch_bytes = 20'000;
  StartExporter(options);
  Offer(1);
  EXPECT_EQ(Status().queued, 1U);
  Offer(60);
  const ExporterStatus status = WaitUntilDrained();
  EXPECT_EQ(status.exported, 61U);
  EXPECT_EQ(status.requests, 1U);
}

TEST_F(BatchExporterTest, CutsRequestsAtTheirLimit) {
  StartServer([](const ServedRequest&) { return Respond(200); });
  ExporterOptions options = kQuick;
  options.batch_bytes = 4'000;
  options.max_request_bytes = 10'000;
  StartExporter(options);
  Offer(200);
  const ExporterStatus status = WaitUntilDrained();
  EXPECT_EQ(status.exported, 200U);
  std::size_t spans = 0;
  for (const ServedRequest& request : server_->requests()) {
    EXPECT_LE(request.body.size(), 10'000U + 512U);
    spans += CountSpans(request.body);
  }
  EXPECT_EQ(spans, 200U);
}

TEST_F(BatchExporterTest, RetriesWhatTheSpecificationSays) {
  for (const int code : {429, 502, 503, 504}) {
    StartServer([code, n = 0](const ServedRequest&) mutable {
      return ++n <= 2 ? Respond(code) : Respond(200);
    });
    StartExporter();
    Offer(5);
    const ExporterStatus status = WaitUntilDrained();
    EXPECT_EQ(status.exported, 5U) << code;
    EXPECT_EQ(status.retries, 2U) << code;
    EXPECT_EQ(status.failures, 2U) << code;
    EXPECT_EQ(server_->requests().at(0).body, server_->requests().at(2).body);
  }
}

TEST_F(BatchExporterTest, DropsWhatTheCollectorRefuses) {
  for (const int code : {301, 400, 401, 413, 500, 501}) {
    StartServer([code](const ServedRequest&) {
      return Respond(code, "no\x01such", "Content-Type: text/plain\r\n");
    });
    StartExporter();
    Offer(5);
    const ExporterStatus status = WaitUntilDrained();
    EXPECT_EQ(Dropped(status, ExportDrop::kRefused), 5U) << code;
    EXPECT_EQ(status.exported, 0U) << code;
    EXPECT_EQ(server_->requests().size(), 1U) << code;
    EXPECT_TRUE(status.is_reachable);
    EXPECT_FALSE(status.is_accepting);
    EXPECT_EQ(status.last_error, "the collector answered " + std::to_string(code) + ": no such");
  }
}

TEST_F(BatchExporterTest, WaitsAsLongAsRetryAfterSays) {
  std::vector<std::chrono::steady_clock::time_point> times;
  StartServer([&times](const ServedRequest&) {
    times.push_back(std::chrono::steady_clock::now());
    return times.size() == 1 ? Respond(503, "", "Retry-After: 1\r\n") : Respond(200);
  });
  StartExporter();
  Offer(5);
  EXPECT_EQ(WaitUntilDrained().exported, 5U);
  EXPECT_GE(times.at(1) - times.at(0), std::chrono::seconds(1));
}

TEST_F(BatchExporterTest, CutsARetryAfterThatIsTooLong) {
  StartServer([n = 0](const ServedRequest&) mutable {
    return ++n == 1 ? Respond(503, "", "Retry-After: 99999999999999999999\r\n") : Respond(200);
  });
  ExporterOptions options = kQuick;
  options.retry_after_limit = milliseconds(20);
  StartExporter(options);
  Offer(5);
  EXPECT_EQ(WaitUntilDrained().exported, 5U);
}

TEST_F(BatchExporterTest, RetriesFailuresOfTheConnection) {
  using Then = ServedReply::Then;
  const std::vector<ServedReply> faults = {
      {.pieces = {}, .then = Then::kReset},
      {.pieces = {}, .then = Then::kClose},
      {.pieces = {"\x16\x03\x01garbage\r\n\r\n"}, .then = Then::kClose},
      {.pieces = {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"}, .then = Then::kClose},
  };
  for (const ServedReply& fault : faults) {
    StartServer(
        [&fault, n = 0](const ServedRequest&) mutable { return ++n == 1 ? fault : Respond(200); });
    StartExporter();
    Offer(5);
    const ExporterStatus status = WaitUntilDrained();
    EXPECT_EQ(status.exported, 5U);
    EXPECT_EQ(status.retries, 1U);
  }
}

TEST_F(BatchExporterTest, RetriesACollectorThatIsTooSlow) {
  StartServer([n = 0](const ServedRequest&) mutable {
    return ++n == 1 ? ServedReply{.pieces = {}, .then = ServedReply::Then::kHold} : Respond(200);
  });
  StartExporter();
  Collector collector = CollectorAt(server_->url());
  collector.timeout = milliseconds(50);
  SetCollector(collector);
  Offer(5);
  EXPECT_EQ(WaitUntilDrained().exported, 5U);
}

TEST_F(BatchExporterTest, GivesUpARequestInTheEnd) {
  StartServer([](const ServedRequest&) { return Respond(503); });
  ExporterOptions options = kQuick;
  options.give_up_after = milliseconds(30);
  StartExporter(options);
  Offer(5);
  const ExporterStatus status = WaitUntilDrained();
  EXPECT_EQ(Dropped(status, ExportDrop::kGaveUp), 5U);
  EXPECT_GE(status.retries, 1U);
}

TEST_F(BatchExporterTest, KeepsTheCountOfAPartialSuccessAndDoesNotRetry) {
  StartServer([](const ServedRequest&) { return Partial(2, "too\nold"); });
  StartExporter();
  Offer(5);
  const ExporterStatus status = WaitUntilDrained();
  EXPECT_EQ(status.exported, 3U);
  EXPECT_EQ(Dropped(status, ExportDrop::kRejected), 2U);
  EXPECT_EQ(status.last_error, "the collector rejected 2 of 5: too old");
  EXPECT_EQ(server_->requests().size(), 1U);
}

TEST_F(BatchExporterTest, DoesNotBelieveAPartialSuccessThatCannotBe) {
  for (const std::int64_t rejected : {std::int64_t{-3}, std::int64_t{1} << 60}) {
    StartServer([rejected](const ServedRequest&) { return Partial(rejected, ""); });
    StartExporter();
    Offer(5);
    const ExporterStatus status = WaitUntilDrained();
    EXPECT_EQ(status.exported, rejected < 0 ? 5U : 0U);
    EXPECT_EQ(Dropped(status, ExportDrop::kRejected), rejected < 0 ? 0U : 5U);
  }
}

TEST_F(BatchExporterTest, TakesASuccessWithAnotherBodyAsSuccess) {
  StartServer([](const ServedRequest&) { return Respond(202, "{\"ok\": true}"); });
  StartExporter();
  Offer(5);
  const ExporterStatus status = WaitUntilDrained();
  EXPECT_EQ(status.exported, 5U);
  EXPECT_EQ(status.last_error, "the collector's answer is not an OTLP response");
}

TEST_F(BatchExporterTest, DropsWhenTheAnswerIsTooLong) {
  StartServer([](const ServedRequest&) { return Respond(200, std::string((4 << 20) + 1, 'x')); });
  StartExporter();
  Offer(5);
  EXPECT_EQ(Dropped(WaitUntilDrained(), ExportDrop::kBadResponse), 5U);
}

TEST_F(BatchExporterTest, BoundsTheQueueInBytesWhileTheCollectorIsDown) {
  StartServer([](const ServedRequest&) { return Respond(503); });
  ExporterOptions options = kQuick;
  options.queue_limit_bytes = 100'000;
  StartExporter(options);
  for (int i = 0; i < 100; ++i) {
    Offer(10);
    EXPECT_LE(Status().queue_bytes, options.queue_limit_bytes);
  }
  exporters_->Stop(milliseconds(20));
  const ExporterStatus status = Status();
  EXPECT_EQ(status.offered, 1000U);
  EXPECT_GT(Dropped(status, ExportDrop::kQueueFull), 0U);
  EXPECT_GT(Dropped(status, ExportDrop::kShutdown), 0U);
  EXPECT_EQ(status.queued, 0U);
  EXPECT_EQ(status.queue_bytes, 0U);
  ExpectExact(status);
}

TEST_F(BatchExporterTest, SendsEverythingOnceTheCollectorIsBack) {
  std::atomic<bool> is_down = true;
  std::atomic<std::size_t> received = 0;
  StartServer([&](const ServedRequest& request) {
    if (is_down) {
      return Respond(503);
    }
    received += CountSpans(request.body);
    return Respond(200);
  });
  StartExporter();
  Offer(700);
  (void)WaitUntil([](const ExporterStatus& status) { return status.failures > 2; });
  is_down = false;
  Offer(300);
  EXPECT_EQ(WaitUntilDrained().exported, 1000U);
  EXPECT_EQ(received, 1000U);
}

TEST_F(BatchExporterTest, FlushesAtStop) {
  StartServer([](const ServedRequest&) { return Respond(200); });
  ExporterOptions options = kQuick;
  options.batch_age = std::chrono::hours(1);
  StartExporter(options);
  Offer(10);
  exporters_->Stop(std::chrono::seconds(20));
  const ExporterStatus status = Status();
  EXPECT_EQ(status.exported, 10U);
  Offer(3);
  EXPECT_EQ(exporters_->status().kept, 3U);
  ExpectExact(Status());
}

TEST_F(BatchExporterTest, StopsInTimeWhenTheCollectorHangs) {
  StartServer([](const ServedRequest&) {
    return ServedReply{.pieces = {}, .then = ServedReply::Then::kHold};
  });
  StartExporter();
  Offer(10);
  ASSERT_TRUE(server_->WaitForRequests(1));
  const auto before = std::chrono::steady_clock::now();
  exporters_->Stop(milliseconds(100));
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(5));
  EXPECT_EQ(Dropped(Status(), ExportDrop::kShutdown), 10U);
}

TEST_F(BatchExporterTest, StopsAtOnceWhenTheCollectorIsAway) {
  StartServer([](const ServedRequest&) { return Respond(200); });
  ExporterOptions options = kQuick;
  options.backoff_first = std::chrono::hours(1);
  options.backoff_limit = std::chrono::hours(1);
  StartExporter(options);
  server_.reset();
  Offer(10);
  (void)WaitUntil([](const ExporterStatus& status) { return status.failures > 0; });
  const auto before = std::chrono::steady_clock::now();
  exporters_->Stop(std::chrono::seconds(60));
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(10));
  EXPECT_EQ(Dropped(Status(), ExportDrop::kShutdown), 10U);
  EXPECT_FALSE(Status().is_reachable);
}

TEST_F(BatchExporterTest, MovesToAnotherCollectorWithWhatIsQueued) {
  StartServer([](const ServedRequest&) {
    return ServedReply{.pieces = {}, .then = ServedReply::Then::kHold};
  });
  StartExporter();
  Offer(10);
  ASSERT_TRUE(server_->WaitForRequests(1));
  const ScriptedHttpServer other([](const ServedRequest&) { return Respond(200); });
  SetCollector(CollectorAt(other.url("/other")));
  const ExporterStatus status = WaitUntilDrained();
  EXPECT_EQ(status.exported, 10U);
  EXPECT_EQ(status.failures, 0U);
  EXPECT_EQ(status.url, other.url("/other/v1/traces"));
  EXPECT_TRUE(other.requests().at(0).head.starts_with("POST /other/v1/traces "));
}

TEST_F(BatchExporterTest, KeepsWhileThereIsNoCollector) {
  StartServer([](const ServedRequest&) {
    return ServedReply{.pieces = {}, .then = ServedReply::Then::kHold};
  });
  StartExporter();
  Offer(10);
  ASSERT_TRUE(server_->WaitForRequests(1));
  Offer(5);
  ASSERT_TRUE(exporters_->SetRoutes({}).has_value());
  Offer(7);
  EXPECT_EQ(exporters_->status().kept, 7U);
  EXPECT_EQ(Status().queued, 15U);  // it may still become reachable
  exporters_->Reap();
  EXPECT_EQ(exporters_->status().exporters.size(), 1U);
  exporters_->Stop(milliseconds(0));
  EXPECT_TRUE(exporters_->status().exporters.empty());
}

TEST_F(BatchExporterTest, ReapsAnExporterThatHasSentWhatItHad) {
  StartServer([](const ServedRequest&) { return Respond(200); });
  ExporterOptions options = kQuick;
  options.batch_age = std::chrono::hours(1);
  StartExporter(options);
  Offer(10);
  ASSERT_TRUE(exporters_->SetRoutes({}).has_value());
  (void)WaitUntilDrained();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!exporters_->status().exporters.empty() && std::chrono::steady_clock::now() < deadline) {
    exporters_->Reap();
  }
  const ExportStatus status = exporters_->status();
  EXPECT_TRUE(status.exporters.empty());
  EXPECT_EQ(status.retired.exported, 10U);
  EXPECT_EQ(status.exported(), 10U);
}

TEST_F(BatchExporterTest, PacksAndAddsHeadersWhenAsked) {
  StartServer([](const ServedRequest&) { return Respond(200); });
  StartExporter();
  Collector collector = CollectorAt(server_->url());
  collector.gzip = true;
  collector.headers = {{"Api-Key", "secret"}};
  SetCollector(collector);
  Offer(100);
  (void)WaitUntilDrained();
  const ServedRequest request = server_->requests().at(0);
  EXPECT_EQ(request.Field("content-encoding"), "gzip");
  EXPECT_EQ(request.Field("api-key"), "secret");
  EXPECT_EQ(CountSpans(client::Gunzip(request.body, 1U << 20U).value()), 100U);
}

TEST_F(BatchExporterTest, AddsUpFromTheWorkersToTheCollector) {
  StartServer([n = 0](const ServedRequest&) mutable {
    return ++n % 3 == 0 ? Partial(1, "x") : n % 3 == 1 ? Respond(503) : Respond(200);
  });
  ExporterOptions options = kQuick;
  options.queue_limit_bytes = 50'000;
  StartExporter(options);
  auto pipeline = *Pipeline::Create({.queue_limit_bytes = 100'000});
  pipeline->AddConsumer(*exporters_);
  ASSERT_TRUE(pipeline->Start().has_value());
  std::atomic<bool> is_done = false;
  std::thread reader([&] {
    while (!is_done) {
      const SpanTotals totals = TotalSpans(*exporters_, *pipeline);
      EXPECT_LE(totals.queued, totals.generated);
    }
  });
  for (int i = 0; i < 500; ++i) {
    pipeline->Offer(std::vector<Record>(4, MakeRequest(/*is_client=*/true)));
  }
  pipeline->Stop();
  exporters_->Stop(milliseconds(200));
  is_done = true;
  reader.join();
  const SpanTotals totals = TotalSpans(*exporters_, *pipeline);
  EXPECT_EQ(totals.generated, 2000U);
  EXPECT_EQ(totals.queued, 0U);
  EXPECT_EQ(totals.generated, totals.exported + totals.dropped + totals.kept);
  const std::string text = observe::RenderOpenMetrics(PipelineMetrics(*pipeline)) +
                           observe::RenderOpenMetrics(ExportMetrics({exporters_->status()}));
  EXPECT_NE(text.find("weir_telemetry_generated_total{kind=\"span\"} 2000\n"), std::string::npos);
  EXPECT_NE(text.find("weir_export_exported_total{exporter=\"retired\",signal=\"traces\"} " +
                      std::to_string(totals.exported) + "\n"),
            std::string::npos);
}

}  // namespace
}  // namespace weir::telemetry
