// What an application's connection meets on its way out, and the worker's own limits.
#include <gtest/gtest.h>
#include <malloc.h>
#include <poll.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "agent/io/socket.h"
#include "tests/support/proxy_bed.h"
#include "tests/support/root_test.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

using observe::Direction;
using observe::Reason;
using observe::Verdict;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

class OutboundTest : public ::testing::Test {
 protected:
  void SetUp() override {
    client_ = bed_.AddPod(0, "client");
    server_ = bed_.AddPod(1, "server");
    neighbour_ = bed_.AddPod(0, "neighbour");
    far_ = bed_.Expose(server_);
    near_ = bed_.Expose(neighbour_);
    bed_.Publish();
  }
  const proxy::WorkerStats& stats(std::size_t node = 0) { return bed_.workers(node).at(0).stats(); }
  struct Pair {
    base::UniqueFd client;
    base::UniqueFd server;
  };
  Pair Connected(const ProxyBed::Application& to) {
    Pair pair;
    pair.client = bed_.Connect(client_, to.endpoint);
    pair.server = AcceptOne(to.listener.get());
    EXPECT_TRUE(pair.server.valid());
    return pair;
  }

  ProxyBed bed_;
  std::size_t client_ = 0;
  std::size_t server_ = 0;
  std::size_t neighbour_ = 0;
  ProxyBed::Application far_;
  ProxyBed::Application near_;
};

TEST_F(OutboundTest, AnswersTheSelfProbe) {
  const auto probe = bed_.Connect(client_, seam::kProbeDestination);
  EXPECT_EQ(ReadAll(probe.get()), seam::kProbeAnswer);
  EXPECT_EQ(stats().probes.value(), 1U);
  EXPECT_EQ(bed_.records(0).size(), 0U);
}

TEST_F(OutboundTest, ResetsAConnectionThatNobodyRedirected) {
  const auto fd = bed_.ConnectFromOutside(bed_.pod(client_).outbound);
  EXPECT_EQ(ReceiveEnd(fd.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(0, Reason::kNoOriginalDestination));
}

TEST_F(OutboundTest, RefusesAConnectionToTheListenerItself) {
  const auto fd = bed_.Connect(client_, bed_.pod(client_).outbound);
  EXPECT_EQ(ReceiveEnd(fd.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(0, Reason::kNoOriginalDestination));
}

TEST_F(OutboundTest, RefusesAnUnknownAddressOfTheMeshAfterTheWait) {
  bed_.limits().unknown_destination_wait = milliseconds(200);
  bed_.Publish();
  const auto before = steady_clock::now();
  const auto fd = bed_.Connect(client_, {.address = bed_.FreshAddress(), .port = 80});
  EXPECT_EQ(ReceiveEnd(fd.get()), StreamEnd::kReset);
  EXPECT_GE(steady_clock::now() - before, milliseconds(190));
  const auto record = bed_.records(0).Wait(1);
  ASSERT_EQ(record.size(), 1U);
  EXPECT_EQ(record[0].flow.reason, Reason::kUnknownDestination);
  EXPECT_EQ(record[0].flow.verdict, Verdict::kDeny);
  EXPECT_EQ(bed_.kernel().connects(seam::LegKind::kPassthrough), 0);
}

TEST_F(OutboundTest, GoesOnWhenTheRegistryHearsOfTheDestinationInTime) {
  bed_.limits().unknown_destination_wait = milliseconds(4000);
  bed_.Publish();
  const auto late = bed_.AddPod(1, "late");
  const auto application = bed_.Expose(late);
  const auto client = bed_.Connect(client_, application.endpoint);
  ASSERT_TRUE(SendText(client.get(), "*soon"));
  ASSERT_TRUE(ProxyBed::Eventually([&] { return stats().open_sessions.value() == 1; }));
  bed_.Publish(/*only=*/1);
  bed_.Publish(/*only=*/0);
  const auto served = AcceptOne(application.listener.get());
  EXPECT_EQ(ReceiveText(served.get(), 5), "*soon");
}

TEST_F(OutboundTest, RefusesAJoinWhoseWitnessGetsLost) {
  const auto lost = Listen("127.0.0.1", 0);
  bed_.kernel().DropWitnesses(base::Endpoint{.address = base::IpAddress::Parse("127.0.0.1").value(),
                                             .port = PortOf(lost.get())});
  const auto client = bed_.Connect(client_, near_.endpoint);
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  const auto record = bed_.records(0).Wait(2);
  ASSERT_EQ(record.size(), 2U);
  EXPECT_EQ(record[0].flow.reason, Reason::kWitnessRefused);
  EXPECT_EQ(record[0].flow.verdict, Verdict::kDeny);
  EXPECT_EQ(bed_.kernel().connects(seam::LegKind::kDelivery), 0);
  // The next one tries anew.
  bed_.kernel().DropWitnesses(std::nullopt);
  Pair pair = Connected(near_);
  ASSERT_TRUE(SendText(pair.client.get(), "*ok"));
  EXPECT_EQ(ReceiveText(pair.server.get(), 3), "*ok");
}

TEST_F(OutboundTest, SharesOneWitnessAmongConnections) {
  std::vector<base::UniqueFd> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(bed_.Connect(client_, near_.endpoint));
  }
  std::vector<base::UniqueFd> served;
  for (int i = 0; i < 8; ++i) {
    served.push_back(AcceptOne(near_.listener.get()));
    EXPECT_TRUE(served.back().valid());
  }
  EXPECT_EQ(bed_.kernel().connects(seam::LegKind::kWitness), 1);
  EXPECT_EQ(stats().witnesses.value(), 1U);
}

TEST_F(OutboundTest, AsksForANewWitnessOnceSomeWorkloadIsGone) {
  {
    Pair pair = Connected(near_);
  }
  {
    Pair pair = Connected(near_);
  }
  EXPECT_EQ(bed_.kernel().connects(seam::LegKind::kWitness), 1);
  bed_.workers(0).RemoveWorkload(model::LocalId{4711});
  // The worker may accept a connection before it reads the command.
  for (int i = 0; i < 100 && bed_.kernel().connects(seam::LegKind::kWitness) < 2; ++i) {
    Pair pair = Connected(near_);
  }
  EXPECT_EQ(bed_.kernel().connects(seam::LegKind::kWitness), 2);
}

TEST_F(OutboundTest, SurvivesAStormOfResetsAndEmptyConnections) {
  Pair steady = Connected(far_);
  ASSERT_TRUE(SendText(steady.client.get(), "*"));
  ASSERT_EQ(ReceiveText(steady.server.get(), 1), "*");
  for (int i = 0; i < 600; ++i) {
    auto client = bed_.Connect(client_, i % 2 == 0 ? far_.endpoint : near_.endpoint);
    if (i % 3 != 0) {
      io::ResetOnClose(client.get());
    }
    if (i % 5 == 0) {
      (void)SendText(client.get(), "*x");
    }
    client.Reset();
    ASSERT_TRUE(SendText(steady.client.get(), "s"));
    ASSERT_EQ(ReceiveText(steady.server.get(), 1), "s");
  }
  // Their servers see each of them end.
  for (const auto* application : {&far_, &near_}) {
    for (;;) {
      const auto served = AcceptOne(application->listener.get(), milliseconds(50));
      if (!served.valid()) {
        break;
      }
      (void)ReadAll(served.get());
    }
  }
  EXPECT_TRUE(ProxyBed::Eventually([&] { return stats().open_sessions.value() == 1; }));
}

TEST_F(OutboundTest, TriesADeliveryThatHangsFromAnotherPort) {
  // A backlog of one that is full takes no further connection, and refuses none.
  const auto full = io::ListenTcp({.address = bed_.FreshAddress(), .port = 0}, 0).value();
  const auto hole = base::LocalEndpoint(full.get()).value();
  std::vector<base::UniqueFd> fillers;
  for (int i = 0; i < 2; ++i) {
    fillers.push_back(io::ConnectTcp(hole).value());
  }
  bed_.kernel().StallDeliveries(1, hole);
  Pair pair = Connected(near_);
  ASSERT_TRUE(SendText(pair.client.get(), "*second try"));
  EXPECT_EQ(ReceiveText(pair.server.get(), 11), "*second try");
  EXPECT_EQ(stats().delivery_retries.value(), 1U);
}

TEST_F(OutboundTest, CarriesManyStreamsOverFewTunnels) {
  std::vector<Pair> pairs;
  for (int i = 0; i < 50; ++i) {
    pairs.push_back(Connected(far_));
  }
  for (auto& pair : pairs) {
    ASSERT_TRUE(SendText(pair.client.get(), "*x"));
    ASSERT_EQ(ReceiveText(pair.server.get(), 2), "*x");
  }
  EXPECT_LE(bed_.kernel().connects(seam::LegKind::kTunnel), 4);
}

TEST_F(OutboundTest, KeepsSessionsWhileSnapshotsAreReplaced) {
  Pair far = Connected(far_);
  Pair near = Connected(near_);
  for (int i = 0; i < 50; ++i) {
    bed_.Publish();
    for (Pair* pair : {&far, &near}) {
      ASSERT_TRUE(SendText(pair->client.get(), "*a"));
      ASSERT_EQ(ReceiveText(pair->server.get(), 2), "*a");
    }
  }
  EXPECT_EQ(bed_.records(0).size(), 0U);
}

TEST_F(OutboundTest, KeepsTheConnectionLimitOfAWorkload) {
  bed_.limits().max_connections_per_workload = 3;
  bed_.Publish();
  std::vector<Pair> pairs;
  for (int i = 0; i < 3; ++i) {
    pairs.push_back(Connected(far_));
    ASSERT_TRUE(SendText(pairs.back().client.get(), "*x"));
    ASSERT_EQ(ReceiveText(pairs.back().server.get(), 2), "*x");
  }
  const auto beyond = bed_.Connect(client_, far_.endpoint);
  EXPECT_EQ(ReceiveEnd(beyond.get()), StreamEnd::kReset);
  EXPECT_TRUE(bed_.SeesReason(0, Reason::kLimitReached));
  // One that ends makes room.
  pairs.pop_back();
  ASSERT_TRUE(ProxyBed::Eventually([&] { return stats().open_sessions.value() == 2; }));
  // The room is there at the end of the turn that closed it: let another turn go by.
  ASSERT_TRUE(SendText(pairs[0].client.get(), "+x"));
  ASSERT_EQ(ReceiveText(pairs[0].server.get(), 2), "+x");
  Pair next = Connected(far_);
  ASSERT_TRUE(SendText(next.client.get(), "*y"));
  EXPECT_EQ(ReceiveText(next.server.get(), 2), "*y");
}

TEST_F(OutboundTest, AnswersHeadersThatTrickleAfterTheTimeout) {
  bed_.limits().request_header_timeout = milliseconds(200);
  bed_.Publish();
  Pair pair = Connected(far_);
  ASSERT_TRUE(SendText(pair.client.get(), "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "));
  const auto answer = ReadAll(pair.client.get());
  ASSERT_TRUE(answer.has_value());
  EXPECT_TRUE(answer->starts_with("HTTP/1.1 408 ")) << *answer;
  EXPECT_TRUE(bed_.SeesReason(0, Reason::kHeaderTimeout));
}

// F35: nothing that weir closes for being idle takes an application's connection with it.
// 120 times the tunnel's idle timeout are 2 h by default.
TEST_F(OutboundTest, KeepsIdleConnectionsPastTheTimeoutsOfTheirTunnel) {
  bed_.limits().tunnel_idle_timeout = milliseconds(50);
  bed_.limits().detect_timeout = milliseconds(50);
  bed_.limits().connect_timeout = milliseconds(1000);
  bed_.Publish();
  Pair far = Connected(far_);
  Pair near = Connected(near_);
  for (Pair* pair : {&far, &near}) {
    ASSERT_TRUE(SendText(pair->client.get(), "*x"));
    ASSERT_EQ(ReceiveText(pair->server.get(), 2), "*x");
  }
  const bool full = std::getenv("WEIR_TEST_FULL") != nullptr;
  pollfd quiet{.fd = far.client.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&quiet, 1, 50 * (full ? 120 : 25)), 0) << "it was ended";
  for (Pair* pair : {&far, &near}) {
    ASSERT_TRUE(SendText(pair->client.get(), "y"));
    EXPECT_EQ(ReceiveText(pair->server.get(), 1), "y");
    ASSERT_TRUE(SendText(pair->server.get(), "z"));
    EXPECT_EQ(ReceiveText(pair->client.get(), 1), "z");
  }
}

TEST_F(OutboundTest, ClosesEverythingOfARemovedWorkloadAtOnce) {
  Pair far = Connected(far_);
  Pair near = Connected(near_);
  for (Pair* pair : {&far, &near}) {
    ASSERT_TRUE(SendText(pair->client.get(), "*x"));
    ASSERT_EQ(ReceiveText(pair->server.get(), 2), "*x");
  }
  bed_.workers(0).RemoveWorkload(bed_.pod(client_).id);
  EXPECT_EQ(ReceiveEnd(far.client.get()), StreamEnd::kReset);
  EXPECT_EQ(ReceiveEnd(far.server.get()), StreamEnd::kReset);
  EXPECT_EQ(ReceiveEnd(near.client.get()), StreamEnd::kReset);
  EXPECT_EQ(ReceiveEnd(near.server.get()), StreamEnd::kReset);
  EXPECT_TRUE(ProxyBed::Eventually([&] { return stats().open_sessions.value() == 0; }));
  EXPECT_FALSE(io::ConnectTcp(bed_.pod(client_).outbound).has_value() &&
               Dial(bed_.pod(client_).outbound.address.ToString(), bed_.pod(client_).outbound.port)
                   .has_value())
      << "its listener still accepts";
}

TEST_F(OutboundTest, DrainsIdleRequestsFirstAndTheRestAtTheDeadline) {
  Pair http = Connected(near_);
  ASSERT_TRUE(SendText(http.client.get(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  ASSERT_EQ(ReceiveText(http.server.get(), 16), "GET / HTTP/1.1\r\n");
  ASSERT_TRUE(SendText(http.server.get(), "HTTP/1.1 204 No Content\r\n\r\n"));
  ASSERT_EQ(ReceiveText(http.client.get(), 27).size(), 27U);
  Pair opaque = Connected(far_);
  ASSERT_TRUE(SendText(opaque.client.get(), "*x"));
  ASSERT_EQ(ReceiveText(opaque.server.get(), 2), "*x");
  bed_.workers(0).Drain(milliseconds(400));
  EXPECT_EQ(ReceiveEnd(http.client.get()), StreamEnd::kFin);
  ASSERT_TRUE(SendText(opaque.client.get(), "y"));
  EXPECT_EQ(ReceiveText(opaque.server.get(), 1), "y");
  EXPECT_EQ(ReceiveEnd(opaque.client.get()), StreamEnd::kReset);
  EXPECT_TRUE(ProxyBed::Eventually([&] { return bed_.workers(0).drained(); }));
}

TEST_F(OutboundTest, PausesAcceptingWhenDescriptorsRunOut) {
  Pair pair = Connected(near_);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // Everything below the limit that is set now is in use, but for the test's own socket.
  auto client = base::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::vector<base::UniqueFd> fillers;
  rlimit tight = before;
  tight.rlim_cur = 256;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  for (;;) {
    base::UniqueFd filler(::dup(client.get()));
    if (!filler.valid()) {
      break;
    }
    fillers.push_back(std::move(filler));
  }
  const auto to = base::ToSockaddr(bed_.pod(client_).outbound);
  ASSERT_EQ(::connect(client.get(), to.get(), to.length), 0);
  EXPECT_EQ(ReceiveEnd(client.get()), StreamEnd::kReset);
  ASSERT_TRUE(SendText(pair.client.get(), "*alive"));
  EXPECT_EQ(ReceiveText(pair.server.get(), 6), "*alive");
  EXPECT_GE(stats().accept_pauses.value(), 1U);
  EXPECT_LE(stats().accept_pauses.value(), 3U) << "a busy loop";
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  fillers.clear();
  Pair again = Connected(near_);
  ASSERT_TRUE(SendText(again.client.get(), "*back"));
  EXPECT_EQ(ReceiveText(again.server.get(), 5), "*back");
}

TEST_F(OutboundTest, HoldsNoBuffersForIdleConnections) {
  constexpr std::size_t kCount = 1500;
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  if (files.rlim_cur < kCount * 4 + 200) {
    ASSERT_FALSE(SkippingFails()) << "needs " << kCount * 4 + 200 << " descriptors: ulimit -n";
    GTEST_SKIP() << "needs " << kCount * 4 + 200 << " descriptors";
  }
  std::vector<Pair> pairs;
  pairs.reserve(kCount);
  pairs.push_back(Connected(far_));
  (void)::malloc_trim(0);
  const std::size_t before = ::mallinfo2().uordblks;
  for (std::size_t i = 1; i < kCount; ++i) {
    pairs.push_back(Connected(far_));
    ASSERT_TRUE(SendText(pairs.back().client.get(), "*x"));
    ASSERT_EQ(ReceiveText(pairs.back().server.get(), 2), "*x");
  }
  const std::size_t each = (::mallinfo2().uordblks - before) / (kCount - 1);
  std::printf("idle connection over a tunnel: %zu bytes of heap, both sides together\n", each);
  RecordProperty("bytes_per_connection_both_sides", static_cast<int>(each));
  EXPECT_LT(each, 2U * 4096U);
}

TEST_F(OutboundTest, ReportsItsFiguresAsMetrics) {
  {
    Pair pair = Connected(near_);
  }
  ASSERT_EQ(bed_.records(0).Wait(2).size(), 2U);
  bool found = false;
  for (const auto& family : bed_.workers(0).Metrics()) {
    if (family.name == "weir_connections_finished") {
      found = true;
      EXPECT_EQ(family.samples.at(0).value, 1);
    }
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace weir::test
