#include "agent/admin/metrics_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <string>
#include <thread>

#include "agent/base/unique_fd.h"
#include "agent/client/http_client.h"

namespace weir::admin {
namespace {

using observe::MetricFamily;
using observe::MetricType;
using std::chrono::milliseconds;

class MetricsServerTest : public testing::Test {
 protected:
  void Start(std::size_t max_connections = 64, milliseconds timeout = std::chrono::seconds(10)) {
    auto server = MetricsServer::Start({.address = *base::IpAddress::Parse("127.0.0.1"),
                                        .metrics = [] { return Families(); },
                                        .max_connections = max_connections,
                                        .request_timeout = timeout});
    ASSERT_TRUE(server.has_value());
    server_ = std::move(*server);
  }
  static std::vector<MetricFamily> Families() {
    return {{"weir_a", "A.", MetricType::kCounter, {{.labels = {}, .value = 1}}},
            {"weir_b", "B.", MetricType::kGauge, {{.labels = {}, .value = 2}}}};
  }
  static model::MetricFilter Only(const std::string& name) {
    return *model::MetricFilter::Make(
        {.profiles = {model::MetricProfile::kNone},
         .include = {{.type = model::MetricSelector::Type::kExact, .match = name}}});
  }
  static base::Result<client::HttpResponse> Get(std::uint16_t port, const std::string& target,
                                                const std::string& method = "GET") {
    const auto url = client::ParseHttpUrl("http://127.0.0.1:" + std::to_string(port) + "/");
    client::HttpConnection connection(client::HttpPeer::Of(*url, {}));
    return connection.Send({.method = method, .target = target, .headers = {}, .body = {}},
                           {.timeout = milliseconds(20'000), .body_bytes = 1U << 20U});
  }
  double Value(const std::string& name) const {
    for (const MetricFamily& family : server_->Metrics()) {
      if (family.name == name) {
        return family.samples.at(0).value;
      }
    }
    return -1;
  }

  std::unique_ptr<MetricsServer> server_;
};

TEST_F(MetricsServerTest, ServesWhatTheFilterOfThePortAdmits) {
  Start();
  EXPECT_TRUE(server_->Metrics().at(0).samples.empty());
  ASSERT_TRUE(server_->SetPorts({{.port = 0}, {.port = 0, .path = "/m", .filter = Only("weir_b")}})
                  .empty());
  const auto ports = server_->ports();
  ASSERT_EQ(ports.size(), 2U);
  const auto all = Get(ports[0], "/metrics?x=1");
  ASSERT_TRUE(all.has_value());
  EXPECT_EQ(all->status, 200U);
  EXPECT_EQ(all->body, observe::RenderOpenMetrics(Families()));
  const auto some = Get(ports[1], "/m");
  ASSERT_TRUE(some.has_value());
  EXPECT_EQ(some->body, observe::RenderOpenMetrics({Families()[1]}));
  EXPECT_EQ(Get(ports[1], "/metrics")->status, 404U);
  EXPECT_EQ(Get(ports[1], "/v1/status")->status, 404U);
  EXPECT_EQ(Get(ports[1], "/m", "POST")->status, 405U);
  EXPECT_EQ(Value("weir_metrics_requests"), 5);
  EXPECT_EQ(Value("weir_metrics_port_open"), 1);
}

TEST_F(MetricsServerTest, TellsAPortInUseAndServesTheOthers) {
  Start();
  ASSERT_TRUE(server_->SetPorts({{.port = 0}}).empty());
  const std::uint16_t taken = server_->ports().at(0);
  auto second = MetricsServer::Start(
      {.address = *base::IpAddress::Parse("127.0.0.1"), .metrics = [] { return Families(); }});
  ASSERT_TRUE(second.has_value());
  const auto errors = (*second)->SetPorts({{.port = taken}, {.port = 0}});
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_NE(errors[0].ToString().find(std::to_string(taken)), std::string::npos);
  ASSERT_EQ((*second)->ports().size(), 1U);
  EXPECT_EQ(Get((*second)->ports()[0], "/metrics")->status, 200U);
  const auto open = (*second)->Metrics().at(0).samples;
  ASSERT_EQ(open.size(), 2U);
  EXPECT_EQ(open[1].value, 0);
  EXPECT_EQ(open[1].labels.at(0).second, std::to_string(taken));
}

TEST_F(MetricsServerTest, FollowsWhatIsAskedFor) {
  Start();
  ASSERT_TRUE(server_->SetPorts({{.port = 0}}).empty());
  const std::uint16_t port = server_->ports().at(0);
  ASSERT_TRUE(server_->SetPorts({{.port = port, .path = "/other"}}).empty());
  EXPECT_EQ(server_->ports(), std::vector<std::uint16_t>{port});
  EXPECT_EQ(Get(port, "/other")->status, 200U);
  ASSERT_TRUE(server_->SetPorts({}).empty());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (Get(port, "/other").has_value() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_FALSE(Get(port, "/other").has_value());
}

TEST_F(MetricsServerTest, EndsReadersThatAreTooSlowOrTooMany) {
  Start(/*max_connections=*/1, /*timeout=*/milliseconds(50));
  ASSERT_TRUE(server_->SetPorts({{.port = 0}}).empty());
  const base::RawSocketAddress at = base::ToSockaddr(
      {.address = *base::IpAddress::Parse("127.0.0.1"), .port = server_->ports().at(0)});
  const auto connect = [&] {
    base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), at.get(), at.length), 0);
    return fd;
  };
  const base::UniqueFd slow = connect();
  EXPECT_EQ(::send(slow.get(), "GET", 3, MSG_NOSIGNAL), 3);
  const base::UniqueFd more = connect();
  char byte = 0;
  EXPECT_LE(::recv(more.get(), &byte, 1, 0), 0);  // closed at once
  EXPECT_LE(::recv(slow.get(), &byte, 1, 0), 0);  // and this one when its time is over
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (Value("weir_metrics_refused") < 2 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_EQ(Value("weir_metrics_refused"), 2);
}

}  // namespace
}  // namespace weir::admin
