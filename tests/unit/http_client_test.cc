#include "agent/client/http_client.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "tests/support/scripted_http_server.h"

namespace weir::client {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;
using test::Respond;
using test::ScriptedHttpServer;
using test::ServedReply;
using test::ServedRequest;
using Then = ServedReply::Then;

HttpPeer PeerOf(const ScriptedHttpServer& server) {
  return HttpPeer::Tcp("127.0.0.1", server.port());
}

ServedReply Raw(std::vector<std::string> pieces, Then then = Then::kKeepAlive) {
  return {.pieces = std::move(pieces), .then = then};
}

TEST(HttpUrlTest, SplitsHostPortAndTarget) {
  const auto url = ParseHttpUrl("http://collector:4318/v1/traces?x=1");
  ASSERT_TRUE(url.has_value());
  EXPECT_EQ(url->host, "collector");
  EXPECT_EQ(url->port, 4318);
  EXPECT_EQ(url->target, "/v1/traces?x=1");
  EXPECT_EQ(url->origin(), "http://collector:4318");
}

TEST(HttpUrlTest, FillsInDefaults) {
  const auto url = ParseHttpUrl("HTTP://[2001:db8::1]");
  ASSERT_TRUE(url.has_value());
  EXPECT_EQ(url->host, "2001:db8::1");
  EXPECT_EQ(url->port, 80);
  EXPECT_EQ(url->target, "/");
  EXPECT_EQ(url->origin(), "http://[2001:db8::1]");
}

TEST(HttpUrlTest, RefusesWhatIsNotAPlainHttpUrl) {
  for (const char* url : {"collector:4318", "ftp://a/", "http://", "http://a:0/", "http://a:65536/",
                          "http://a:/", "http://u:p@a/", "http://a/#f", "http://a b/",
                          "http://[::1/", "http://[::1]x/", "http://a\r\nHost: b/", "http://a!/"}) {
    const auto parsed = ParseHttpUrl(url);
    ASSERT_FALSE(parsed.has_value()) << url;
    EXPECT_EQ(parsed.error().code(), ErrorCode::kInvalidArgument) << url;
  }
}

TEST(HttpUrlTest, KnowsHttps) {
  const auto url = ParseHttpUrl("https://collector/v1/traces");
  ASSERT_TRUE(url.has_value());
  EXPECT_TRUE(url->is_tls);
  EXPECT_EQ(url->port, 443);
  EXPECT_EQ(url->origin(), "https://collector");
  EXPECT_EQ(ParseHttpUrl("https://collector:80")->origin(), "https://collector:80");
}

TEST(HttpClientTest, SendsRequestAndReadsCountedResponse) {
  ScriptedHttpServer server(
      [](const ServedRequest&) { return Respond(201, "made", "X-Kind: thing\r\n"); });
  HttpConnection connection(PeerOf(server));
  const auto response = connection.Send({.method = "POST",
                                         .target = "/a?b=c",
                                         .headers = {{"Content-Type", "text/plain"}},
                                         .body = "hello"});
  ASSERT_TRUE(response.has_value()) << response.error().ToString();
  EXPECT_EQ(response->status, 201U);
  EXPECT_EQ(response->body, "made");
  EXPECT_EQ(response->Find("x-kind"), "thing");
  const ServedRequest request = server.requests().at(0);
  EXPECT_TRUE(request.head.starts_with("POST /a?b=c HTTP/1.1\r\n")) << request.head;
  EXPECT_EQ(request.Field("content-type"), "text/plain");
  EXPECT_EQ(request.Field("host"), "127.0.0.1:" + std::to_string(server.port()));
  EXPECT_EQ(request.body, "hello");
}

TEST(HttpClientTest, KeepsConnectionAndReopensClosedOne) {
  ScriptedHttpServer server([n = 0](const ServedRequest&) mutable {
    ServedReply reply = Respond(200, "ok");
    reply.then = ++n == 2 ? Then::kClose : Then::kKeepAlive;
    return reply;
  });
  HttpConnection connection(PeerOf(server));
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(connection.Send({}).has_value());
  }
  EXPECT_EQ(server.connections(), 1);
  // The close may still be on its way, so the first attempt may fail; none is sent twice.
  auto third = connection.Send({});
  if (!third) {
    third = connection.Send({});
  }
  ASSERT_TRUE(third.has_value()) << third.error().ToString();
  EXPECT_EQ(server.connections(), 2);
}

TEST(HttpClientTest, ReadsChunkedBodyAndBodyUntilClose) {
  ScriptedHttpServer server([n = 0](const ServedRequest&) mutable {
    return ++n == 1 ? Raw({"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab", "cd\r\n",
                           "1\r\ne\r\n0\r\n\r\n"})
                    : Raw({"HTTP/1.1 200 OK\r\n\r\nall of ", "it"}, Then::kClose);
  });
  HttpConnection connection(PeerOf(server));
  EXPECT_EQ(connection.Send({})->body, "abcde");
  EXPECT_EQ(connection.Send({})->body, "all of it");
}

TEST(HttpClientTest, SkipsInterimResponses) {
  ScriptedHttpServer server([](const ServedRequest&) {
    return Raw({"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"});
  });
  HttpConnection connection(PeerOf(server));
  EXPECT_EQ(connection.Send({})->status, 204U);
}

TEST(HttpClientTest, TimesOutWhenServerSaysNothing) {
  ScriptedHttpServer server([](const ServedRequest&) { return Raw({}, Then::kHold); });
  HttpConnection connection(PeerOf(server));
  const auto response = connection.Send({}, {.timeout = milliseconds(50)});
  ASSERT_FALSE(response.has_value());
  EXPECT_EQ(response.error().code(), ErrorCode::kTimeout);
}

TEST(HttpClientTest, TimesOutWhenBodyDoesNotEnd) {
  ScriptedHttpServer server([](const ServedRequest&) {
    return Raw({"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"}, Then::kHold);
  });
  HttpConnection connection(PeerOf(server));
  EXPECT_EQ(connection.Send({}, {.timeout = milliseconds(50)}).error().code(), ErrorCode::kTimeout);
}

TEST(HttpClientTest, SaysHowAnExchangeBroke) {
  struct Case {
    ServedReply reply;
    ErrorCode expected;
  };
  const std::vector<Case> cases = {
      {Raw({}, Then::kReset), ErrorCode::kUnavailable},
      {Raw({}, Then::kClose), ErrorCode::kUnavailable},
      {Raw({"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"}, Then::kClose),
       ErrorCode::kUnavailable},
      {Raw({"SSH-2.0-OpenSSH\r\n"}, Then::kClose), ErrorCode::kProtocol},
      {Raw({"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"}), ErrorCode::kProtocol},
      {Respond(200, std::string(4097, 'x')), ErrorCode::kLimit},
      {Raw({"HTTP/1.1 200 OK\r\nX: " + std::string(1025, 'x') + "\r\n\r\n"}), ErrorCode::kLimit},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    ScriptedHttpServer server([&](const ServedRequest&) { return cases[i].reply; });
    HttpConnection connection(PeerOf(server));
    const auto response = connection.Send({}, {.body_bytes = 4096, .header_bytes = 1024});
    ASSERT_FALSE(response.has_value()) << i;
    EXPECT_EQ(response.error().code(), cases[i].expected) << i << response.error().ToString();
  }
}

TEST(HttpClientTest, AcceptsBodyOfExactlyTheLimit) {
  ScriptedHttpServer server(
      [](const ServedRequest&) { return Respond(200, std::string(4096, 'x')); });
  HttpConnection connection(PeerOf(server));
  EXPECT_EQ(connection.Send({}, {.body_bytes = 4096})->body.size(), 4096U);
}

TEST(HttpClientTest, ReportsRefusedConnectionAndMissingSocket) {
  std::uint16_t port = 0;
  {
    const ScriptedHttpServer gone([](const ServedRequest&) { return Respond(200); });
    port = gone.port();
  }
  EXPECT_EQ(HttpConnection(HttpPeer::Tcp("127.0.0.1", port)).Send({}).error().code(),
            ErrorCode::kUnavailable);
  EXPECT_EQ(HttpConnection(HttpPeer::Unix("/nonexistent/weir.sock")).Send({}).error().code(),
            ErrorCode::kNotFound);
}

TEST(HttpClientTest, RefusesHeadersThatCouldSplitTheRequest) {
  HttpConnection connection(HttpPeer::Tcp("127.0.0.1", 1));
  for (const HttpHeader& header :
       {HttpHeader{"X", "a\r\nY: b"}, HttpHeader{"X Y", "a"}, HttpHeader{"", "a"}}) {
    EXPECT_EQ(connection.Send({.headers = {header}}).error().code(), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(connection.Send({.target = "/a b"}).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(connection.Send({.method = "BREW"}).error().code(), ErrorCode::kInvalidArgument);
}

TEST(HttpClientTest, ResolvesNames) {
  ScriptedHttpServer server([](const ServedRequest&) { return Respond(200); });
  HttpConnection connection(HttpPeer::Tcp("localhost", server.port()));
  const auto response = connection.Send({});
  ASSERT_TRUE(response.has_value()) << response.error().ToString();
}

class HttpStreamTest : public testing::Test {
 protected:
  void TearDown() override { ::unlink(path_.c_str()); }
  std::string path_ = "/tmp/weir-http-client-test-" + std::to_string(::getpid()) + ".sock";
};

TEST_F(HttpStreamTest, GivesPiecesAsTheyComeOverUnixSocket) {
  ScriptedHttpServer server(
      [](const ServedRequest&) {
        return Raw({"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\na\n\r\n",
                    "2\r\nb\n\r\n0\r\n\r\n"});
      },
      path_);
  HttpConnection connection(HttpPeer::Unix(path_));
  std::string got;
  const auto response = connection.Stream({.target = "/v1/flows?follow=1"}, [&](auto chunk) {
    got += chunk;
    return true;
  });
  ASSERT_TRUE(response.has_value()) << response.error().ToString();
  EXPECT_EQ(got, "a\nb\n");
  EXPECT_EQ(response->status, 200U);
}

TEST_F(HttpStreamTest, EndsWhenTheReaderHasEnough) {
  ScriptedHttpServer server(
      [](const ServedRequest&) { return Raw({"HTTP/1.1 200 OK\r\n\r\nfirst\n"}, Then::kHold); },
      path_);
  HttpConnection connection(HttpPeer::Unix(path_));
  EXPECT_TRUE(connection.Stream({}, [](auto) { return false; }).has_value());
}

TEST_F(HttpStreamTest, IsCancelledFromAnotherThreadWhileItWaits) {
  ScriptedHttpServer server(
      [](const ServedRequest&) { return Raw({"HTTP/1.1 200 OK\r\n\r\nfirst\n"}, Then::kHold); },
      path_);
  HttpConnection connection(HttpPeer::Unix(path_));
  std::jthread canceller;
  const auto response = connection.Stream({}, [&](auto) {
    canceller = std::jthread([&] { connection.Cancel(); });
    return true;
  });
  ASSERT_FALSE(response.has_value());
  EXPECT_EQ(response.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(response.error().message().find("cancelled"), std::string::npos);
  EXPECT_FALSE(connection.Send({}).has_value());
}

TEST_F(HttpStreamTest, ReturnsBodyOfARefusal) {
  ScriptedHttpServer server([](const ServedRequest&) { return Respond(403, "not you"); }, path_);
  HttpConnection connection(HttpPeer::Unix(path_));
  const auto response = connection.Stream({}, [](auto) { return true; });
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->status, 403U);
  EXPECT_EQ(response->body, "not you");
}

}  // namespace
}  // namespace weir::client
