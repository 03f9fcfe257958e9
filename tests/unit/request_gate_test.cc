// What the relays do with requests that their gate turns down.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/proxy/http1_relay.h"
#include "agent/proxy/http2_relay.h"
#include "agent/proxy/text.h"
#include "tests/support/h2_relay_rig.h"

namespace weir::test {
namespace {

using http::kH2FlagEndHeaders;
using http::kH2FlagEndStream;
using observe::Reason;
using proxy::HttpRelay;

// Turns down what is below /secret, and notes a rule for it.
class Gate final : public proxy::RequestGate, public proxy::ExchangeHandler {
 public:
  bool AdmitsRequest(const proxy::RequestFacts& request,
                     observe::ExchangeResult& exchange) noexcept override {
    asked.emplace_back(request.path);
    exchange.policy = "gate";
    return !request.path.starts_with("/secret");
  }
  void OnExchange(observe::ExchangeResult&& exchange) noexcept override {
    exchanges.push_back(std::move(exchange));
  }
  void OnRequestStart(const observe::ExchangeResult& exchange, std::size_t open) noexcept override {
    (void)open;
    started.push_back(exchange.http.path);
  }

  std::vector<std::string> asked;
  std::vector<std::string> started;  // those that the application gets
  std::vector<observe::ExchangeResult> exchanges;
};

class Http1GateTest : public testing::Test {
 protected:
  HttpRelay::Result Send(std::string_view bytes) {
    const auto result = relay_.OnDownstreamBytes(proxy::AsBytes(bytes), out());
    to_server_.Append(result.direct);
    return result;
  }
  HttpRelay::Result Answer(std::string_view bytes) {
    const auto result = relay_.OnUpstreamBytes(proxy::AsBytes(bytes), out());
    to_client_.Append(result.direct);
    return result;
  }
  HttpRelay::Output out() { return {.to_upstream = to_server_, .to_downstream = to_client_}; }
  std::string server() { return std::string(proxy::AsText(to_server_.Readable())); }
  std::string client() { return std::string(proxy::AsText(to_client_.Readable())); }

  base::ManualClock clock_;
  proxy::Http1Context context_{clock_};
  Gate gate_;
  proxy::Http1Options options_{.limits = {}, .gate = &gate_};
  proxy::Http1Relay relay_{context_, options_, gate_};
  io::ByteBuffer to_server_;
  io::ByteBuffer to_client_;
};

TEST_F(Http1GateTest, AnswersWhatMayNotBeAskedAndPassesNothingOn) {
  const auto result =
      Send("POST /secret/x?k=v HTTP/1.1\r\nHost: s\r\nContent-Length: 4\r\n\r\nbody");
  EXPECT_EQ(result.action, HttpRelay::Action::kClose);
  EXPECT_EQ(result.reason, Reason::kPolicyDenied);
  EXPECT_EQ(server(), "");
  EXPECT_EQ(client(),
            "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 26\r\n"
            "Connection: close\r\n\r\nweir: forbidden by policy\n");
  ASSERT_EQ(gate_.exchanges.size(), 1U);
  EXPECT_EQ(gate_.exchanges[0].reason, Reason::kPolicyDenied);
  EXPECT_EQ(gate_.exchanges[0].policy, "gate");
  EXPECT_EQ(gate_.exchanges[0].http.status, 403);
  EXPECT_EQ(gate_.exchanges[0].http.path, "/secret/x");
  EXPECT_TRUE(gate_.started.empty());
}

TEST_F(Http1GateTest, AnswersAHeadRequestWithoutABody) {
  (void)Send("HEAD /secret HTTP/1.1\r\nHost: s\r\n\r\n");
  EXPECT_TRUE(client().ends_with("Connection: close\r\n\r\n")) << client();
}

TEST_F(Http1GateTest, AnswersInTheOrderOfTheRequests) {
  const auto sent = Send(
      "GET /open HTTP/1.1\r\nHost: s\r\n\r\nGET /secret HTTP/1.1\r\nHost: s\r\n\r\n"
      "GET /never HTTP/1.1\r\nHost: s\r\n\r\n");
  EXPECT_EQ(sent.action, HttpRelay::Action::kContinue);
  EXPECT_EQ(server(), "GET /open HTTP/1.1\r\nHost: s\r\n\r\n");
  EXPECT_EQ(client(), "");
  const auto answered = Answer("HTTP/1.1 204 No Content\r\n\r\n");
  EXPECT_EQ(answered.action, HttpRelay::Action::kClose);
  EXPECT_TRUE(client().starts_with("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 403 Forbidden\r\n"))
      << client();
  EXPECT_EQ(gate_.asked, (std::vector<std::string>{"/open", "/secret"}));
  EXPECT_EQ(gate_.started, (std::vector<std::string>{"/open"}));
}

TEST_F(Http1GateTest, AsksOnlyAboutWholeGoodHeads) {
  (void)Send("GET /secret HTTP/1.1\r\nHo");
  EXPECT_TRUE(gate_.asked.empty());
  (void)Send("st: s\r\nHost: again\r\n\r\n");
  EXPECT_TRUE(gate_.asked.empty());
  EXPECT_TRUE(client().starts_with("HTTP/1.1 400 Bad Request\r\n"));
}

TEST(Http2GateTest, AnswersTheStreamAloneAndNeverTellsTheServer) {
  base::ManualClock clock;
  proxy::Http1Context context(clock);
  Gate gate;
  proxy::Http2Relay relay(context, proxy::Http2Options{.limits = {}, .gate = &gate}, gate);
  io::ByteBuffer to_server;
  io::ByteBuffer to_client;
  const HttpRelay::Output out{.to_upstream = to_server, .to_downstream = to_client};
  FrameLog client;
  FrameLog server;
  const auto send = [&](const Wire& wire) {
    const auto result = relay.OnDownstreamBytes(wire.bytes(), out);
    server.Append(to_server.Readable());
    server.Append(result.direct);
    client.Append(to_client.Readable());
    to_server.Clear();
    to_client.Clear();
    return result.action;
  };
  EXPECT_EQ(send(Wire().Preface().Settings()), HttpRelay::Action::kContinue);
  Wire settings;
  settings.Settings().SettingsAck();
  const auto begun = relay.OnUpstreamBytes(settings.bytes(), out);
  client.Append(to_client.Readable());
  client.Append(begun.direct);
  to_client.Clear();
  auto call = RequestFields("/secret.Vault/Open");
  call.push_back({.name = "content-type", .value = "application/grpc"});
  EXPECT_EQ(send(Wire()
                     .Headers(1, RequestFields("/secret"), kH2FlagEndHeaders | kH2FlagEndStream)
                     .Headers(3, call)
                     .Data(3, "12345", kH2FlagEndStream)
                     .Headers(5, RequestFields("/open"), kH2FlagEndHeaders | kH2FlagEndStream)),
            HttpRelay::Action::kContinue);
  const auto lists = server.Lists();
  ASSERT_EQ(lists.size(), 1U);
  EXPECT_TRUE(lists[0].starts_with("5 END ")) << lists[0];
  EXPECT_TRUE(server.Frames(http::H2FrameType::kData).empty());
  EXPECT_EQ(client.Lists(),
            (std::vector<std::string>{"1 END :status=403 content-length=0",
                                      "3 END :status=200 content-type=application/grpc "
                                      "grpc-status=7 grpc-message=forbidden by policy"}));
  ASSERT_EQ(gate.exchanges.size(), 2U);
  EXPECT_EQ(gate.exchanges[1].http.grpc_status, 7);
  EXPECT_EQ(gate.exchanges[1].reason, Reason::kPolicyDenied);
  EXPECT_EQ(gate.started, (std::vector<std::string>{"/open"}));
}

}  // namespace
}  // namespace weir::test
