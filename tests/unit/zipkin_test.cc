#include "agent/export/zipkin.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "agent/export/span_encoder.h"
#include "tests/support/records.h"

namespace weir::telemetry {
namespace {

using observe::Record;

boost::json::array Zipkin(const std::vector<Record>& records, bool short_trace_ids = false) {
  SpanEncoder encoder;
  std::string spans;
  for (const Record& record : records) {
    encoder.AppendSpan(record, spans);
  }
  std::string text = "[";
  AppendZipkinSpans(records.front().local.get(), spans, short_trace_ids, text);
  return boost::json::parse(text + "]").as_array();
}

TEST(ZipkinTest, MapsAClientSpan) {
  Record record = test::MakeRequest(/*is_client=*/true, 0xab, 0xcd);
  record.span->trace_id[0] = 1;
  record.span->parent_span_id[7] = 0xef;
  const boost::json::object span = Zipkin({record}).at(0).as_object();
  EXPECT_EQ(span.at("traceId"), "010000000000000000000000000000ab");
  EXPECT_EQ(span.at("id"), "00000000000000cd");
  EXPECT_EQ(span.at("parentId"), "00000000000000ef");
  EXPECT_EQ(span.at("name"), "GET");
  EXPECT_EQ(span.at("kind"), "CLIENT");
  EXPECT_EQ(span.at("timestamp"), 1'800'000'000'000'000);
  EXPECT_EQ(span.at("duration"), 3000);
  EXPECT_EQ(span.at("localEndpoint"), (boost::json::object{{"serviceName", "front"}}));
  EXPECT_EQ(
      span.at("remoteEndpoint"),
      (boost::json::object{{"serviceName", "crm/back"}, {"ipv4", "198.18.0.2"}, {"port", 8080}}));
  const boost::json::object& tags = span.at("tags").as_object();
  EXPECT_EQ(tags.at("http.response.status_code"), "200");
  EXPECT_EQ(tags.at("url.full"), "http://back:8080/items/1?a&b");
  EXPECT_EQ(tags.at("otel.scope.name"), "weir");
  EXPECT_FALSE(tags.contains("otel.status_code"));
  EXPECT_FALSE(tags.contains("error"));
  EXPECT_FALSE(span.contains("shared"));
}

TEST(ZipkinTest, MapsErrorsRootsAndIpv6) {
  Record record = test::MakeRequest(/*is_client=*/false);
  record.flow.http->status = 500;
  record.flow.source.endpoint = *base::Endpoint::Parse("[fd00::1]:40000");
  record.flow.timing.total = base::Nanoseconds(0);
  const boost::json::object span = Zipkin({record}).at(0).as_object();
  EXPECT_EQ(span.at("kind"), "SERVER");
  EXPECT_EQ(span.at("duration"), 1);
  EXPECT_FALSE(span.contains("parentId"));
  EXPECT_EQ(span.at("remoteEndpoint").as_object().at("ipv6"), "fd00::1");
  EXPECT_EQ(span.at("tags").as_object().at("otel.status_code"), "ERROR");
  EXPECT_EQ(span.at("tags").as_object().at("error"), "");
}

TEST(ZipkinTest, ShortensTraceIdsWhenAsked) {
  Record record = test::MakeRequest(/*is_client=*/true, 0xab);
  record.span->trace_id[0] = 1;
  EXPECT_EQ(Zipkin({record}, true).at(0).as_object().at("traceId"), "00000000000000ab");
}

TEST(ZipkinTest, EscapesWhatPeersSay) {
  Record record = test::MakeRequest(/*is_client=*/false);
  record.flow.http->path = "/\"\\\x01\n\xff";
  const boost::json::array spans = Zipkin({record, record, record});
  EXPECT_EQ(spans.size(), 3U);
  EXPECT_EQ(spans.at(2).as_object().at("tags").as_object().at("url.path"),
            "/\"\\\x01\n\xef\xbf\xbd");
}

}  // namespace
}  // namespace weir::telemetry
