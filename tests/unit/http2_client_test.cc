#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "agent/base/clock.h"
#include "agent/client/gzip.h"
#include "agent/client/http_client.h"
#include "tests/support/scripted_http2_server.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_pki.h"

namespace weir::client {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;
using test::CallReply;
using test::GrpcOk;
using test::ScriptedHttp2Server;
using test::ServedCall;
using Then = CallReply::Then;

HttpRequest Post(std::string body = "hello") {
  return {
      .method = "POST", .target = "/a/b", .headers = {{"X-Name", "v"}}, .body = std::move(body)};
}

HttpPeer PeerOf(const ScriptedHttp2Server& server) {
  return HttpPeer::Tcp("127.0.0.1", server.port());
}

TEST(Http2ClientTest, SendsRequestsOnOneConnectionAndReadsTrailers) {
  const ScriptedHttp2Server server([](const ServedCall&) { return GrpcOk("answer"); });
  Http2Connection connection(PeerOf(server));
  for (int i = 0; i < 3; ++i) {
    const auto response = connection.Send(Post());
    ASSERT_TRUE(response.has_value()) << response.error().ToString();
    EXPECT_EQ(response->status, 200U);
    EXPECT_EQ(response->Find("content-type"), "application/grpc");
    EXPECT_EQ(response->body.substr(5), "answer");
    EXPECT_EQ(response->trailers, (std::vector<HttpHeader>{{"grpc-status", "0"}}));
    EXPECT_FALSE(response->reset_code.has_value());
  }
  EXPECT_EQ(server.connections(), 1);
  const ServedCall call = server.calls().at(2);
  EXPECT_EQ(call.path, "/a/b");
  EXPECT_EQ(call.Field(":authority"), "127.0.0.1:" + std::to_string(server.port()));
  EXPECT_EQ(call.Field("x-name"), "v");
  EXPECT_EQ(call.body, "hello");
}

TEST(Http2ClientTest, SendsABodyBeyondEveryWindow) {
  const ScriptedHttp2Server server([](const ServedCall&) { return GrpcOk(); });
  Http2Connection connection(PeerOf(server));
  const std::string body(20U << 20U, 'x');
  const auto response = connection.Send(Post(body), {.timeout = milliseconds(60'000)});
  ASSERT_TRUE(response.has_value()) << response.error().ToString();
  EXPECT_EQ(server.calls().at(0).body, body);
}

TEST(Http2ClientTest, BoundsTheBodyAndTheHeader) {
  const ScriptedHttp2Server server([n = 0](const ServedCall&) mutable {
    CallReply reply = GrpcOk(std::string(100'000, 'x'));
    if (++n == 2) {
      reply = GrpcOk();
      reply.header.emplace_back("x-long", std::string(9'000, 'x'));
    }
    return reply;
  });
  Http2Connection connection(PeerOf(server));
  EXPECT_EQ(connection.Send(Post(), {.body_bytes = 100'004}).error().code(), ErrorCode::kLimit);
  EXPECT_EQ(connection.Send(Post(), {.header_bytes = 8'000}).error().code(), ErrorCode::kLimit);
  const auto response = connection.Send(Post(), {.body_bytes = 100'005});
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->body.size(), 100'005U);
}

TEST(Http2ClientTest, GivesAResetAsAResponse) {
  const ScriptedHttp2Server server([](const ServedCall&) {
    return CallReply{.body = "part", .reset_code = NGHTTP2_ENHANCE_YOUR_CALM};
  });
  Http2Connection connection(PeerOf(server));
  const auto response = connection.Send(Post());
  ASSERT_TRUE(response.has_value()) << response.error().ToString();
  EXPECT_EQ(response->reset_code, NGHTTP2_ENHANCE_YOUR_CALM);
}

TEST(Http2ClientTest, DoesNotBelieveALyingContentLength) {
  const ScriptedHttp2Server server([](const ServedCall&) {
    CallReply reply = GrpcOk("answer");
    reply.header.emplace_back("content-length", "3");
    return reply;
  });
  const auto response = Http2Connection(PeerOf(server)).Send(Post());
  ASSERT_TRUE(response.has_value()) << response.error().ToString();
  EXPECT_EQ(response->reset_code, NGHTTP2_PROTOCOL_ERROR);
}

TEST(Http2ClientTest, OpensAnotherConnectionAfterGoAwayOrClose) {
  const ScriptedHttp2Server server([n = 0](const ServedCall&) mutable {
    CallReply reply = GrpcOk();
    if (++n == 1) {
      reply.then = Then::kClose;
    } else if (n == 2) {
      reply.then = Then::kGoAway;
    }
    return reply;
  });
  Http2Connection connection(PeerOf(server));
  EXPECT_TRUE(connection.Send(Post()).has_value());
  const auto refused = connection.Send(Post());
  ASSERT_TRUE(refused.has_value()) << refused.error().ToString();
  EXPECT_EQ(refused->reset_code, NGHTTP2_REFUSED_STREAM);
  const auto answered = connection.Send(Post());
  ASSERT_TRUE(answered.has_value());
  EXPECT_FALSE(answered->reset_code.has_value());
  EXPECT_EQ(server.connections(), 3);
}

TEST(Http2ClientTest, NamesFailuresOfTheConnection) {
  struct Case {
    CallReply reply;
    ErrorCode code;
  };
  const std::vector<Case> cases = {
      {{.then = Then::kReset}, ErrorCode::kUnavailable},
      {{.body = "HTTP/1.1 400 Bad Request\r\n\r\n", .then = Then::kRaw}, ErrorCode::kProtocol},
      {{.body = std::string(100, '\0'), .then = Then::kRaw}, ErrorCode::kProtocol},
      {{.then = Then::kHold}, ErrorCode::kTimeout},
  };
  for (const Case& c : cases) {
    const ScriptedHttp2Server server([&](const ServedCall&) { return c.reply; });
    const auto response =
        Http2Connection(PeerOf(server)).Send(Post(), {.timeout = milliseconds(300)});
    ASSERT_FALSE(response.has_value());
    EXPECT_EQ(response.error().code(), c.code) << response.error().ToString();
  }
}

TEST(Http2ClientTest, EndsWhenItIsCancelled) {
  const ScriptedHttp2Server server(
      [](const ServedCall&) { return CallReply{.then = Then::kHold}; });
  Http2Connection connection(PeerOf(server));
  std::thread canceller([&] {
    EXPECT_TRUE(server.WaitForCalls(1));
    connection.Cancel();
  });
  const auto response = connection.Send(Post(), {.timeout = milliseconds(60'000)});
  canceller.join();
  EXPECT_EQ(response.error().code(), ErrorCode::kUnavailable);
}

// A server with a certificate for 127.0.0.1, and files for a client that it knows.
class Http2TlsTest : public testing::Test {
 protected:
  Http2TlsTest() {
    const test::TestCertificate leaf = Make("DNS:localhost,IP:127.0.0.1", &root_);
    const test::TestCertificate client = Make("DNS:client", &root_);
    Write("root.pem", root_.Pem());
    Write("client.pem", client.Pem());
    Write("client.key", client.KeyPem());
    files_.roots = Path("root.pem");
    tls_.reset(::SSL_CTX_new(::TLS_method()));
    EXPECT_EQ(::SSL_CTX_use_certificate(tls_.get(), leaf.certificate.get()), 1);
    EXPECT_EQ(::SSL_CTX_use_PrivateKey(tls_.get(), leaf.key.get()), 1);
  }

  [[nodiscard]] std::string Path(const std::string& name) const { return directory_.File(name); }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name)) << text;
  }
  [[nodiscard]] static test::TestCertificate Make(const std::string& names,
                                                  const test::TestCertificate* issuer) {
    const std::int64_t now = std::chrono::duration_cast<std::chrono::seconds>(
                                 base::SystemClock().WallNow().time_since_epoch())
                                 .count();
    test::CertificateSpec spec;
    spec.common_name = names.empty() ? "root" : "leaf";
    spec.names = names;
    spec.not_before = now - 60;
    spec.not_after = now + 3600;
    if (issuer == nullptr) {
      spec.basic_constraints = "critical,CA:TRUE";
      spec.key_usage = "critical,keyCertSign,cRLSign";
    }
    return test::MakeCertificate(spec, issuer);
  }
  void StartServer() {
    server_ = std::make_unique<ScriptedHttp2Server>([](const ServedCall&) { return GrpcOk("tls"); },
                                                    std::move(tls_));
  }
  [[nodiscard]] base::Result<HttpResponse> Send(const std::string& host) const {
    return Http2Connection(
               HttpPeer::Of({.host = host, .port = server_->port(), .is_tls = true}, files_))
        .Send(Post());
  }

  test::TemporaryDirectory directory_;
  test::TestCertificate root_ = Make("", nullptr);
  TlsFiles files_;
  bssl::UniquePtr<SSL_CTX> tls_;
  std::unique_ptr<ScriptedHttp2Server> server_;
};

TEST_F(Http2TlsTest, SpeaksToAServerThatItTrusts) {
  StartServer();
  for (const char* host : {"127.0.0.1", "localhost"}) {
    const auto response = Send(host);
    ASSERT_TRUE(response.has_value()) << response.error().ToString();
    EXPECT_EQ(response->body.substr(5), "tls");
  }
}

TEST_F(Http2TlsTest, RefusesAnotherNameAndAnotherRoot) {
  StartServer();
  const auto other_name = Send("127.0.0.2");
  ASSERT_FALSE(other_name.has_value());
  Write("root.pem", Make("", nullptr).Pem());
  const auto other_root = Send("127.0.0.1");
  ASSERT_FALSE(other_root.has_value());
  EXPECT_NE(other_root.error().message().find("TLS handshake"), std::string::npos)
      << other_root.error().ToString();
  EXPECT_TRUE(server_->calls().empty());
}

TEST_F(Http2TlsTest, ShowsItsCertificateToAServerThatAsks) {
  ::SSL_CTX_set_verify(tls_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  ASSERT_EQ(::SSL_CTX_load_verify_locations(tls_.get(), files_.roots.c_str(), nullptr), 1);
  StartServer();
  EXPECT_FALSE(Send("127.0.0.1").has_value());
  files_.certificate = Path("client.pem");
  files_.key = Path("client.key");
  const auto response = Send("127.0.0.1");
  EXPECT_TRUE(response.has_value()) << response.error().ToString();
}

TEST_F(Http2TlsTest, NamesTheFileThatItCannotRead) {
  StartServer();
  files_.roots = Path("none.pem");
  const auto response = Send("127.0.0.1");
  ASSERT_FALSE(response.has_value());
  EXPECT_NE(response.error().message().find("none.pem"), std::string::npos);
}

TEST(GzipTest, RoundTripsAndBounds) {
  const std::string plain = std::string(300'000, 'a') + "tail";
  const std::string packed = Gzip(plain);
  EXPECT_LT(packed.size(), plain.size() / 10);
  EXPECT_EQ(Gunzip(packed, plain.size()).value(), plain);
  EXPECT_EQ(Gunzip(packed, plain.size() - 1).error().code(), ErrorCode::kLimit);
  EXPECT_EQ(Gunzip(Gzip(""), 0).value(), "");
  EXPECT_EQ(Gunzip(packed + "x", plain.size()).error().code(), ErrorCode::kProtocol);
  EXPECT_EQ(Gunzip(packed.substr(0, packed.size() - 1), plain.size()).error().code(),
            ErrorCode::kProtocol);
  EXPECT_EQ(Gunzip("no gzip", 10).error().code(), ErrorCode::kProtocol);
}

}  // namespace
}  // namespace weir::client
