// Where it failed: what the flows and spans of both ends say of each way to fail, over real
// sockets and a real tunnel.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/clock.h"
#include "agent/io/socket.h"
#include "agent/observe/error_type.h"
#include "agent/tls/workload_tls.h"
#include "tests/support/nghttp2_end.h"
#include "tests/support/proxy_bed.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

using observe::Direction;
using observe::Reason;
using observe::Record;
using observe::Verdict;

constexpr std::string_view kRequest = "GET /x HTTP/1.1\r\nHost: server\r\n\r\n";

// A client on node-0, a server on node-1.
class FailureTest : public ::testing::Test {
 protected:
  void SetUp() override {
    client_ = bed_.AddPod(0, "client");
    server_ = bed_.AddPod(1, "server");
    application_ = bed_.Expose(server_);
    bed_.Publish();
  }
  struct Pair {
    base::UniqueFd client;
    base::UniqueFd server;
  };
  // A request that has arrived at the application.
  Pair Asked() {
    Pair pair;
    pair.client = bed_.Connect(client_, application_.endpoint);
    EXPECT_TRUE(SendText(pair.client.get(), kRequest));
    pair.server = AcceptOne(application_.listener.get());
    EXPECT_TRUE(ReadHead(pair.server.get()).starts_with("GET /x HTTP/1.1\r\n"));
    return pair;
  }
  static std::string ReadHead(int fd) {
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
      const std::string byte = ReceiveText(fd, 1);
      if (byte.empty()) {
        break;
      }
      head += byte;
    }
    return head;
  }
  // Asks `endpoint` until a request has failed: a connection whose refusal is faster than
  // what it would have asked is none.
  void AskInVain(const base::Endpoint& endpoint, std::string_view request = kRequest) {
    EXPECT_TRUE(ProxyBed::Eventually([&] {
      const auto client = bed_.Connect(client_, endpoint);
      (void)SendText(client.get(), request);
      (void)ReceiveEnd(client.get());
      return bed_.workers(0).at(0).stats().requests.value() != 0;
    }));
  }
  Record Of(std::size_t node, Direction direction, bool is_request = true) {
    const auto record = bed_.records(node).WaitFor([&](const Record& each) {
      return each.flow.direction == direction && each.flow.is_request == is_request;
    });
    EXPECT_TRUE(record.has_value());
    return record.value_or(Record{});
  }
  Record ClientRecord() { return Of(0, Direction::kOutbound); }
  Record ServerRecord() { return Of(1, Direction::kInbound); }
  static void Expect(const Record& record, Reason reason, Verdict verdict,
                     const std::string& error_type) {
    EXPECT_EQ(observe::ToString(record.flow.reason), observe::ToString(reason));
    EXPECT_EQ(observe::ToString(record.flow.verdict), observe::ToString(verdict));
    ASSERT_TRUE(record.span.has_value());
    EXPECT_EQ(observe::ErrorType(record.flow, record.span->is_client), error_type);
  }
  // A workload of another trust domain that trusts the bed's as well.
  static std::shared_ptr<const tls::WorkloadTls> Stranger(const TestPki& other, const TestPki& own,
                                                          std::string_view path,
                                                          std::string_view node) {
    tls::TrustBundles both = own.Bundles();
    both.merge(other.Bundles());
    auto made = tls::WorkloadTls::Create(other.Issue(path, node), both, base::SystemClock());
    EXPECT_TRUE(made.has_value());
    return made.value_or(nullptr);
  }

  ProxyBed bed_;
  std::size_t client_ = 0;
  std::size_t server_ = 0;
  ProxyBed::Application application_;
};

TEST_F(FailureTest, SaysThatThereIsNoUpstream) {
  const auto dead = bed_.ExposeDead(server_);
  bed_.Publish();
  AskInVain(dead);
  const Record client = ClientRecord();
  Expect(client, Reason::kUpstreamRefused, Verdict::kError, "upstream-refused");
  EXPECT_EQ(client.flow.http->path, "/x");
  EXPECT_EQ(client.flow.http->status, 0);
  EXPECT_EQ(client.flow.bytes_sent, 0U);
  EXPECT_EQ(client.flow.timing.upstream_connect.count(), -1);
  EXPECT_EQ(client.flow.timing.first_byte.count(), -1);
  EXPECT_GT(client.flow.timing.total.count(), 0);
  const auto served = bed_.records(1).WaitFor(
      [](const Record& each) { return each.flow.reason == Reason::kUpstreamRefused; });
  ASSERT_TRUE(served.has_value());
  EXPECT_EQ(served->flow.direction, Direction::kInbound);
}

TEST_F(FailureTest, SaysSoOfEachHttp2Stream) {
  const auto dead = bed_.ExposeDead(server_);
  bed_.Publish();
  Nghttp2End peer(/*server=*/false);
  peer.Settings({});
  for (const char* path : {"/a", "/b"}) {
    peer.Request(
        {.fields = {
             {":method", "GET"}, {":scheme", "http"}, {":authority", "server"}, {":path", path}}});
  }
  const std::vector<std::uint8_t> bytes = peer.Send();
  AskInVain(dead, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  for (const std::string path : {"/a", "/b"}) {
    const auto record = bed_.records(0).WaitFor(
        [&](const Record& each) { return each.flow.is_request && each.flow.http->path == path; });
    ASSERT_TRUE(record.has_value()) << path;
    EXPECT_EQ(record->flow.protocol, observe::Protocol::kHttp2);
    Expect(*record, Reason::kUpstreamRefused, Verdict::kError, "upstream-refused");
  }
}

TEST_F(FailureTest, SaysThatTheUpstreamDidNotAnswerInTime) {
  bed_.limits().connect_timeout = std::chrono::seconds(1);
  bed_.Publish();
  const auto full = io::ListenTcp({.address = bed_.FreshAddress(), .port = 0}, 0).value();
  const auto hole = base::LocalEndpoint(full.get()).value();
  std::vector<base::UniqueFd> fillers;
  for (int i = 0; i < 2; ++i) {
    fillers.push_back(io::ConnectTcp(hole).value());
  }
  bed_.kernel().StallDeliveries(9, hole);
  const auto client = bed_.Connect(client_, application_.endpoint);
  ASSERT_TRUE(SendText(client.get(), kRequest));
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  Expect(ClientRecord(), Reason::kUpstreamTimeout, Verdict::kError, "upstream-timeout");
  EXPECT_GE(ClientRecord().flow.timing.total, std::chrono::milliseconds(900));
  EXPECT_EQ(Of(1, Direction::kInbound, /*is_request=*/false).flow.reason, Reason::kUpstreamTimeout);
}

TEST_F(FailureTest, SaysThatTheServerReset) {
  Pair pair = Asked();
  ASSERT_TRUE(SendText(pair.server.get(), "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"));
  ASSERT_EQ(ReceiveText(pair.client.get(), 15), "HTTP/1.1 200 OK");
  io::ResetOnClose(pair.server.get());
  pair.server.Reset();
  Expect(ClientRecord(), Reason::kUpstreamReset, Verdict::kError, "upstream-reset");
  Expect(ServerRecord(), Reason::kUpstreamReset, Verdict::kError, "upstream-reset");
}

TEST_F(FailureTest, SaysThatTheServerClosedInsteadOfAnswering) {
  Pair pair = Asked();
  pair.server.Reset();
  EXPECT_EQ(ReceiveEnd(pair.client.get()), StreamEnd::kFin);
  pair.client.Reset();
  Expect(ClientRecord(), Reason::kUpstreamReset, Verdict::kError, "upstream-reset");
  Expect(ServerRecord(), Reason::kUpstreamReset, Verdict::kError, "upstream-reset");
}

// A caller that gave up is nobody's error, but the flow says so.
TEST_F(FailureTest, SaysThatTheClientReset) {
  Pair pair = Asked();
  io::ResetOnClose(pair.client.get());
  pair.client.Reset();
  Expect(ClientRecord(), Reason::kDownstreamReset, Verdict::kAllow, "");
  Expect(ServerRecord(), Reason::kDownstreamReset, Verdict::kAllow, "");
}

TEST_F(FailureTest, TellsTheCallersErrorsFromTheServers) {
  for (const auto& [status, on_client, on_server] :
       {std::tuple("404 Not Found", "404", ""), {"503 Service Unavailable", "503", "503"}}) {
    Pair pair = Asked();
    ASSERT_TRUE(SendText(pair.server.get(),
                         "HTTP/1.1 " + std::string(status) + "\r\nContent-Length: 0\r\n\r\n"));
    ASSERT_EQ(ReceiveText(pair.client.get(), 12), "HTTP/1.1 " + std::string(status, 3));
    const int code = std::stoi(status);
    const auto with_code = [&](const Record& each) {
      return each.flow.is_request && each.flow.http->status == code;
    };
    Expect(bed_.records(0).WaitFor(with_code).value(), Reason::kNone, Verdict::kAllow, on_client);
    Expect(bed_.records(1).WaitFor(with_code).value(), Reason::kNone, Verdict::kAllow, on_server);
  }
}

TEST_F(FailureTest, SaysThatTheServerDoesNotTakeTheClientsCertificate) {
  const TestPki other("two.test", base::SystemClock());
  bed_.workers(0).InstallCredential(bed_.pod(client_).id,
                                    Stranger(other, bed_.pki(), "/ns/test/sa/client", "node-0"));
  AskInVain(application_.endpoint);
  Expect(ClientRecord(), Reason::kRefusedByPeer, Verdict::kDeny, "refused-by-peer");
  const Record server = Of(1, Direction::kInbound, /*is_request=*/false);
  EXPECT_EQ(server.flow.reason, Reason::kPeerUntrusted);
  EXPECT_EQ(server.flow.verdict, Verdict::kDeny);
}

TEST_F(FailureTest, SaysThatTheClientDoesNotTakeTheServersCertificate) {
  const TestPki other("two.test", base::SystemClock());
  bed_.workers(1).InstallCredential(bed_.pod(server_).id,
                                    Stranger(other, bed_.pki(), "/ns/test/sa/server", "node-1"));
  AskInVain(application_.endpoint);
  Expect(ClientRecord(), Reason::kPeerUntrusted, Verdict::kDeny, "peer-untrusted");
  const Record server = Of(1, Direction::kInbound, /*is_request=*/false);
  EXPECT_EQ(server.flow.reason, Reason::kRefusedByPeer);
  EXPECT_EQ(server.flow.verdict, Verdict::kDeny);
}

TEST_F(FailureTest, SaysWhichSideFoundTheOtherToBeSomebodyElse) {
  bed_.IssueCredential(client_, "/ns/test/sa/somebody-else");
  AskInVain(application_.endpoint);
  Expect(ClientRecord(), Reason::kRefusedByPeer, Verdict::kDeny, "refused-by-peer");
  EXPECT_EQ(Of(1, Direction::kInbound, /*is_request=*/false).flow.reason,
            Reason::kPeerIdentityMismatch);
}

TEST_F(FailureTest, SaysThatThereWasNoTlsAtAll) {
  const auto plain = Listen("127.0.0.1", 0);
  bed_.kernel().Divert(
      application_.endpoint,
      {.address = base::IpAddress::Parse("127.0.0.1").value(), .port = PortOf(plain.get())});
  const auto client = bed_.Connect(client_, application_.endpoint);
  ASSERT_TRUE(SendText(client.get(), kRequest));
  const auto reached = AcceptOne(plain.get());
  ASSERT_TRUE(SendText(reached.get(), "HTTP/1.1 400 Bad Request\r\n\r\n"));
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  Expect(ClientRecord(), Reason::kTlsHandshakeFailed, Verdict::kError, "tls-handshake-failed");
}

TEST_F(FailureTest, SaysThatTheTlsHandshakeTookTooLong) {
  bed_.limits().tls_handshake_timeout = std::chrono::milliseconds(300);
  bed_.Publish();
  const auto mute = Listen("127.0.0.1", 0);
  bed_.kernel().Divert(
      application_.endpoint,
      {.address = base::IpAddress::Parse("127.0.0.1").value(), .port = PortOf(mute.get())});
  const auto client = bed_.Connect(client_, application_.endpoint);
  ASSERT_TRUE(SendText(client.get(), kRequest));
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  const Record record = ClientRecord();
  Expect(record, Reason::kTlsHandshakeTimeout, Verdict::kError, "tls-handshake-timeout");
  EXPECT_EQ(record.flow.timing.tunnel_wait.count(), -1) << "it never was ready";
}

// Carries bytes between two sockets while it lives.
class Wire {
 public:
  Wire(int one, int other)
      : ends_{one, other}, thread_([one, other] { PassBothWays(one, other); }) {}
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  ~Wire() {
    for (const int end : ends_) {
      (void)::shutdown(end, SHUT_RDWR);
    }
    thread_.join();
  }

 private:
  std::array<int, 2> ends_;
  std::thread thread_;
};

// The first request waits for the tunnel and for the upstream, the next one for neither.
TEST_F(FailureTest, SplitsTheTimeOfTheRequestThatWaited) {
  const auto between = Listen("127.0.0.1", 0);
  bed_.kernel().Divert(
      application_.endpoint,
      {.address = base::IpAddress::Parse("127.0.0.1").value(), .port = PortOf(between.get())});
  Pair pair;
  pair.client = bed_.Connect(client_, application_.endpoint);
  ASSERT_TRUE(SendText(pair.client.get(), kRequest));
  // Only now, with the request there, can the tunnel become ready.
  const auto near = AcceptOne(between.get());
  const auto far = Dial(application_.endpoint.address.ToString(), application_.endpoint.port,
                        {.source = bed_.pod(client_).address.ToString(), .device = {}});
  ASSERT_TRUE(near.valid() && far.has_value());
  const Wire wire(near.get(), far->get());
  pair.server = AcceptOne(application_.listener.get());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(ReadHead(pair.server.get()).starts_with("GET /x"));
    const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + std::to_string(i);
    ASSERT_TRUE(SendText(pair.server.get(), answer));
    ASSERT_EQ(ReceiveText(pair.client.get(), answer.size()), answer);
    ASSERT_TRUE(i == 1 || SendText(pair.client.get(), kRequest));
  }
  const auto nth = [&](std::size_t node, std::uint32_t index) {
    const auto record = bed_.records(node).WaitFor([&](const Record& each) {
      return each.flow.is_request && each.flow.http->request_index == index;
    });
    return record.value_or(Record{}).flow.timing;
  };
  const observe::Timing first = nth(0, 0);
  EXPECT_GE(first.tunnel_wait.count(), 0);
  EXPECT_GE(first.upstream_connect, first.tunnel_wait);
  EXPECT_GE(first.first_byte, first.upstream_connect);
  EXPECT_GE(first.total, first.first_byte);
  const observe::Timing next = nth(0, 1);
  EXPECT_EQ(next.tunnel_wait.count(), -1);
  EXPECT_EQ(next.upstream_connect.count(), -1);
  EXPECT_GE(next.first_byte.count(), 0);
  EXPECT_EQ(nth(1, 0).tunnel_wait.count(), -1) << "a server waits for no tunnel";
  EXPECT_EQ(nth(1, 1).upstream_connect.count(), -1);
}

}  // namespace
}  // namespace weir::test
