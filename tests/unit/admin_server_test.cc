#include "agent/admin/admin_server.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/unique_fd.h"
#include "agent/client/http_client.h"
#include "tests/support/flow_records.h"
#include "weir/v1/admin.pb.h"

namespace weir::admin {
namespace {

base::UniqueFd ConnectTo(const std::string& path) {
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return {};
  }
  timeval limit{.tv_sec = 10, .tv_usec = 0};
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  return fd;
}

void Send(int fd, const std::string& text) {
  EXPECT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
}

// Everything up to the end of the stream, or until `mark` has come.
std::string ReadUntil(int fd, const std::string& mark = "\1") {
  std::string text;
  char buffer[65536];
  while (text.find(mark) == std::string::npos) {
    const ssize_t count = ::recv(fd, buffer, sizeof(buffer), 0);
    if (count <= 0) {
      break;
    }
    text.append(buffer, static_cast<std::size_t>(count));
  }
  return text;
}

class AdminServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/weir-admin-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    options_.socket_path = directory_ + "/admin.sock";
    options_.node_name = "node-a";
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }

  static Providers TestProviders() {
    Providers providers;
    providers.status = [] {
      v1::Status status;
      status.set_version("1.2.3");
      status.add_workloads()->set_name("cart");
      return status;
    };
    providers.metrics = [] {
      return std::vector<observe::MetricFamily>{
          {.name = "weir_test", .help = "A test.", .samples = {{.labels = {}, .value = 3}}}};
    };
    providers.trace = [](std::string_view id) {
      v1::Trace trace;
      trace.mutable_summary()->set_trace_id(std::string(id));
      return id[0] == 'a' ? std::optional(trace) : std::nullopt;
    };
    providers.top = [](const TopQuery& query) {
      v1::TopList top;
      top.set_by(query.by);
      top.set_window_seconds(std::chrono::duration<double>(query.window).count());
      return top;
    };
    providers.ready = [] { return true; };
    providers.set_log_level = [](std::string_view level) -> base::Result<void> {
      if (level != "debug") {
        return base::MakeError(base::ErrorCode::kInvalidArgument, "unknown level");
      }
      return {};
    };
    return providers;
  }

  void Start(Providers providers = TestProviders()) {
    auto server = AdminServer::Start(options_, std::move(providers), store_);
    ASSERT_TRUE(server.has_value()) << server.error().ToString();
    server_ = std::move(*server);
  }

  client::HttpResponse Ask(const std::string& target, const std::string& method = "GET") {
    client::HttpConnection connection(client::HttpPeer::Unix(options_.socket_path));
    const auto response = connection.Send({.method = method, .target = target});
    EXPECT_TRUE(response.has_value()) << response.error().ToString();
    return response.value_or(client::HttpResponse{});
  }

  double Metric(const std::string& name, const std::string& reason) const {
    for (const auto& family : server_->Metrics()) {
      for (const auto& sample : family.samples) {
        if (family.name == name && (reason.empty() || sample.labels[0].second == reason)) {
          return sample.value;
        }
      }
    }
    return -1;
  }

  // The server counts on its own thread.
  bool WaitFor(const std::string& name, const std::string& reason, double value) const {
    for (int i = 0; i < 2000 && Metric(name, reason) != value; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return Metric(name, reason) == value;
  }

  std::string directory_;
  AdminOptions options_;
  FlowStore store_;
  std::unique_ptr<AdminServer> server_;
};

TEST_F(AdminServerTest, AnswersEveryPathWithItsTypeOrSaysWhyNot) {
  Start();
  EXPECT_NE(Ask("/v1/status").body.find("\"apiVersion\":\"weir/v1\""), std::string::npos);
  EXPECT_NE(Ask("/v1/workloads").body.find("\"name\":\"cart\""), std::string::npos);
  const auto metrics = Ask("/metrics");
  EXPECT_EQ(metrics.Find("Content-Type").substr(0, 28), "application/openmetrics-text");
  EXPECT_NE(metrics.body.find("weir_test_total 3\n"), std::string::npos) << metrics.body;
  EXPECT_NE(metrics.body.find("weir_admin_connections "), std::string::npos) << metrics.body;
  EXPECT_TRUE(metrics.body.ends_with("# EOF\n")) << metrics.body;
  EXPECT_EQ(Ask("/ready").body, "ready\n");
  EXPECT_EQ(Ask("/live").status, 200U);
  EXPECT_EQ(Ask("/v1/traces/" + std::string(32, 'a')).status, 200U);
  EXPECT_EQ(Ask("/v1/traces/" + std::string(32, 'b')).status, 404U);
  EXPECT_EQ(Ask("/v1/traces/x").status, 400U);
  EXPECT_EQ(Ask("/v1/map").status, 404U);  // no provider
  EXPECT_NE(Ask("/v1/top?by=path&window=5s").body.find("\"windowSeconds\":5"), std::string::npos);
  EXPECT_NE(Ask("/v1/top").body.find("\"by\":\"pair\""), std::string::npos);
  EXPECT_EQ(Ask("/v1/top?by=weight").status, 400U);
  EXPECT_EQ(Ask("/v1/top?window=0s").status, 400U);
  EXPECT_NE(Ask("/v1/stats").body.find("/v1/status"), std::string::npos);
  EXPECT_EQ(Ask("/v1/status", "POST").status, 405U);
  EXPECT_EQ(Ask("/v1/flows?filter=statsu%3D1").status, 400U);
}

TEST_F(AdminServerTest, IsNotReadyUntilItsProviderSaysSo) {
  Providers providers = TestProviders();
  providers.ready = [] { return false; };
  Start(std::move(providers));
  EXPECT_EQ(Ask("/ready").status, 503U);
}

TEST_F(AdminServerTest, ChangesOnlyByPost) {
  Start();
  EXPECT_EQ(Ask("/v1/log-level?level=debug").status, 405U);
  EXPECT_EQ(Ask("/v1/log-level?level=debug", "POST").status, 200U);
  EXPECT_EQ(Ask("/v1/log-level?level=loud", "POST").status, 400U);
  EXPECT_EQ(Ask("/v1/log-level", "POST").status, 400U);
  EXPECT_EQ(Ask("/v1/drain", "POST").status, 404U);  // no provider
}

TEST_F(AdminServerTest, GivesTheSocketItsModeAndTakesItAwayAgain) {
  Start();
  struct stat status{};
  ASSERT_EQ(::stat(options_.socket_path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0660U);
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(options_.socket_path));
}

TEST_F(AdminServerTest, RefusesToStartBesideALiveAgent) {
  Start();
  const auto second = AdminServer::Start(options_, TestProviders(), store_);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code(), base::ErrorCode::kAlreadyExists);
  EXPECT_NE(second.error().message().find("an agent is already running"), std::string::npos);
  EXPECT_EQ(Ask("/live").status, 200U);  // the first one is unharmed
}

TEST_F(AdminServerTest, ReplacesTheSocketOfADeadAgent) {
  {
    base::UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, options_.socket_path.data(), options_.socket_path.size());
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(::listen(dead.get(), 1), 0);
  }
  ASSERT_TRUE(std::filesystem::exists(options_.socket_path));
  Start();
  EXPECT_EQ(Ask("/live").status, 200U);
}

TEST_F(AdminServerTest, LeavesAloneWhatIsNotASocket) {
  std::ofstream(options_.socket_path) << "precious";
  const auto server = AdminServer::Start(options_, TestProviders(), store_);
  ASSERT_FALSE(server.has_value());
  EXPECT_NE(server.error().message().find("is not a socket"), std::string::npos);
  EXPECT_EQ(std::filesystem::file_size(options_.socket_path), 8U);
}

TEST_F(AdminServerTest, NamesWhatIsWrongWithItsOptions) {
  options_.group = "no-such-group-of-weir";
  const auto group = AdminServer::Start(options_, TestProviders(), store_);
  ASSERT_FALSE(group.has_value());
  EXPECT_NE(group.error().ToString().find("no-such-group-of-weir"), std::string::npos);
  options_.group.clear();
  options_.socket_path = directory_ + "/" + std::string(120, 'x');
  EXPECT_EQ(AdminServer::Start(options_, TestProviders(), store_).error().code(),
            base::ErrorCode::kInvalidArgument);
  options_.socket_path = directory_ + "/none/admin.sock";
  EXPECT_EQ(AdminServer::Start(options_, TestProviders(), store_).error().code(),
            base::ErrorCode::kNotFound);
}

TEST_F(AdminServerTest, ServesOnlyHarmlessPathsByTcp) {
  options_.metrics_endpoint = *base::Endpoint::Parse("127.0.0.1:0");
  Start();
  const auto address = server_->metrics_address();
  ASSERT_TRUE(address.has_value());
  client::HttpConnection connection(client::HttpPeer::Tcp("127.0.0.1", address->port));
  EXPECT_EQ(connection.Send({.target = "/metrics"})->status, 200U);
  EXPECT_EQ(connection.Send({.target = "/ready"})->status, 200U);
  EXPECT_EQ(connection.Send({.target = "/v1/status"})->status, 404U);
  EXPECT_EQ(connection.Send({.target = "/v1/flows"})->status, 404U);
  EXPECT_EQ(connection.Send({.method = "POST", .target = "/v1/log-level?level=debug"})->status,
            404U);
}

TEST_F(AdminServerTest, IsUsableWithCurl) {
  Start();
  store_.Consume(test::MakeRequests(3));
  const std::string command = "curl -sS --max-time 10 --unix-socket " + options_.socket_path +
                              " 'http://weir/v1/flows?last=2' > " + directory_ + "/out";
  ASSERT_EQ(std::system(command.c_str()), 0);
  std::ifstream out(directory_ + "/out");
  std::vector<std::string> lines;
  for (std::string line; std::getline(out, line);) {
    lines.push_back(line);
  }
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_NE(lines[1].find("\"path\":\"/2\""), std::string::npos) << lines[1];
  EXPECT_TRUE(lines[2].starts_with("{\"summary\":{\"seen\":\"2\"")) << lines[2];
}

TEST_F(AdminServerTest, StreamsWhatComesToAFollower) {
  Start();
  const base::UniqueFd fd = ConnectTo(options_.socket_path);
  Send(fd.get(), "GET /v1/flows?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(ReadUntil(fd.get(), "\"summary\"").find("Transfer-Encoding: chunked"),
            std::string::npos);
  store_.Consume(test::MakeRequests(1));
  EXPECT_NE(ReadUntil(fd.get(), "\"path\":\"/0\"").find("\"path\":\"/0\""), std::string::npos);
}

TEST_F(AdminServerTest, ClosesWhatIsNotHttpTooLongOrTooSlow) {
  options_.request_timeout = std::chrono::milliseconds(300);
  Start();
  const base::UniqueFd garbage = ConnectTo(options_.socket_path);
  Send(garbage.get(), "\x16\x03\x01 what is this\r\n\r\n");
  EXPECT_EQ(ReadUntil(garbage.get()), "");
  const base::UniqueFd long_header = ConnectTo(options_.socket_path);
  Send(long_header.get(), "GET / HTTP/1.1\r\nX: " + std::string(17U << 10U, 'a') + "\r\n\r\n");
  EXPECT_EQ(ReadUntil(long_header.get()), "");
  EXPECT_TRUE(WaitFor("weir_admin_refused", "bad-request", 2));
  const base::UniqueFd slow = ConnectTo(options_.socket_path);
  Send(slow.get(), "GET / HT");
  EXPECT_EQ(ReadUntil(slow.get()), "");
  EXPECT_TRUE(WaitFor("weir_admin_refused", "timeout", 1));
}

TEST_F(AdminServerTest, RefusesConnectionsBeyondItsLimit) {
  options_.max_connections = 3;
  Start();
  std::vector<base::UniqueFd> open;
  for (int i = 0; i < 3; ++i) {
    open.push_back(ConnectTo(options_.socket_path));
  }
  ASSERT_TRUE(WaitFor("weir_admin_connections", "", 3));
  const base::UniqueFd fourth = ConnectTo(options_.socket_path);
  EXPECT_EQ(ReadUntil(fourth.get()), "");
  EXPECT_TRUE(WaitFor("weir_admin_refused", "connection-limit", 1));
  open.pop_back();
  ASSERT_TRUE(WaitFor("weir_admin_connections", "", 2));
  EXPECT_EQ(Ask("/live").status, 200U);
}

// F44: 1,000 followers, half of which never read; the writer's batches cost what they cost
// without them within a wide margin, and the others get every flow.
TEST_F(AdminServerTest, ServesAThousandReadersHalfOfThemStalled) {
  Start();
  std::vector<base::UniqueFd> readers;
  for (int i = 0; i < 1000; ++i) {
    readers.push_back(ConnectTo(options_.socket_path));
    ASSERT_TRUE(readers.back().valid());
    Send(readers.back().get(),
         "GET /v1/flows?follow=1&filter=path%3D/9 HTTP/1.1\r\nHost: x\r\n\r\n");
  }
  ASSERT_TRUE(WaitFor("weir_admin_followers", "", 1000));
  for (std::size_t i = 0; i < readers.size(); i += 2) {
    // Has its first summary, so it follows from before the flows.
    ASSERT_NE(ReadUntil(readers[i].get(), "\"summary\"").find("\"summary\""), std::string::npos);
  }
  const auto batch = test::MakeRequests(10);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) {
    store_.Consume(batch);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
  for (std::size_t i = 0; i < readers.size(); i += 2) {
    std::string text;
    for (int flow = 0; flow < 20; ++flow) {
      std::size_t count = 0;
      for (std::size_t at = text.find("\"path\""); at != std::string::npos;
           at = text.find("\"path\"", at + 1)) {
        ++count;
      }
      if (count >= 20) {
        break;
      }
      text += ReadUntil(readers[i].get(), "\"path\"");
    }
    ASSERT_NE(text.find("\"path\":\"/9\""), std::string::npos) << i;
  }
  EXPECT_EQ(Ask("/live").status, 200U);
  readers.clear();
  store_.Consume(batch);
  EXPECT_TRUE(WaitFor("weir_admin_followers", "", 0));
}

TEST_F(AdminServerTest, EndsWithFollowersUnderWay) {
  Start();
  const base::UniqueFd fd = ConnectTo(options_.socket_path);
  Send(fd.get(), "GET /v1/flows?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n");
  (void)ReadUntil(fd.get(), "\"summary\"");
  server_.reset();
  (void)ReadUntil(fd.get());
  char byte = 0;
  EXPECT_LE(::recv(fd.get(), &byte, 1, 0), 0);
}

}  // namespace
}  // namespace weir::admin
