#include "agent/proxy/socket_leg.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "agent/io/socket.h"
#include "tests/support/tcp.h"

namespace weir::proxy {
namespace {

int Option(int fd, int level, int option) {
  int value = -1;
  socklen_t length = sizeof(value);
  EXPECT_EQ(::getsockopt(fd, level, option, &value, &length), 0);
  return value;
}

// F18: a dead peer is found after 60 s and three probes. An accepted socket takes the
// options from its listener, so that they cost nothing per connection.
TEST(SocketLegTest, GivesAcceptedSocketsTheKeepAliveOfTheirListener) {
  const auto listener = test::Listen("127.0.0.1", 0);
  SetLegOptions(listener.get());
  const auto client = test::Dial("127.0.0.1", test::PortOf(listener.get()));
  ASSERT_TRUE(client.has_value());
  const auto accepted = test::AcceptOne(listener.get());
  ASSERT_TRUE(accepted.valid());
  EXPECT_EQ(Option(accepted.get(), SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(Option(accepted.get(), IPPROTO_TCP, TCP_KEEPIDLE), 60);
  EXPECT_EQ(Option(accepted.get(), IPPROTO_TCP, TCP_KEEPINTVL), 10);
  EXPECT_EQ(Option(accepted.get(), IPPROTO_TCP, TCP_KEEPCNT), 3);
  EXPECT_EQ(Option(accepted.get(), IPPROTO_TCP, TCP_NODELAY), 1);
}

// What a leg tells its owner, and what it was asked to do in a callback.
class Owner final : public LegOwner {
 public:
  void OnLegOpen(Leg& leg) noexcept override {
    (void)leg;
    ++opened;
  }
  void OnLegData(Leg& leg, io::Bytes bytes) noexcept override {
    data.append(bytes.begin(), bytes.end());
    if (pause_on_data) {
      leg.PauseReading();
    }
  }
  void OnLegEnd(Leg& leg) noexcept override {
    (void)leg;
    ++ended;
  }
  void OnLegFlushed(Leg& leg, std::size_t count) noexcept override {
    (void)leg;
    flushed += count;
  }
  void OnLegFailed(Leg& leg, observe::Reason why) noexcept override {
    (void)leg;
    failed = why;
  }
  bool pause_on_data = false;
  int opened = 0;
  int ended = 0;
  std::size_t flushed = 0;
  std::string data;
  observe::Reason failed = observe::Reason::kNone;
};

class ConnectedLegTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto listener = test::Listen("127.0.0.1", 0);
    peer_ = std::move(*test::Dial("127.0.0.1", test::PortOf(listener.get())));
    auto fd = test::AcceptOne(listener.get());
    ASSERT_EQ(::fcntl(fd.get(), F_SETFL, O_NONBLOCK), 0);
    leg_ = std::make_unique<SocketLeg>(*loop_, scratch_, static_cast<LegOwner&>(owner_),
                                       std::move(fd), SocketLeg::State::kOpen);
    ASSERT_TRUE(leg_->Start());
  }
  void Turns(int count) {
    for (int i = 0; i < count; ++i) {
      loop_->RunOnce(std::chrono::milliseconds(20));
    }
  }

  std::unique_ptr<io::EventLoop> loop_ = io::EventLoop::Create(base::SystemClock()).value();
  std::vector<std::uint8_t> scratch_ = std::vector<std::uint8_t>(kScratchBytes);
  Owner owner_;
  base::UniqueFd peer_;
  std::unique_ptr<SocketLeg> leg_;
};

TEST_F(ConnectedLegTest, GivesWhatCameBeforeAResetAndThenTheReset) {
  ASSERT_TRUE(test::SendAll(peer_.get(), "last words"));
  io::ResetOnClose(peer_.get());
  peer_.Reset();
  Turns(3);
  EXPECT_EQ(owner_.data, "last words");
  EXPECT_EQ(owner_.failed, observe::Reason::kUpstreamReset);
}

TEST_F(ConnectedLegTest, DoesNotSpinWhenBothEndsClosedAndBytesWait) {
  owner_.pause_on_data = true;
  ASSERT_TRUE(test::SendAll(peer_.get(), "1"));
  Turns(1);
  leg_->ShutdownWrite();
  ASSERT_TRUE(test::SendAll(peer_.get(), "23"));
  peer_.Reset();
  Turns(2);
  const auto before = std::chrono::steady_clock::now();
  loop_->RunOnce(std::chrono::milliseconds(50));
  EXPECT_GE(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(45));
  EXPECT_EQ(owner_.ended, 0);
  owner_.pause_on_data = false;
  leg_->ResumeReading();
  Turns(3);
  EXPECT_EQ(owner_.data, "123");
  EXPECT_EQ(owner_.ended, 1);
}

TEST_F(ConnectedLegTest, GivesTheLastBytesAndTheEndInOneTurn) {
  ASSERT_TRUE(test::SendAll(peer_.get(), "all"));
  ASSERT_EQ(::shutdown(peer_.get(), SHUT_WR), 0);
  Turns(1);
  EXPECT_EQ(owner_.data, "all");
  EXPECT_EQ(owner_.ended, 1);
  EXPECT_EQ(leg_->state(), SocketLeg::State::kOpen);  // the other direction goes on
  leg_->Write(std::vector<std::uint8_t>{'y'}, {});
  leg_->ShutdownWrite();
  EXPECT_EQ(leg_->state(), SocketLeg::State::kClosed);  // nothing is left to do with it
  EXPECT_EQ(loop_->watch_count(), 0U);
  EXPECT_EQ(test::ReadAll(peer_.get(), 1), "y");
  char byte = 0;
  EXPECT_EQ(::recv(peer_.get(), &byte, 1, 0), 0);
  leg_->Reset(observe::Reason::kNone);  // too late, and harmless
  EXPECT_EQ(owner_.failed, observe::Reason::kNone);
}

TEST_F(ConnectedLegTest, DoesNotGiveTheEndToAnOwnerThatPausedOnTheLastBytes) {
  owner_.pause_on_data = true;
  ASSERT_TRUE(test::SendAll(peer_.get(), "all"));
  ASSERT_EQ(::shutdown(peer_.get(), SHUT_WR), 0);
  Turns(2);
  EXPECT_EQ(owner_.data, "all");
  EXPECT_EQ(owner_.ended, 0);
  leg_->ResumeReading();
  Turns(1);
  EXPECT_EQ(owner_.ended, 1);
}

TEST_F(ConnectedLegTest, IsNotWokenAgainAndAgainWhilePaused) {
  leg_->PauseReading();
  ASSERT_TRUE(test::SendAll(peer_.get(), "later"));
  Turns(1);  // epoll may still say so, once
  const auto before = std::chrono::steady_clock::now();
  loop_->RunOnce(std::chrono::milliseconds(50));
  EXPECT_GE(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(45));
  EXPECT_EQ(owner_.data, "");
  leg_->ResumeReading();
  Turns(1);
  EXPECT_EQ(owner_.data, "later");
}

TEST_F(ConnectedLegTest, IsOpenAtOnceWhenTheConnectionIsMadeAlready) {
  const auto listener = test::Listen("127.0.0.1", 0);
  auto fd = io::ConnectTcp({.address = base::IpAddress::Parse("127.0.0.1").value(),
                            .port = test::PortOf(listener.get())});
  ASSERT_TRUE(fd);
  SocketLeg leg(*loop_, scratch_, static_cast<LegOwner&>(owner_), std::move(*fd),
                SocketLeg::State::kConnecting);
  ASSERT_TRUE(leg.Start());
  EXPECT_EQ(leg.state(), SocketLeg::State::kOpen);
  Turns(1);
  EXPECT_EQ(owner_.opened, 0);  // whoever called Start sees it
}

TEST_F(ConnectedLegTest, ReportsARefusedConnectionByTheLoop) {
  const base::UniqueFd bound(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto any =
      base::ToSockaddr({.address = base::IpAddress::Parse("127.0.0.1").value(), .port = 0});
  ASSERT_EQ(::bind(bound.get(), any.get(), any.length), 0);
  auto fd = io::ConnectTcp(base::LocalEndpoint(bound.get()).value());  // nobody listens there
  ASSERT_TRUE(fd);
  SocketLeg leg(*loop_, scratch_, static_cast<LegOwner&>(owner_), std::move(*fd),
                SocketLeg::State::kConnecting);
  ASSERT_TRUE(leg.Start());
  EXPECT_EQ(leg.state(), SocketLeg::State::kConnecting);
  Turns(1);
  EXPECT_EQ(owner_.failed, observe::Reason::kUpstreamRefused);
}

TEST_F(ConnectedLegTest, SendsTheEndBehindABacklog) {
  const std::vector<std::uint8_t> large(std::size_t{16} << 20U, 'z');
  leg_->Write(large, {});
  ASSERT_GT(leg_->backlog(), 0U);
  leg_->ShutdownWrite();
  std::size_t received = 0;
  std::vector<char> buffer(1 << 18);
  for (;;) {
    const ssize_t count = ::recv(peer_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count == 0) {
      break;
    }
    received += count > 0 ? static_cast<std::size_t>(count) : 0;
    Turns(1);
  }
  EXPECT_EQ(received, large.size());
  EXPECT_EQ(leg_->backlog(), 0U);
  EXPECT_GT(owner_.flushed, 0U);
}

}  // namespace
}  // namespace weir::proxy
