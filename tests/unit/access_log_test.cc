#include "agent/export/access_log.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/records.h"

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
    return {.path = Path(name),
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

}  // namespace
}  // namespace weir::telemetry
