#include "agent/export/collector.h"

#include <gtest/gtest.h>

#include <map>

#include "agent/export/export_answer.h"

namespace weir::telemetry {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;

using Found = base::Result<std::optional<Collector>>;
using Variables = std::map<std::string, std::string>;
using Mode = EnvironmentRule::Mode;

// `variables` without the OTEL_EXPORTER_OTLP_ before their names.
Found Find(const std::optional<NamedCollector>& named, const Variables& variables,
           const EnvironmentRule& rule = {}, Signal signal = Signal::kTraces) {
  return FindCollector(named, signal, rule, [&](const char* name) -> const char* {
    const auto found = variables.find(std::string(name).substr(sizeof("OTEL_EXPORTER_OTLP_") - 1));
    return found != variables.end() ? found->second.c_str() : nullptr;
  });
}

Found FromEnvironment(const Variables& variables, Signal signal = Signal::kTraces) {
  return Find(std::nullopt, variables, {}, signal);
}

NamedCollector Grpc(const std::string& url) {
  return {.kind = CollectorKind::kOtlpGrpc, .url = url};
}

TEST(CollectorTest, AddsThePathOfTheSignalToABaseUrlOnly) {
  const auto target = [](const std::string& url, bool is_base) {
    return (*Find(NamedCollector{.url = url, .is_base_url = is_base}, {}))->url.target;
  };
  EXPECT_EQ(target("http://c:4318", true), "/v1/traces");
  EXPECT_EQ(target("http://c:4318/", true), "/v1/traces");
  EXPECT_EQ(target("http://c/otlp", true), "/otlp/v1/traces");
  EXPECT_EQ(target("http://c:4318", false), "/");
  EXPECT_EQ(target("http://c/x?y", false), "/x?y");
  EXPECT_FALSE(Find(NamedCollector{.url = "http://c/?x", .is_base_url = true}, {}).has_value());
  const Variables base = {{"ENDPOINT", "http://c"}};
  EXPECT_EQ((*FromEnvironment(base, Signal::kMetrics))->url.target, "/v1/metrics");
  EXPECT_EQ((*FromEnvironment(base, Signal::kLogs))->url.target, "/v1/logs");
}

TEST(CollectorTest, IsEmptyWithoutAnEndpoint) {
  EXPECT_FALSE(FromEnvironment({})->has_value());
  EXPECT_FALSE(FromEnvironment({{"ENDPOINT", ""}, {"HEADERS", "a=b"}})->has_value());
}

TEST(CollectorTest, ReadsAllVariables) {
  const Collector collector = **FromEnvironment({{"ENDPOINT", "https://c:4318"},
                                                 {"HEADERS", " a=b%20c , d = e=f,"},
                                                 {"TIMEOUT", "2500"},
                                                 {"COMPRESSION", "gzip"},
                                                 {"PROTOCOL", "http/protobuf"},
                                                 {"CERTIFICATE", "/roots.pem"},
                                                 {"CLIENT_CERTIFICATE", "/c.pem"},
                                                 {"CLIENT_KEY", "/c.key"}});
  EXPECT_EQ(collector.kind, CollectorKind::kOtlpHttp);
  EXPECT_EQ(collector.url.target, "/v1/traces");
  EXPECT_TRUE(collector.url.is_tls);
  EXPECT_EQ(collector.headers, (std::vector<client::HttpHeader>{{"a", "b c"}, {"d", "e=f"}}));
  EXPECT_EQ(collector.timeout, milliseconds(2500));
  EXPECT_TRUE(collector.gzip);
  EXPECT_EQ(collector.tls,
            (client::TlsFiles{.roots = "/roots.pem", .certificate = "/c.pem", .key = "/c.key"}));
}

TEST(CollectorTest, PrefersTheVariablesOfTheSignal) {
  const Variables variables = {
      {"ENDPOINT", "http://a"},         {"TRACES_ENDPOINT", "http://b/in"},
      {"LOGS_ENDPOINT", "http://l/in"}, {"HEADERS", "a=1"},
      {"TRACES_HEADERS", "b=2"},        {"TIMEOUT", "1"},
      {"TRACES_TIMEOUT", "2"},          {"TRACES_COMPRESSION", "gzip"},
      {"TRACES_CERTIFICATE", "/t.pem"}, {"METRICS_PROTOCOL", "grpc"},
  };
  const Collector traces = **FromEnvironment(variables);
  EXPECT_EQ(traces.display(), "http://b/in");
  EXPECT_EQ(traces.headers, (std::vector<client::HttpHeader>{{"b", "2"}}));
  EXPECT_EQ(traces.timeout, milliseconds(2));
  EXPECT_TRUE(traces.gzip);
  EXPECT_EQ(traces.tls.roots, "/t.pem");
  EXPECT_EQ((*FromEnvironment(variables, Signal::kLogs))->display(), "http://l/in");
  EXPECT_EQ((*FromEnvironment(variables, Signal::kMetrics))->kind, CollectorKind::kOtlpGrpc);
  const Collector shared = **Find(std::nullopt, variables, {.allows_signals = false});
  EXPECT_EQ(shared.url.host, "a");
  EXPECT_EQ(shared.timeout, milliseconds(1));
}

TEST(CollectorTest, TakesGrpcEndpointsWithAndWithoutAScheme) {
  const auto grpc = [](const std::string& url, const Variables& more = {}) {
    Variables variables = {{"ENDPOINT", url}, {"PROTOCOL", "grpc"}};
    variables.insert(more.begin(), more.end());
    return (*FromEnvironment(variables))->display();
  };
  EXPECT_EQ(grpc("http://c:4317/ignored"), "http://c:4317");
  EXPECT_EQ(grpc("https://c:4317", {{"INSECURE", "true"}}), "https://c:4317");
  EXPECT_EQ(grpc("c:4317"), "https://c:4317");
  EXPECT_EQ(grpc("c:4317", {{"INSECURE", "True"}}), "http://c:4317");
  EXPECT_EQ(grpc("c:4317", {{"INSECURE", "true"}, {"TRACES_INSECURE", "false"}}), "https://c:4317");
}

TEST(CollectorTest, FollowsTheRuleOfTheDocument) {
  const Variables variables = {{"ENDPOINT", "http://env:4318"}, {"TIMEOUT", "7"}};
  const auto named = Grpc("http://doc:4317");
  // Explicit first: the environment fills the gaps.
  Collector collector = **Find(named, variables);
  EXPECT_EQ(collector.display(), "http://doc:4317");
  EXPECT_EQ(collector.timeout, milliseconds(7));
  // Environment first, each field by itself: it names no protocol.
  collector = **Find(named, variables, {.is_first = true});
  EXPECT_EQ(collector.display(), "http://env:4318");
  EXPECT_EQ(collector.kind, CollectorKind::kOtlpGrpc);
  collector = **Find(named, {{"ENDPOINT", "http://env"}, {"PROTOCOL", "http/protobuf"}},
                     {.is_first = true});
  EXPECT_EQ(collector.display(), "http://env/v1/traces");
  // A protocol alone does not change what the document's URL speaks.
  EXPECT_EQ((*Find(named, {{"PROTOCOL", "http/protobuf"}}, {.is_first = true}))->kind,
            CollectorKind::kOtlpGrpc);
  collector = **Find(named, variables, {.mode = Mode::kDisabled, .is_first = true});
  EXPECT_EQ(collector.display(), "http://doc:4317");
  EXPECT_EQ(collector.timeout, milliseconds(10'000));
  EXPECT_TRUE(Find(named, variables, {.mode = Mode::kRequired}).has_value());
  EXPECT_EQ(Find(named, {{"TIMEOUT", "7"}}, {.mode = Mode::kRequired}).error().code(),
            ErrorCode::kNotFound);
}

TEST(CollectorTest, GivesZipkinNothingOfTheEnvironment) {
  const Collector collector =
      **Find(NamedCollector{.kind = CollectorKind::kZipkin, .url = "http://z:9411/api/v2/spans"},
             {{"ENDPOINT", "http://env"}, {"HEADERS", "key=secret"}}, {.is_first = true});
  EXPECT_EQ(collector.display(), "http://z:9411/api/v2/spans");
  EXPECT_TRUE(collector.headers.empty());
}

TEST(CollectorTest, NamesTheVariableThatItCannotFollow) {
  struct Case {
    const char* name;
    const char* value;
    ErrorCode code;
  };
  for (const Case& c : {Case{"ENDPOINT", "collector:4318", ErrorCode::kInvalidArgument},
                        Case{"ENDPOINT", "ftp://c", ErrorCode::kInvalidArgument},
                        Case{"HEADERS", "secret", ErrorCode::kInvalidArgument},
                        Case{"TIMEOUT", "10s", ErrorCode::kInvalidArgument},
                        Case{"TIMEOUT", "0", ErrorCode::kInvalidArgument},
                        Case{"COMPRESSION", "zstd", ErrorCode::kInvalidArgument},
                        Case{"CLIENT_KEY", "/alone.key", ErrorCode::kInvalidArgument},
                        Case{"PROTOCOL", "http/json", ErrorCode::kUnsupported}}) {
    Variables variables = {{"ENDPOINT", "http://c"}};
    variables[c.name] = c.value;
    const auto collector = FromEnvironment(variables);
    ASSERT_FALSE(collector.has_value()) << c.name;
    EXPECT_EQ(collector.error().code(), c.code) << c.name;
    EXPECT_TRUE(
        collector.error().message().starts_with(std::string("OTEL_EXPORTER_OTLP_") + c.name))
        << collector.error().message();
    EXPECT_EQ(collector.error().message().find("secret"), std::string::npos);
  }
  EXPECT_FALSE(FromEnvironment({{"ENDPOINT", "c:1"}, {"PROTOCOL", "grpc"}, {"INSECURE", "yes"}})
                   .has_value());
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
