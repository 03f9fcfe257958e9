// Opaque connections through workers: passthrough, same-node joins and tunnels.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <string>
#include <thread>

#include "agent/io/socket.h"
#include "tests/support/proxy_bed.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

using model::ProtocolHint;
using observe::MtlsState;
using observe::Reason;
using observe::Verdict;

// Which way a connection goes: both pods on one node, on two, or the server outside.
enum class Way : std::uint8_t { kJoin, kJoinAcrossWorkers, kTunnel, kHbone, kPassthrough };

std::string Name(const ::testing::TestParamInfo<Way>& info) {
  switch (info.param) {
    case Way::kJoin:
      return "Join";
    case Way::kJoinAcrossWorkers:
      return "JoinAcrossWorkers";
    case Way::kTunnel:
      return "Tunnel";
    case Way::kHbone:
      return "Hbone";
    case Way::kPassthrough:
      return "Passthrough";
  }
  return "";
}

class EveryWayTest : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    client_ = bed_.AddPod(0, "client");
    if (GetParam() == Way::kPassthrough) {
      outside_.listener = Listen("127.0.0.1", 0);
      outside_.endpoint = {.address = base::IpAddress::Parse("127.0.0.1").value(),
                           .port = PortOf(outside_.listener.get())};
    } else {
      const bool tunnel = GetParam() == Way::kTunnel || GetParam() == Way::kHbone;
      server_ = bed_.AddPod(tunnel ? 1 : 0, "server");
      outside_ = bed_.Expose(server_, hint_, GetParam() == Way::kJoinAcrossWorkers ? 1 : 0);
      if (GetParam() == Way::kHbone) {
        bed_.ExposeHbone(server_);
      }
    }
    bed_.Publish();
  }

  struct Pair {
    base::UniqueFd client;
    base::UniqueFd server;
  };
  Pair Connected() {
    Pair pair;
    pair.client = bed_.Connect(client_, outside_.endpoint);
    pair.server = AcceptOne(outside_.listener.get());
    EXPECT_TRUE(pair.server.valid());
    return pair;
  }

  ProtocolHint hint_ = ProtocolHint::kNone;
  ProxyBed bed_{{2, 1}};
  std::size_t client_ = 0;
  std::size_t server_ = 0;
  ProxyBed::Application outside_;
};

INSTANTIATE_TEST_SUITE_P(Ways, EveryWayTest,
                         ::testing::Values(Way::kJoin, Way::kJoinAcrossWorkers, Way::kTunnel,
                                           Way::kHbone, Way::kPassthrough),
                         Name);

TEST_P(EveryWayTest, PassesBytesBothWays) {
  Pair pair = Connected();
  ASSERT_TRUE(SendText(pair.client.get(), "*1 ping"));
  EXPECT_EQ(ReceiveText(pair.server.get(), 7), "*1 ping");
  ASSERT_TRUE(SendText(pair.server.get(), "pong"));
  EXPECT_EQ(ReceiveText(pair.client.get(), 4), "pong");
  ASSERT_TRUE(SendText(pair.client.get(), "again"));
  EXPECT_EQ(ReceiveText(pair.server.get(), 5), "again");
}

TEST_P(EveryWayTest, KeepsAHalfClosedConnectionOpenTheOtherWay) {
  Pair pair = Connected();
  ASSERT_TRUE(SendText(pair.client.get(), "*request"));
  HalfClose(pair.client.get());
  EXPECT_EQ(ReadAll(pair.server.get()), "*request");
  ASSERT_TRUE(SendText(pair.server.get(), "a late answer"));
  pair.server.Reset();
  EXPECT_EQ(ReadAll(pair.client.get()), "a late answer");
}

TEST_P(EveryWayTest, PassesTheServersEndWhileTheClientStillSends) {
  Pair pair = Connected();
  ASSERT_TRUE(SendText(pair.client.get(), "*hello"));
  EXPECT_EQ(ReceiveText(pair.server.get(), 6), "*hello");
  HalfClose(pair.server.get());
  EXPECT_EQ(ReceiveEnd(pair.client.get()), StreamEnd::kFin);
  ASSERT_TRUE(SendText(pair.client.get(), "more"));
  HalfClose(pair.client.get());
  EXPECT_EQ(ReadAll(pair.server.get()), "more");
}

TEST_P(EveryWayTest, PassesAResetOfTheClient) {
  Pair pair = Connected();
  ASSERT_TRUE(SendText(pair.client.get(), "*x"));
  EXPECT_EQ(ReceiveText(pair.server.get(), 2), "*x");
  io::ResetOnClose(pair.client.get());
  pair.client.Reset();
  EXPECT_EQ(ReceiveEnd(pair.server.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.records(0).WaitFor(
      [](const auto& record) { return record.flow.reason == Reason::kDownstreamReset; }));
}

TEST_P(EveryWayTest, PassesAResetOfTheServer) {
  Pair pair = Connected();
  ASSERT_TRUE(SendText(pair.client.get(), "*x"));
  EXPECT_EQ(ReceiveText(pair.server.get(), 2), "*x");
  io::ResetOnClose(pair.server.get());
  pair.server.Reset();
  EXPECT_EQ(ReceiveEnd(pair.client.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.records(0).WaitFor(
      [](const auto& record) { return record.flow.reason != Reason::kNone; }));
}

TEST_P(EveryWayTest, LetsAServerSpeakFirstAtOnce) {
  Pair pair = Connected();
  const auto before = std::chrono::steady_clock::now();
  ASSERT_TRUE(SendText(pair.server.get(), "220 ready\r\n"));
  EXPECT_EQ(ReceiveText(pair.client.get(), 11), "220 ready\r\n");
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(900));
  ASSERT_TRUE(SendText(pair.client.get(), "GET / HTTP/1.1\r\n\r\n"));
  EXPECT_EQ(ReceiveText(pair.server.get(), 18), "GET / HTTP/1.1\r\n\r\n");
}

TEST_P(EveryWayTest, StopsTheWriterWhenTheReaderStops) {
  Pair pair = Connected();
  ASSERT_TRUE(SendText(pair.client.get(), "*"));
  ASSERT_EQ(ReceiveText(pair.server.get(), 1), "*");
  const std::string chunk(1 << 16, 'x');
  std::size_t sent = 0;
  const timeval wait{.tv_sec = 1, .tv_usec = 0};
  (void)::setsockopt(pair.client.get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  constexpr std::size_t kFar = std::size_t{64} << 20U;
  for (ssize_t count = 1; count > 0 && sent < kFar;) {
    count = ::send(pair.client.get(), chunk.data(), chunk.size(), MSG_NOSIGNAL);
    sent += count > 0 ? static_cast<std::size_t>(count) : 0;
  }
  EXPECT_LT(sent, kFar) << "nothing held the writer back";
  // And nothing of it was lost.
  HalfClose(pair.client.get());
  const auto all = ReadAll(pair.server.get(), kFar);
  ASSERT_TRUE(all.has_value());
  EXPECT_EQ(all->size(), sent);
}

TEST_P(EveryWayTest, CarriesLargeTransfersBothWaysAtOnce) {
  Pair pair = Connected();
  constexpr std::size_t kSize = std::size_t{8} << 20U;
  std::string up(kSize, 0);
  std::string down(kSize, 0);
  for (std::size_t i = 0; i < kSize; ++i) {
    up[i] = static_cast<char>(i * 7 + i / 4096);
    down[i] = static_cast<char>(i * 13 + i / 5000);
  }
  up[0] = '*';
  std::thread client_writer([&] {
    EXPECT_TRUE(SendText(pair.client.get(), up));
    HalfClose(pair.client.get());
  });
  std::thread server_writer([&] {
    EXPECT_TRUE(SendText(pair.server.get(), down));
    HalfClose(pair.server.get());
  });
  std::string got_up;
  std::thread server_reader([&] { got_up = ReceiveText(pair.server.get(), kSize); });
  const std::string got_down = ReceiveText(pair.client.get(), kSize);
  for (auto* thread : {&client_writer, &server_writer, &server_reader}) {
    thread->join();
  }
  EXPECT_TRUE(got_up == up);
  EXPECT_TRUE(got_down == down);
}

TEST_P(EveryWayTest, SurvivesUrgentData) {
  Pair pair = Connected();
  ASSERT_TRUE(SendText(pair.client.get(), "*a"));
  ASSERT_EQ(::send(pair.client.get(), "!", 1, MSG_OOB), 1);
  ASSERT_TRUE(SendText(pair.client.get(), "b"));
  HalfClose(pair.client.get());
  const auto all = ReadAll(pair.server.get());
  ASSERT_TRUE(all.has_value());
  EXPECT_TRUE(all->starts_with("*a"));
  EXPECT_TRUE(all->ends_with("b"));
}

TEST_P(EveryWayTest, MakesOneRecordASide) {
  {
    Pair pair = Connected();
    ASSERT_TRUE(SendText(pair.client.get(), "*12345"));
    ASSERT_EQ(ReceiveText(pair.server.get(), 6), "*12345");
    ASSERT_TRUE(SendText(pair.server.get(), "abc"));
    ASSERT_EQ(ReceiveText(pair.client.get(), 3), "abc");
  }
  const bool tunnel = GetParam() == Way::kTunnel || GetParam() == Way::kHbone;
  const bool join = !tunnel && GetParam() != Way::kPassthrough;
  const auto out = bed_.records(0).WaitFor(
      [](const auto& record) { return record.flow.direction == observe::Direction::kOutbound; });
  ASSERT_TRUE(out.has_value());
  const observe::Flow& flow = out->flow;
  EXPECT_EQ(flow.bytes_sent, 6U);
  EXPECT_EQ(flow.bytes_received, 3U);
  EXPECT_EQ(flow.reason, Reason::kNone);
  EXPECT_EQ(flow.pid, 4711U);
  EXPECT_STREQ(flow.comm.data(), "client");
  EXPECT_EQ(flow.source.workload->name, "client");
  EXPECT_EQ(flow.destination.endpoint, outside_.endpoint);
  EXPECT_GE(flow.timing.upstream_connect.count(), 0);
  EXPECT_GT(flow.timing.total.count(), 0);
  EXPECT_EQ(flow.verdict,
            GetParam() == Way::kPassthrough ? Verdict::kPassthrough : Verdict::kAllow);
  EXPECT_EQ(flow.mtls, tunnel ? MtlsState::kTunnel : join ? MtlsState::kLocal : MtlsState::kOff);
  EXPECT_EQ(flow.tls_version, tunnel ? 0x0304 : 0);
  EXPECT_EQ(flow.peer_certificate_expiry > 0, tunnel);
  if (GetParam() == Way::kPassthrough) {
    EXPECT_EQ(bed_.records(0).size(), 1U);
    return;
  }
  const auto in = bed_.records(tunnel ? 1 : 0).WaitFor([](const auto& record) {
    return record.flow.direction == observe::Direction::kInbound;
  });
  ASSERT_TRUE(in.has_value());
  EXPECT_EQ(in->flow.bytes_sent, 6U);
  EXPECT_EQ(in->flow.source.workload->name, "client");
  EXPECT_EQ(in->flow.destination.workload->name, "server");
  EXPECT_EQ(in->flow.pid, 0U);
  EXPECT_EQ(in->local->id, bed_.pod(server_).id);
  EXPECT_EQ(bed_.records(0).size() + bed_.records(1).size(), 2U);
}

TEST_P(EveryWayTest, ShowsTheServerTheClientsAddress) {
  if (GetParam() == Way::kPassthrough) {
    return;  // whatever the pod's own connection would show
  }
  Pair pair = Connected();
  EXPECT_EQ(base::RemoteEndpoint(pair.server.get())->address, bed_.pod(client_).address);
}

TEST_P(EveryWayTest, RecordsOneExchangePerHttpRequest) {
  Pair pair = Connected();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(SendText(pair.client.get(),
                         "GET /x" + std::to_string(i) + "?k=v HTTP/1.1\r\nHost: server\r\n\r\n"));
    std::string request;
    while (!request.ends_with("\r\n\r\n")) {
      const std::string byte = ReceiveText(pair.server.get(), 1);
      ASSERT_FALSE(byte.empty());
      request += byte;
    }
    EXPECT_TRUE(request.starts_with("GET /x" + std::to_string(i) + "?k=v HTTP/1.1\r\n"));
    EXPECT_NE(request.find("traceparent: 00-"), std::string::npos) << request;
    const std::string response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    ASSERT_TRUE(SendText(pair.server.get(), response));
    EXPECT_EQ(ReceiveText(pair.client.get(), response.size()), response);
  }
  const auto third = bed_.records(0).WaitFor([](const auto& record) {
    return record.flow.is_request && record.flow.http->path == "/x2" &&
           record.flow.direction == observe::Direction::kOutbound;
  });
  ASSERT_TRUE(third.has_value());
  ASSERT_TRUE(third->span.has_value());
  EXPECT_TRUE(third->span->is_client);
  EXPECT_EQ(third->flow.http->status, 200);
  if (GetParam() == Way::kPassthrough) {
    return;
  }
  const bool tunnel = GetParam() == Way::kTunnel || GetParam() == Way::kHbone;
  const auto served = bed_.records(tunnel ? 1 : 0).WaitFor([](const auto& record) {
    return record.flow.is_request && record.flow.http->path == "/x2" &&
           record.flow.direction == observe::Direction::kInbound;
  });
  ASSERT_TRUE(served.has_value());
  ASSERT_TRUE(served->span.has_value());
  EXPECT_EQ(served->span->trace_id, third->span->trace_id);
  EXPECT_EQ(served->span->parent_span_id, third->span->span_id);
}

TEST_P(EveryWayTest, RecordsTheConnectionBehindAnUpgrade) {
  const std::string request =
      "GET /chat HTTP/1.1\r\nHost: server\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
  const std::string answer =
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
  {
    Pair pair = Connected();
    ASSERT_TRUE(SendText(pair.client.get(), request));
    ASSERT_EQ(ReceiveText(pair.server.get(), 9), "GET /chat");
    ASSERT_TRUE(SendText(pair.server.get(), answer));
    ASSERT_EQ(ReceiveText(pair.client.get(), answer.size()), answer);
    ASSERT_TRUE(SendText(pair.client.get(), "to server"));
    ASSERT_TRUE(SendText(pair.server.get(), "to client"));
    ASSERT_EQ(ReceiveText(pair.client.get(), 9), "to client");
  }
  const auto record = bed_.records(0).WaitFor([](const auto& each) {
    return !each.flow.is_request && each.flow.direction == observe::Direction::kOutbound;
  });
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.protocol, observe::Protocol::kHttp1);
  EXPECT_EQ(record->flow.bytes_sent, request.size() + 9);
  EXPECT_EQ(record->flow.bytes_received, answer.size() + 9);
}

TEST_P(EveryWayTest, EndsWhenTheServerClosesInsteadOfAnsweringAnUpgrade) {
  Pair pair = Connected();
  ASSERT_TRUE(
      SendText(pair.client.get(),
               "GET / HTTP/1.1\r\nHost: server\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"));
  ASSERT_EQ(ReceiveText(pair.server.get(), 5), "GET /");
  HalfClose(pair.server.get());
  EXPECT_EQ(ReceiveEnd(pair.client.get()), StreamEnd::kFin);
  pair.client.Reset();
  EXPECT_TRUE(ProxyBed::Eventually([&] { return bed_.workers(0).open_sessions() == 0; }));
  EXPECT_TRUE(bed_.SeesReason(0, Reason::kUpstreamReset));
}

TEST_P(EveryWayTest, AnswersABadRequestAndClosesWithoutTheUpstreamSeeingIt) {
  Pair pair = Connected();
  ASSERT_TRUE(
      SendText(pair.client.get(), "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n"));
  const auto answer = ReadAll(pair.client.get());
  ASSERT_TRUE(answer.has_value());
  EXPECT_TRUE(answer->starts_with("HTTP/1.1 400 ")) << *answer;
  EXPECT_EQ(ReceiveText(pair.server.get(), 1), "");
  EXPECT_TRUE(bed_.records(0).WaitFor(
      [](const auto& record) { return record.flow.reason == Reason::kBadRequest; }));
}

// What weir itself adds on the way must not lead over a limit.
TEST_P(EveryWayTest, PassesARequestThatIsExactlyAtTheLimits) {
  constexpr std::size_t kCount = 256;
  constexpr std::size_t kBytes = 65536;
  std::string fields = "Host: a\r\n";
  for (std::size_t i = 1; i < kCount - 1; ++i) {
    fields += "X-N: " + std::to_string(i) + "\r\n";
  }
  fields += "X-Fill: " + std::string(kBytes - fields.size() - 10, 'v') + "\r\n";
  ASSERT_EQ(fields.size(), kBytes);
  for (const bool beyond : {false, true}) {
    Pair pair = Connected();
    const std::string request = "GET / HTTP/1.1\r\n" + fields + (beyond ? "Z:\r\n" : "") + "\r\n";
    ASSERT_TRUE(SendText(pair.client.get(), request));
    if (beyond) {
      EXPECT_EQ(ReceiveText(pair.client.get(), 13), "HTTP/1.1 431 ");
      continue;
    }
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
      const std::string more = ReceiveText(pair.server.get(), 1);
      ASSERT_FALSE(more.empty());
      head += more;
    }
    EXPECT_GE(head.size(), request.size());
    EXPECT_TRUE(head.contains(fields.substr(fields.size() - 1000)));
  }
}

TEST_P(EveryWayTest, PassesTlsThroughAndKeepsTheServersName) {
  Pair pair = Connected();
  // A ClientHello cut down to one extension: server_name "db.test".
  const std::string name = "db.test";
  std::string extension = {0,
                           0,
                           0,
                           static_cast<char>(name.size() + 5),
                           0,
                           static_cast<char>(name.size() + 3),
                           0,
                           0,
                           static_cast<char>(name.size())};
  extension += name;
  std::string body = std::string("\x03\x03", 2) + std::string(32, 'r') + std::string("\0", 1) +
                     std::string("\0\2\x13\x01", 4) + std::string("\1\0", 2);
  body += std::string({0, static_cast<char>(extension.size())}) + extension;
  const std::string hello = std::string("\x16\x03\x01", 3) +
                            std::string({0, static_cast<char>(body.size() + 4), 1, 0, 0,
                                         static_cast<char>(body.size())}) +
                            body;
  // In two parts, as a large one comes.
  ASSERT_TRUE(SendText(pair.client.get(), hello.substr(0, 20)));
  ASSERT_TRUE(SendText(pair.client.get(), hello.substr(20)));
  EXPECT_EQ(ReceiveText(pair.server.get(), hello.size()), hello);
  pair = Pair{};
  const auto record = bed_.records(0).WaitFor(
      [](const auto& each) { return each.flow.direction == observe::Direction::kOutbound; });
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.protocol, observe::Protocol::kTls);
  EXPECT_EQ(record->flow.sni, "db.test");
}

TEST_P(EveryWayTest, HoldsAnInconclusiveBeginningNoLongerThanTheDetectTimeout) {
  Pair pair = Connected();
  const auto before = std::chrono::steady_clock::now();
  ASSERT_TRUE(SendText(pair.client.get(), "GET"));
  EXPECT_EQ(ReceiveText(pair.server.get(), 3), "GET");
  const auto waited = std::chrono::steady_clock::now() - before;
  EXPECT_GE(waited, std::chrono::milliseconds(900));
  EXPECT_LT(waited, std::chrono::milliseconds(3000));
}

TEST_P(EveryWayTest, SaysWhyNothingAnswered) {
  if (GetParam() == Way::kPassthrough) {
    outside_.listener.Reset();
  } else {
    outside_.endpoint = bed_.ExposeDead(server_);
    bed_.Publish();
  }
  const auto client = bed_.Connect(client_, outside_.endpoint);
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  const auto record = bed_.records(0).WaitFor(
      [](const auto& each) { return each.flow.direction == observe::Direction::kOutbound; });
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->flow.reason, Reason::kUpstreamRefused);
  EXPECT_EQ(record->flow.verdict, Verdict::kError);
  EXPECT_TRUE(bed_.SeesReason(0, Reason::kUpstreamRefused));
}

}  // namespace
}  // namespace weir::test
