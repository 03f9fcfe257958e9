// The exporter by OTLP/gRPC, against a server made with nghttp2.
#include <google/protobuf/any.pb.h>
#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>
#include <openssl/base64.h>
#include <otlp/rpc_status.pb.h>
#include <otlp/trace_service.pb.h>

#include "agent/client/gzip.h"
#include "tests/support/scripted_http2_server.h"
#include "tests/unit/export_support.h"

namespace weir::telemetry {
namespace {

using opentelemetry::proto::collector::trace::v1::ExportTraceServiceResponse;
using std::chrono::milliseconds;
using test::CallReply;
using test::GrpcFailure;
using test::GrpcOk;
using test::ScriptedHttp2Server;
using test::ServedCall;
using Then = CallReply::Then;

std::string Base64(const std::string& bytes) {
  std::string text(bytes.size() * 2 + 4, '\0');
  text.resize(::EVP_EncodeBlock(reinterpret_cast<std::uint8_t*>(text.data()),
                                reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
  return text;
}

// A google.rpc.Status with a RetryInfo, as grpc-status-details-bin has it.
std::string RetryDetails(milliseconds delay) {
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(delay.count() / 1000);
  info.mutable_retry_delay()->set_nanos(static_cast<std::int32_t>(delay.count() % 1000) * 1000000);
  google::rpc::Status status;
  status.add_details()->PackFrom(info);
  return Base64(status.SerializeAsString());
}

class OtlpGrpcTest : public ExportTest {
 protected:
  void Start(ScriptedHttp2Server::Script script, const ExporterOptions& options = kQuick) {
    exporters_.reset();
    server_ = std::make_unique<ScriptedHttp2Server>(std::move(script));
    StartExporter(CollectorAt(server_->url(), CollectorKind::kOtlpGrpc), options);
  }
  // A server that answers the first call with `fault` and the others with success.
  void StartWithFault(const CallReply& fault) {
    Start([fault, n = 0](const ServedCall&) mutable { return ++n == 1 ? fault : GrpcOk(); });
  }

  std::unique_ptr<ScriptedHttp2Server> server_;
};

TEST_F(OtlpGrpcTest, CallsTheTraceServiceOnOneConnection) {
  Start([](const ServedCall&) { return GrpcOk(); });
  for (int i = 0; i < 3; ++i) {
    Offer(5);
    (void)WaitUntilDrained();
  }
  const ExporterStatus status = Status();
  EXPECT_EQ(status.exported, 15U);
  EXPECT_EQ(status.kind, "otlp/grpc");
  EXPECT_EQ(status.url, server_->url());
  EXPECT_TRUE(status.is_accepting);
  EXPECT_EQ(server_->connections(), 1);
  const ServedCall call = server_->calls().at(2);
  EXPECT_EQ(call.path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
  EXPECT_EQ(call.Field("content-type"), "application/grpc");
  EXPECT_EQ(call.Field("te"), "trailers");
  EXPECT_EQ(call.Field("grpc-timeout"), "10000m");
  EXPECT_TRUE(call.Field("user-agent").starts_with("weir-otlp-exporter/"));
  EXPECT_EQ(CountSpans(call.Message()), 5U);
}

TEST_F(OtlpGrpcTest, PacksAndSendsMetadata) {
  Start([](const ServedCall&) { return GrpcOk(); });
  Collector collector = CollectorAt(server_->url(), CollectorKind::kOtlpGrpc);
  collector.gzip = true;
  collector.headers = {{"Api-Key", "secret"}};
  SetCollector(collector);
  Offer(50);
  (void)WaitUntilDrained();
  const ServedCall call = server_->calls().at(0);
  EXPECT_EQ(call.Field("grpc-encoding"), "gzip");
  EXPECT_EQ(call.Field("api-key"), "secret");
  EXPECT_EQ(CountSpans(client::Gunzip(call.Message(), 1U << 20U).value()), 50U);
}

TEST_F(OtlpGrpcTest, RetriesExactlyWhatTheSpecificationSays) {
  for (int code = 1; code <= 17; ++code) {
    StartWithFault(GrpcFailure(code, "not%20now"));
    Offer(5);
    const ExporterStatus status = WaitUntilDrained();
    const bool is_retried =
        code == 1 || code == 4 || code == 10 || code == 11 || code == 14 || code == 15;
    EXPECT_EQ(status.exported, is_retried ? 5U : 0U) << code;
    EXPECT_EQ(Dropped(status, ExportDrop::kRefused), is_retried ? 0U : 5U) << code;
    EXPECT_EQ(server_->calls().size(), is_retried ? 2U : 1U) << code;
    EXPECT_NE(status.last_error.find("not now"), std::string::npos) << status.last_error;
  }
}

TEST_F(OtlpGrpcTest, RetriesResourceExhaustedOnlyWithRetryInfo) {
  std::vector<std::chrono::steady_clock::time_point> times;
  Start([&times](const ServedCall&) {
    times.push_back(std::chrono::steady_clock::now());
    return times.size() == 1 ? GrpcFailure(8, "full", RetryDetails(milliseconds(400))) : GrpcOk();
  });
  Offer(5);
  EXPECT_EQ(WaitUntilDrained().exported, 5U);
  EXPECT_GE(times.at(1) - times.at(0), milliseconds(400));
}

TEST_F(OtlpGrpcTest, CutsARetryInfoThatIsTooLong) {
  ExporterOptions options = kQuick;
  options.retry_after_limit = milliseconds(20);
  Start(
      [n = 0](const ServedCall&) mutable {
        return ++n == 1 ? GrpcFailure(14, "", RetryDetails(std::chrono::hours(100'000))) : GrpcOk();
      },
      options);
  Offer(5);
  EXPECT_EQ(WaitUntilDrained().exported, 5U);
}

TEST_F(OtlpGrpcTest, KeepsTheCountOfAPartialSuccessAndDoesNotRetry) {
  Start([](const ServedCall&) {
    ExportTraceServiceResponse response;
    response.mutable_partial_success()->set_rejected_spans(2);
    response.mutable_partial_success()->set_error_message("too old");
    return GrpcOk(response.SerializeAsString());
  });
  Offer(5);
  const ExporterStatus status = WaitUntilDrained();
  EXPECT_EQ(status.exported, 3U);
  EXPECT_EQ(Dropped(status, ExportDrop::kRejected), 2U);
  EXPECT_EQ(status.last_error, "the collector rejected 2 of 5: too old");
  EXPECT_EQ(server_->calls().size(), 1U);
}

TEST_F(OtlpGrpcTest, RetriesFailuresOfTheConnection) {
  const std::vector<CallReply> faults = {
      {.then = Then::kReset},
      {.then = Then::kGoAway},
      {.body = "HTTP/1.1 400 Bad Request\r\n\r\n", .then = Then::kRaw},
      {.reset_code = NGHTTP2_REFUSED_STREAM},
      {.reset_code = NGHTTP2_CANCEL},
      {.header = {{":status", "503"}}, .body = "no healthy upstream"},
  };
  for (const CallReply& fault : faults) {
    StartWithFault(fault);
    Offer(5);
    const ExporterStatus status = WaitUntilDrained();
    EXPECT_EQ(status.exported, 5U) << status.last_error;
    EXPECT_EQ(status.retries, 1U) << status.last_error;
  }
}

TEST_F(OtlpGrpcTest, DropsWhatALyingServerAnswers) {
  struct Case {
    CallReply reply;
    ExportDrop drop;
  };
  CallReply lying = GrpcOk("x");
  lying.header.emplace_back("content-length", "1");
  CallReply huge = GrpcOk();
  huge.body = std::string((4U << 20U) + 6, 'x');
  const std::vector<Case> cases = {
      {lying, ExportDrop::kRefused},
      {huge, ExportDrop::kBadResponse},
      {{.body = "no frame", .trailers = {{"grpc-status", "0"}}}, ExportDrop::kRefused},
      {{.body = "no status"}, ExportDrop::kRefused},
      {{.header = {{":status", "404"}}}, ExportDrop::kRefused},
      {{.reset_code = NGHTTP2_INTERNAL_ERROR}, ExportDrop::kRefused},
  };
  for (const Case& c : cases) {
    StartWithFault(c.reply);
    Offer(5);
    const ExporterStatus status = WaitUntilDrained();
    EXPECT_EQ(Dropped(status, c.drop), 5U) << status.last_error;
    EXPECT_FALSE(status.last_error.empty());
    Offer(3);  // the next request is not disturbed
    EXPECT_EQ(WaitUntilDrained().exported, 3U);
  }
}

TEST_F(OtlpGrpcTest, RetriesACollectorThatIsTooSlow) {
  StartWithFault({.then = Then::kHold});
  Collector collector = CollectorAt(server_->url(), CollectorKind::kOtlpGrpc);
  collector.timeout = milliseconds(50);
  SetCollector(collector);
  Offer(5);
  EXPECT_EQ(WaitUntilDrained().exported, 5U);
}

TEST_F(OtlpGrpcTest, MovesBetweenProtocolsWithWhatIsQueued) {
  StartWithFault({.then = Then::kHold});
  Offer(5);
  ASSERT_TRUE(server_->WaitForCalls(1));
  const ScriptedHttp2Server other([](const ServedCall&) { return GrpcOk(); });
  SetCollector(CollectorAt(other.url(), CollectorKind::kOtlpGrpc));
  const ExporterStatus status = WaitUntilDrained();
  EXPECT_EQ(status.exported, 5U);
  EXPECT_EQ(status.failures, 0U);
}

}  // namespace
}  // namespace weir::telemetry
