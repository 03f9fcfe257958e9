#include "agent/export/access_log.h"

#include <gtest/gtest.h>
#include <otlp/logs_service.pb.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/records.h"
#include "tests/support/scripted_http_server.h"
#include "tests/unit/export_support.h"

namespace weir::telemetry {
namespace {

using observe::Record;

class AccessLogTest : public testing::Test {
 protected:
  AccessLogTest() {
    std::string pattern = testing::TempDir() + "/weir-log-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
  }
  ~AccessLogTest() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  [[nodiscard]] std::string Read(const std::string& name) const {
    std::ifstream file(Path(name));
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] model::LogBackend To(const std::string& name, std::string_view text) const {
    return {.target = Path(name),
            .request = {.plain = *model::CompileLogText(text, "default")},
            .connection = {.plain = *model::CompileLogText("connection", "default")}};
  }
  static Record RequestOf(model::LocalId id, bool is_client) {
    Record record = test::MakeRequest(is_client);
    auto local = std::make_shared<model::LocalWorkload>(*record.local);
    local->id = id;
    record.local = local;
    return record;
  }

  std::string directory_;
};

TEST_F(AccessLogTest, WritesByEveryRuleThatMatches) {
  auto log = *AccessLog::Start({.node = "node-a", .file = {}});
  const std::string front = "spiffe://demo.test/ns/crm/sa/front";
  const auto rule = [&](std::vector<model::LogMatch> matches, std::string_view text) {
    return model::LogRule{.matches = std::move(matches), .backends = {To("in", text)}};
  };
  model::AccessLogs rules;
  rules[model::LocalId{1}] = {
      .inbound = {rule({}, "all"), rule({{.is_prefix = false, .spiffe_id = front}}, "exact"),
                  rule({{.is_prefix = false, .spiffe_id = front + "x"}}, "other"),
                  rule({{.is_prefix = true, .spiffe_id = "spiffe://demo.test/ns/"}}, "prefix")},
      .outbound = {{.matches = {}, .backends = {To("out", "%RESPONSE_CODE%")}}}};
  ASSERT_TRUE(log->SetRules(std::make_shared<const model::AccessLogs>(rules)).has_value());
  Record plain = RequestOf(model::LocalId{1}, /*is_client=*/false);
  plain.flow.mtls = observe::MtlsState::kOff;
  Record connection = RequestOf(model::LocalId{1}, /*is_client=*/true);
  connection.flow.http.reset();
  connection.flow.is_request = false;
  connection.flow.protocol = observe::Protocol::kOpaque;
  Record nobodys = RequestOf(model::LocalId{1}, /*is_client=*/true);
  nobodys.local.reset();
  log->Consume({RequestOf(model::LocalId{1}, /*is_client=*/false),
                RequestOf(model::LocalId{1}, /*is_client=*/true),
                RequestOf(model::LocalId{2}, /*is_client=*/true), plain, connection, nobodys});
  log->Stop(std::chrono::seconds(10));
  EXPECT_EQ(Read("in"), "all\nexact\nprefix\nall\n");
  EXPECT_EQ(Read("out"), "200\nconnection\n");
}

TEST_F(AccessLogTest, KeepsWritersOfFilesThatAreStillNamed) {
  auto log = *AccessLog::Start({.node = "node-a", .file = {.path = Path("own")}});
  const Record record = RequestOf(model::LocalId{1}, /*is_client=*/true);
  const auto set = [&](const std::string& name) {
    model::AccessLogs rules;
    rules[model::LocalId{1}].outbound = {{.matches = {}, .backends = {To(name, name)}}};
    return log->SetRules(std::make_shared<const model::AccessLogs>(std::move(rules))).has_value();
  };
  EXPECT_TRUE(set("a"));
  log->Consume({record});
  EXPECT_TRUE(set("a"));
  log->Consume({record});
  EXPECT_TRUE(set("b"));
  log->Consume({record});
  const auto status = log->status();
  EXPECT_EQ(status.size(), 2U);
  EXPECT_TRUE(status.contains(Path("own")) && status.contains(Path("b")));
  EXPECT_TRUE(log->SetRules(nullptr).has_value());
  log->Consume({record});
  log->Stop(std::chrono::seconds(10));
  EXPECT_EQ(Read("b"), "b\n");
  EXPECT_EQ(log->status().at(Path("own")).written, 4U);
  EXPECT_EQ(log->Metrics().size(), 4U);
}

// A body {code: "200"}, an attribute with a peer's bytes in it, Kuma's default for connections.
model::LogBackend OtlpBackend(const std::string& exporter) {
  model::LogValue code;
  code.text = *model::CompileLogText("%RESPONSE_CODE%", "default");
  model::LogValue flag{.kind = model::LogValue::Kind::kBool, .flag = true};
  model::LogValue list{.kind = model::LogValue::Kind::kList};
  list.values = {{.kind = model::LogValue::Kind::kInt, .number = -5},
                 {.kind = model::LogValue::Kind::kDouble, .real = 0.5}};
  model::LogValue map{.kind = model::LogValue::Kind::kMap};
  map.keys = {"code", "flag", "list"};
  map.values = {code, flag, list};
  model::LogValue text;
  text.text = *model::CompileLogText("%PROTOCOL% on %UPSTREAM_HOST%", "default");
  return {.sink = model::LogSink::kOtlp,
          .target = exporter,
          .attributes = {{"user_agent", *model::CompileLogText("%REQ(USER-AGENT)%", "default")},
                         {"mesh", *model::CompileLogText("%KUMA_MESH%", "demo")}},
          .request_body = map,
          .connection_body = text};
}

TEST_F(AccessLogTest, SendsLogRecordsWithTheIdsOfTheirSpans) {
  const test::ScriptedHttpServer server(
      [](const test::ServedRequest&) { return test::Respond(200); });
  auto log = *AccessLog::Start({.node = "node-a", .file = {}, .exporter = kQuick});
  model::AccessLogs rules;
  rules[model::LocalId{1}].outbound = {{.matches = {}, .backends = {OtlpBackend("c")}}};
  auto collector = CollectorAt(server.url());
  collector.signal = Signal::kLogs;
  ASSERT_TRUE(log->SetRules(std::make_shared<const model::AccessLogs>(rules),
                            {{.name = "c", .collector = collector}})
                  .has_value());
  Record request = RequestOf(model::LocalId{1}, /*is_client=*/true);
  request.flow.http->user_agent = "bad \xff agent";
  request.flow.sampled = true;
  Record failed = RequestOf(model::LocalId{1}, /*is_client=*/true);
  failed.flow.http.reset();
  failed.flow.is_request = false;
  failed.flow.trace_id = {};
  failed.flow.span_id = {};
  failed.flow.reason = observe::Reason::kUpstreamReset;
  log->Consume({request, failed});
  log->Stop(std::chrono::seconds(10));
  opentelemetry::proto::collector::logs::v1::ExportLogsServiceRequest message;
  ASSERT_TRUE(message.ParseFromString(server.requests().at(0).body));
  EXPECT_EQ(message.ByteSizeLong(), server.requests().at(0).body.size());
  ASSERT_EQ(message.resource_logs_size(), 2);  // each record has a LocalWorkload of its own
  EXPECT_EQ(message.resource_logs(0).resource().attributes(0).value().string_value(), "front");
  const auto& one = message.resource_logs(0).scope_logs(0).log_records(0);
  EXPECT_EQ(one.trace_id(), std::string(15, '\0') + "\x01");
  EXPECT_EQ(one.span_id(), std::string(7, '\0') + "\x01");
  EXPECT_EQ(one.flags(), 1U);
  EXPECT_EQ(one.severity_text(), "INFO");
  EXPECT_EQ(one.time_unix_nano(), 1'800'000'000'000'000'000U);
  EXPECT_GT(one.observed_time_unix_nano(), 0U);
  ASSERT_EQ(one.attributes_size(), 2);
  EXPECT_EQ(one.attributes(0).value().string_value(), "bad \xef\xbf\xbd agent");
  EXPECT_EQ(one.attributes(1).value().string_value(), "demo");
  const auto& members = one.body().kvlist_value().values();
  ASSERT_EQ(members.size(), 3);
  EXPECT_EQ(members.at(0).value().string_value(), "200");
  EXPECT_TRUE(members.at(1).value().bool_value());
  EXPECT_EQ(members.at(2).value().array_value().values(0).int_value(), -5);
  EXPECT_EQ(members.at(2).value().array_value().values(1).double_value(), 0.5);
  const auto& other = message.resource_logs(1).scope_logs(0).log_records(0);
  EXPECT_TRUE(other.trace_id().empty() && other.span_id().empty());
  EXPECT_EQ(other.severity_text(), "ERROR");
  EXPECT_EQ(other.body().string_value(), "- on 198.18.0.2:8080");
}

TEST_F(AccessLogTest, AccountsForEveryLineAndLogRecord) {
  const test::ScriptedHttpServer server(
      [](const test::ServedRequest&) { return test::Respond(200); });
  auto log =
      *AccessLog::Start({.node = "node-a", .file = {.path = Path("own")}, .exporter = kQuick});
  const auto set = [&](std::vector<model::LogBackend> backends) {
    model::AccessLogs rules;
    rules[model::LocalId{1}].outbound = {{.matches = {}, .backends = std::move(backends)}};
    auto collector = CollectorAt(server.url());
    collector.signal = Signal::kLogs;
    return log
        ->SetRules(std::make_shared<const model::AccessLogs>(std::move(rules)),
                   {{.name = "there", .collector = collector}})
        .has_value();
  };
  const Record record = RequestOf(model::LocalId{1}, /*is_client=*/true);
  ASSERT_TRUE(set({To("a", "a"), OtlpBackend("there"), OtlpBackend("missing")}));
  log->Consume({record, record});
  ASSERT_TRUE(set({To("b", "b")}));
  log->Consume({record});
  log->Stop(std::chrono::seconds(10));
  const LogTotals totals = log->totals();
  EXPECT_EQ(totals.generated, 10U);  // 3 of its own, 2 of a, 2 there, 2 missing, 1 of b
  EXPECT_EQ(totals.exported, 8U);
  EXPECT_EQ(totals.dropped, 2U);
  EXPECT_EQ(totals.queued, 0U);
  const ExportStatus exports = log->exports();
  EXPECT_EQ(Dropped(exports.retired, ExportDrop::kNoExporter), 2U);
}

}  // namespace
}  // namespace weir::telemetry
