#include <gtest/gtest.h>

#include <map>

#include "agent/export/otlp_exporter.h"
#include "agent/export/otlp_response.h"

namespace weir::telemetry {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;

base::Result<std::optional<OtlpEndpoint>> FromEnvironment(
    std::map<std::string, std::string> variables) {
  return OtlpEndpointOfEnvironment([&](const char* name) -> const char* {
    const auto found = variables.find(std::string(name).substr(sizeof("OTEL_EXPORTER_OTLP_") - 1));
    return found != variables.end() ? found->second.c_str() : nullptr;
  });
}

TEST(OtlpEndpointTest, AddsThePathOfTheSignalToABaseUrlOnly) {
  EXPECT_EQ(OtlpEndpointOfBaseUrl("http://c:4318")->url.target, "/v1/traces");
  EXPECT_EQ(OtlpEndpointOfBaseUrl("http://c:4318/")->url.target, "/v1/traces");
  EXPECT_EQ(OtlpEndpointOfBaseUrl("http://c/otlp")->url.target, "/otlp/v1/traces");
  EXPECT_EQ(OtlpEndpointOfTracesUrl("http://c:4318")->url.target, "/");
  EXPECT_EQ(OtlpEndpointOfTracesUrl("http://c/x?y")->url.target, "/x?y");
  EXPECT_FALSE(OtlpEndpointOfBaseUrl("http://c/?x").has_value());
}

TEST(OtlpEndpointTest, IsEmptyWithoutVariables) {
  EXPECT_FALSE(FromEnvironment({})->has_value());
  EXPECT_FALSE(FromEnvironment({{"ENDPOINT", ""}, {"HEADERS", "a=b"}})->has_value());
}

TEST(OtlpEndpointTest, ReadsAllVariables) {
  const auto endpoint = **FromEnvironment({{"ENDPOINT", "http://c:4318"},
                                           {"HEADERS", " a=b%20c , d = e=f,"},
                                           {"TIMEOUT", "2500"},
                                           {"COMPRESSION", "gzip"},
                                           {"PROTOCOL", "http/protobuf"}});
  EXPECT_EQ(endpoint.url.target, "/v1/traces");
  EXPECT_EQ(endpoint.headers, (std::vector<client::HttpHeader>{{"a", "b c"}, {"d", "e=f"}}));
  EXPECT_EQ(endpoint.timeout, milliseconds(2500));
  EXPECT_EQ(endpoint.compression, OtlpCompression::kGzip);
}

TEST(OtlpEndpointTest, PrefersTheVariablesOfTheSignal) {
  const auto endpoint = **FromEnvironment({{"ENDPOINT", "http://a"},
                                           {"TRACES_ENDPOINT", "http://b/in"},
                                           {"HEADERS", "a=1"},
                                           {"TRACES_HEADERS", "b=2"},
                                           {"TIMEOUT", "1"},
                                           {"TRACES_TIMEOUT", "2"}});
  EXPECT_EQ(endpoint.url.host, "b");
  EXPECT_EQ(endpoint.url.target, "/in");
  EXPECT_EQ(endpoint.headers, (std::vector<client::HttpHeader>{{"b", "2"}}));
  EXPECT_EQ(endpoint.timeout, milliseconds(2));
}

TEST(OtlpEndpointTest, NamesTheVariableThatItCannotFollow) {
  struct Case {
    const char* name;
    const char* value;
    ErrorCode code;
  };
  for (const Case& c : {Case{"ENDPOINT", "collector:4318", ErrorCode::kInvalidArgument},
                        Case{"HEADERS", "secret", ErrorCode::kInvalidArgument},
                        Case{"TIMEOUT", "10s", ErrorCode::kInvalidArgument},
                        Case{"TIMEOUT", "0", ErrorCode::kInvalidArgument},
                        Case{"COMPRESSION", "zstd", ErrorCode::kInvalidArgument},
                        Case{"PROTOCOL", "grpc", ErrorCode::kUnsupported}}) {
    std::map<std::string, std::string> variables = {{"ENDPOINT", "http://c"}};
    variables[c.name] = c.value;
    const auto endpoint = FromEnvironment(variables);
    ASSERT_FALSE(endpoint.has_value()) << c.name;
    EXPECT_EQ(endpoint.error().code(), c.code) << c.name;
    EXPECT_TRUE(endpoint.error().message().starts_with(std::string("OTEL_EXPORTER_OTLP_") + c.name))
        << endpoint.error().message();
    EXPECT_EQ(endpoint.error().message().find("secret"), std::string::npos);
  }
}

TEST(RetryAfterTest, ReadsSecondsAndDates) {
  const base::WallTime now{seconds(784'111'777)};  // Sun, 06 Nov 1994 08:49:37 GMT
  EXPECT_EQ(ParseRetryAfter("120", now), seconds(120));
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:50:37 GMT", now), seconds(60));
  EXPECT_EQ(ParseRetryAfter("Sunday, 06-Nov-94 08:50:37 GMT", now), seconds(60));
  EXPECT_EQ(ParseRetryAfter("Sun Nov  6 08:50:37 1994", now), seconds(60));
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:40:37 GMT", now), seconds(0));
}

TEST(RetryAfterTest, IgnoresWhatIsNeither) {
  for (const char* text : {"", "-5", "soon", "1.5", "10s", "-99999999999999999999"}) {
    EXPECT_EQ(ParseRetryAfter(text, base::WallTime{}), milliseconds(0)) << text;
  }
}

TEST(OneLineTest, CutsAndCleansWhatAPeerSays) {
  EXPECT_EQ(OneLine("a\r\nb\x7f\xff"), "a  b \xef\xbf\xbd");
  EXPECT_EQ(OneLine(std::string(200, 'x')), std::string(200, 'x'));
  EXPECT_EQ(OneLine(std::string(201, 'x')), std::string(200, 'x') + "...");
  EXPECT_EQ(OneLine(std::string(199, 'x') + "\xc3\xbc"
                                            "y"),
            std::string(199, 'x') + "\xc3\xbc...");
}

}  // namespace
}  // namespace weir::telemetry
