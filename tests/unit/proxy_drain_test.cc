// How connections end when a node's agent drains.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/proxy_bed.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

using observe::Reason;
using std::chrono::milliseconds;

// Which node drains: the client's (0) or the server's (1).
class DrainTest : public ::testing::TestWithParam<std::size_t> {
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
  Pair Connected() {
    Pair pair;
    pair.client = bed_.Connect(client_, application_.endpoint);
    pair.server = AcceptOne(application_.listener.get());
    EXPECT_TRUE(pair.server.valid());
    return pair;
  }
  Pair Opaque() {
    Pair pair = Connected();
    EXPECT_TRUE(SendText(pair.client.get(), "*x"));
    EXPECT_EQ(ReceiveText(pair.server.get(), 2), "*x");
    EXPECT_TRUE(SendText(pair.server.get(), "y"));
    EXPECT_EQ(ReceiveText(pair.client.get(), 1), "y");
    return pair;
  }
  Pair IdleHttp() {
    Pair pair = Connected();
    EXPECT_TRUE(SendText(pair.client.get(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    EXPECT_EQ(ReceiveText(pair.server.get(), 16), "GET / HTTP/1.1\r\n");
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
      const std::string byte = ReceiveText(pair.server.get(), 1);
      if (byte.empty()) {
        ADD_FAILURE() << "the request is cut: " << head;
        break;
      }
      head += byte;
    }
    EXPECT_TRUE(SendText(pair.server.get(), "HTTP/1.1 204 No Content\r\n\r\n"));
    EXPECT_EQ(ReceiveText(pair.client.get(), 27).size(), 27U);
    return pair;
  }
  void Drain(milliseconds grace) { bed_.workers(GetParam()).Drain(grace); }
  bool Drained() {
    return ProxyBed::Eventually([&] { return bed_.workers(GetParam()).drained(); });
  }
  // Both ends hear that it is over, in whichever order they come to close.
  static void ExpectEndInOrder(Pair pair) {
    EXPECT_EQ(ReceiveEnd(pair.client.get()), StreamEnd::kFin);
    EXPECT_EQ(ReceiveEnd(pair.server.get()), StreamEnd::kFin);
  }

  ProxyBed bed_;
  std::size_t client_ = 0;
  std::size_t server_ = 0;
  ProxyBed::Application application_;
};

TEST_P(DrainTest, EndsAnIdleKeepAliveConnectionInOrder) {
  Pair pair = IdleHttp();
  Drain(milliseconds(4000));
  ExpectEndInOrder(std::move(pair));
  EXPECT_TRUE(Drained());
}

TEST_P(DrainTest, EndsAConnectionInOrderBehindTheAnswerThatWasUnderWay) {
  Pair pair = Connected();
  ASSERT_TRUE(SendText(pair.client.get(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  ASSERT_EQ(ReceiveText(pair.server.get(), 16), "GET / HTTP/1.1\r\n");
  Drain(milliseconds(4000));
  std::string head;
  while (!head.ends_with("\r\n\r\n")) {
    const std::string byte = ReceiveText(pair.server.get(), 1);
    ASSERT_FALSE(byte.empty());
    head += byte;
  }
  ASSERT_TRUE(SendText(pair.server.get(), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"));
  EXPECT_EQ(ReceiveText(pair.client.get(), 41), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes");
  ExpectEndInOrder(std::move(pair));
  EXPECT_TRUE(Drained());
}

TEST_P(DrainTest, EndsASilentOpaqueConnectionInOrderAtTheDeadline) {
  Pair pair = Opaque();
  Drain(milliseconds(100));
  ExpectEndInOrder(std::move(pair));
  EXPECT_TRUE(Drained());
}

TEST_P(DrainTest, ResetsAnOpaqueConnectionThatIsInUseAtTheDeadline) {
  const Pair pair = Opaque();
  Drain(milliseconds(300));
  ASSERT_TRUE(SendText(pair.client.get(), "*more"));
  ASSERT_EQ(ReceiveText(pair.server.get(), 5), "*more");
  EXPECT_EQ(ReceiveEnd(pair.client.get()), StreamEnd::kReset);
  EXPECT_EQ(ReceiveEnd(pair.server.get()), StreamEnd::kReset);
  EXPECT_TRUE(Drained());
}

// The end of the stream would pass for a complete answer.
TEST_P(DrainTest, ResetsAConnectionThatWaitsForAnAnswerWithItsOwnSideClosed) {
  const Pair pair = Opaque();
  HalfClose(pair.client.get());
  ASSERT_EQ(ReceiveEnd(pair.server.get()), StreamEnd::kFin);
  Drain(milliseconds(100));
  EXPECT_EQ(ReceiveEnd(pair.client.get()), StreamEnd::kReset);
  EXPECT_TRUE(Drained());
}

TEST_P(DrainTest, ClosesItsTunnelsInOrder) {
  Pair pair = IdleHttp();
  const auto& tunnels = bed_.workers(GetParam()).at(0).stats().tunnels;
  Drain(milliseconds(4000));
  ExpectEndInOrder(std::move(pair));
  EXPECT_TRUE(ProxyBed::Eventually(
      [&] { return tunnels.open_client.value() + tunnels.open_server.value() == 0; }));
  EXPECT_EQ(tunnels.closed[static_cast<std::size_t>(Reason::kNone)].value(), 1U);
}

INSTANTIATE_TEST_SUITE_P(OfANode, DrainTest, ::testing::Values(0U, 1U), [](const auto& test) {
  return test.param == 0 ? "OfTheClient" : "OfTheServer";
});

}  // namespace
}  // namespace weir::test
