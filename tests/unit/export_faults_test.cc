// Collectors that are slow, dead, resetting or lying, under load: whatever they do, whoever
// offers spans does not wait, and every span is accounted for.
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "agent/export/pipeline.h"
#include "tests/support/scripted_http2_server.h"
#include "tests/support/scripted_http_server.h"
#include "tests/unit/export_support.h"

namespace weir::telemetry {
namespace {

using observe::Record;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using test::CallReply;
using test::GrpcFailure;
using test::GrpcOk;
using test::Respond;
using test::ScriptedHttp2Server;
using test::ScriptedHttpServer;
using test::ServedCall;
using test::ServedReply;
using test::ServedRequest;

constexpr auto kTick = milliseconds(10);
constexpr std::size_t kSpansPerTick = 200;  // 10,000 requests a second, two spans each

// Two workers that offer spans in step with the clock.
class Load {
 public:
  explicit Load(Pipeline& pipeline) : pipeline_(pipeline) {}

  // Offers for `duration`; the longest time that one offer took.
  milliseconds Run(milliseconds duration) {
    std::atomic<std::int64_t> longest = 0;
    const auto work = [&] {
      const std::vector<Record> batch(kSpansPerTick / 2, test::MakeRequest(/*is_client=*/true));
      auto next = steady_clock::now();
      for (milliseconds passed{0}; passed < duration; passed += kTick) {
        std::this_thread::sleep_until(next += kTick);
        std::vector<Record> copy = batch;
        const auto before = steady_clock::now();
        pipeline_.Offer(std::move(copy));
        const auto took =
            std::chrono::duration_cast<milliseconds>(steady_clock::now() - before).count();
        std::int64_t known = longest;
        while (took > known && !longest.compare_exchange_weak(known, took)) {
        }
      }
    };
    std::thread one(work);
    std::thread two(work);
    one.join();
    two.join();
    return milliseconds(longest);
  }

 private:
  Pipeline& pipeline_;
};

class ExportFaultsTest : public ExportTest {
 protected:
  void Start(const Collector& collector, const ExporterOptions& options) {
    StartExporter(collector, options);
    pipeline_ = *Pipeline::Create({.queue_limit_bytes = 256U << 20U});
    pipeline_->AddConsumer(*exporters_);
    ASSERT_TRUE(pipeline_->Start().has_value());
  }
  void WaitUntilQuiet() {
    const auto deadline = steady_clock::now() + std::chrono::seconds(20);
    while (TotalSpans(*exporters_, *pipeline_).queued != 0 && steady_clock::now() < deadline) {
      // Asking takes the exporters' locks: without a pause they starve on few cores.
      (void)::poll(nullptr, 0, /*timeout=*/1);
    }
  }
  // Ends both halves; every span must have gone somewhere.
  SpanTotals Finish(milliseconds bound) {
    pipeline_->Stop();
    exporters_->Stop(bound);
    const SpanTotals totals = TotalSpans(*exporters_, *pipeline_);
    EXPECT_EQ(totals.queued, 0U);
    EXPECT_EQ(totals.generated, totals.exported + totals.dropped + totals.kept);
    EXPECT_EQ(exporters_->status().queue_bytes(), 0U);
    return totals;
  }

  std::unique_ptr<Pipeline> pipeline_;
};

TEST_F(ExportFaultsTest, LosesNoneOfTenThousandRequestsASecondByGrpc) {
  std::atomic<std::size_t> received = 0;
  const ScriptedHttp2Server server([&](const ServedCall& call) {
    received += CountSpans(call.Message());
    return GrpcOk();
  });
  Start(CollectorAt(server.url(), CollectorKind::kOtlpGrpc), {});
  (void)Load(*pipeline_).Run(milliseconds(2000));
  const SpanTotals totals = Finish(std::chrono::seconds(60));
  EXPECT_EQ(totals.generated, 40'000U);
  EXPECT_EQ(totals.exported, 40'000U);
  EXPECT_EQ(received, 40'000U);
  EXPECT_LE(server.calls().size(), 4U * 40U);  // at most 4 calls for 1,000 spans
}

TEST_F(ExportFaultsTest, LosesNoneOfTenThousandRequestsASecondByHttp) {
  std::atomic<std::size_t> received = 0;
  const ScriptedHttpServer server([&](const ServedRequest& request) {
    received += CountSpans(request.body);
    return Respond(200);
  });
  Start(CollectorAt(server.url()), {});
  (void)Load(*pipeline_).Run(milliseconds(2000));
  EXPECT_EQ(Finish(std::chrono::seconds(60)).exported, 40'000U);
  EXPECT_EQ(received, 40'000U);
  EXPECT_LE(server.requests().size(), 4U * 40U);
}

// Each fault in turn; the collector is well again after the first calls.
TEST_F(ExportFaultsTest, AccountsForEverySpanThroughEveryFault) {
  using Then = CallReply::Then;
  CallReply slow{.then = Then::kHold};  // until the attempt's time is over
  const std::vector<CallReply> faults = {
      slow,
      {.then = Then::kReset},
      {.then = Then::kClose},
      {.then = Then::kGoAway},
      {.body = "garbage", .then = Then::kRaw},
      {.header = {{":status", "429"}, {"retry-after", "1"}}},
      {.header = {{":status", "503"}, {"retry-after", "99999999"}}},
      GrpcFailure(14, "down"),
      GrpcFailure(8, "no RetryInfo"),
      {.body = std::string((4U << 20U) + 10, 'x')},
      {.header = {{":status", "200"}, {"content-length", "3"}}, .body = "12345"},
  };
  for (const CallReply& fault : faults) {
    const ScriptedHttp2Server server(
        [&fault, n = 0](const ServedCall&) mutable { return ++n <= 2 ? fault : GrpcOk(); });
    Collector collector = CollectorAt(server.url(), CollectorKind::kOtlpGrpc);
    // Only a held call may run into it, also under a sanitizer.
    collector.timeout = fault.then == Then::kHold ? milliseconds(1000) : milliseconds(10000);
    ExporterOptions options = kQuick;
    options.batch_age = milliseconds(20);
    options.retry_after_limit = milliseconds(50);
    Start(collector, options);
    const milliseconds longest = Load(*pipeline_).Run(milliseconds(200));
    EXPECT_LT(longest, milliseconds(100));  // of the attempt's: nobody waited for it
    for (int i = 0; i < 3; ++i) {           // at most two calls meet the fault
      WaitUntilQuiet();
      pipeline_->Offer(std::vector<Record>(1, test::MakeRequest(/*is_client=*/true)));
    }
    const SpanTotals totals = Finish(std::chrono::seconds(20));
    EXPECT_EQ(totals.generated, 4'003U);
    EXPECT_GT(totals.exported, 0U);
  }
}

TEST_F(ExportFaultsTest, BoundsItsQueueInBytesWhileTheCollectorIsDead) {
  std::string url;
  {
    url = ScriptedHttpServer([](const ServedRequest&) { return Respond(200); }).url();
  }
  ExporterOptions options = kQuick;
  options.queue_limit_bytes = 500'000;
  Start(CollectorAt(url), options);
  std::atomic<bool> is_done = false;
  std::atomic<std::size_t> most = 0;
  std::thread reader([&] {
    while (!is_done) {
      most = std::max<std::size_t>(most, exporters_->status().queue_bytes());
      std::this_thread::yield();
    }
  });
  EXPECT_LT(Load(*pipeline_).Run(milliseconds(500)), milliseconds(250));
  const SpanTotals totals = Finish(milliseconds(0));
  is_done = true;
  reader.join();
  EXPECT_LE(most, options.queue_limit_bytes);
  EXPECT_EQ(totals.dropped, totals.generated);
  EXPECT_GT(Dropped(exporters_->status().retired, ExportDrop::kQueueFull), 0U);
}

}  // namespace
}  // namespace weir::telemetry
