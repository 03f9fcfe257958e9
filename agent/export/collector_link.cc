#include "agent/export/collector_link.h"

#include "agent/base/clock.h"
#include "agent/client/grpc.h"
#include "agent/client/gzip.h"
#include "agent/client/http_client.h"

namespace weir::telemetry {
namespace {

constexpr std::string_view kUserAgent = "weir-otlp-exporter/" WEIR_VERSION;

std::string_view GrpcMethod(Signal signal) {
  switch (signal) {
    case Signal::kTraces:
      return "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    case Signal::kMetrics:
      return "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    case Signal::kLogs:
      return "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
  }
  return "";
}

// OTLP/HTTP and Zipkin: a POST of the body to the collector's URL.
class HttpLink final : public CollectorLink {
 public:
  explicit HttpLink(const Collector& collector)
      : collector_(collector), connection_(client::HttpPeer::Of(collector.url, collector.tls)) {}

  ExportAnswer Send(const std::string& body, std::size_t items,
                    std::chrono::milliseconds timeout) override {
    const bool is_zipkin = collector_.kind == CollectorKind::kZipkin;
    client::HttpRequest request{
        .method = "POST",
        .target = collector_.url.target,
        .headers = {{"Content-Type", is_zipkin ? "application/json" : "application/x-protobuf"},
                    {"User-Agent", std::string(kUserAgent)}}};
    if (collector_.gzip) {
      request.headers.emplace_back("Content-Encoding", "gzip");
    }
    request.headers.insert(request.headers.end(), collector_.headers.begin(),
                           collector_.headers.end());
    request.body = collector_.gzip ? client::Gzip(body) : body;
    const auto response =
        connection_.Send(request, {.timeout = timeout, .body_bytes = kMaxAnswerBytes});
    if (!response) {
      return ReadExportError(response.error());
    }
    const base::WallTime now = base::SystemClock().WallNow();
    return is_zipkin ? ReadZipkinAnswer(*response, now) : ReadOtlpHttpAnswer(*response, items, now);
  }

  void Cancel() noexcept override { connection_.Cancel(); }

 private:
  const Collector collector_;
  client::HttpConnection connection_;
};

class GrpcLink final : public CollectorLink {
 public:
  explicit GrpcLink(const Collector& collector)
      : collector_(collector), connection_(client::HttpPeer::Of(collector.url, collector.tls)) {}

  ExportAnswer Send(const std::string& body, std::size_t items,
                    std::chrono::milliseconds timeout) override {
    const client::HttpRequest request =
        client::ToHttp({.method = std::string(GrpcMethod(collector_.signal)),
                        .metadata = collector_.headers,
                        .message = body,
                        .gzip = collector_.gzip,
                        .timeout = timeout,
                        .user_agent = std::string(kUserAgent)});
    // Five bytes stand before the message.
    const auto response =
        connection_.Send(request, {.timeout = timeout, .body_bytes = kMaxAnswerBytes + 5});
    return response ? ReadOtlpGrpcAnswer(client::ReadGrpcAnswer(*response, kMaxAnswerBytes), items)
                    : ReadExportError(response.error());
  }

  void Cancel() noexcept override { connection_.Cancel(); }

 private:
  const Collector collector_;
  client::Http2Connection connection_;
};

}  // namespace

std::unique_ptr<CollectorLink> MakeCollectorLink(const Collector& collector) {
  if (collector.kind == CollectorKind::kOtlpGrpc) {
    return std::make_unique<GrpcLink>(collector);
  }
  return std::make_unique<HttpLink>(collector);
}

}  // namespace weir::telemetry
