// Peers that have a good certificate and mean harm, are broken, or die in the middle.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/tunnel_bed.h"

namespace weir::proxy {
namespace {

using observe::Reason;
using std::chrono::seconds;
using test::kAlice;
using test::Wire;

// A client without a multiplexer: sends what it likes.
class TunnelHostileTest : public test::TunnelBed {
 protected:
  // Connects and shakes hands; with a small buffer, so that not reading is soon felt.
  void Shake() {
    fd_ = base::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    constexpr int kSmall = 16384;
    ASSERT_EQ(::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &kSmall, sizeof(kSmall)), 0);
    const auto to = base::ToSockaddr(server_.address);
    ASSERT_EQ(::connect(fd_.get(), to.get(), to.length), 0);
    engine_ = tls::Engine::Client(mesh_.svids[kAlice], tls::kAlpnWeir);
    engine_->Start(out_);
    ASSERT_TRUE(Until([&] {
      Flush();
      Read();
      return engine_->state() == tls::EngineState::kOpen && !server_.peers.empty();
    }));
  }
  void Send(const Wire& wire) {
    engine_->Send(wire.bytes(), out_);
    Flush();
  }
  // What it has to send, as far as the socket takes it.
  void Flush() {
    while (!out_.empty()) {
      const ssize_t sent =
          ::send(fd_.get(), out_.Readable().data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent <= 0) {
        return;
      }
      out_.Consume(static_cast<std::size_t>(sent));
    }
  }
  void Read() {
    std::array<std::uint8_t, 16384> bytes{};
    const ssize_t got = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got > 0) {
      engine_->Receive(io::Bytes(bytes).first(static_cast<std::size_t>(got)), plaintext_, out_);
    }
  }
  [[nodiscard]] std::uint64_t Violations(http::TunnelViolation violation) const {
    return server_.counters.violations[static_cast<std::size_t>(violation)].value();
  }

  base::UniqueFd fd_;
  std::unique_ptr<tls::Engine> engine_;
  io::ByteBuffer out_;
  io::ByteBuffer plaintext_;
};

TEST_F(TunnelHostileTest, APeerThatBreaksTheFramingIsCutOff) {
  Shake();
  Send(Wire().Raw("this is no HTTP/2 preface"));
  ASSERT_TRUE(Until([&] { return !server_.closed.empty(); }));
  EXPECT_EQ(server_.closed[0], Reason::kTunnelProtocol);
  EXPECT_EQ(Violations(http::TunnelViolation::kBadPreface), 1U);
}

TEST_F(TunnelHostileTest, APeerThatSaysNothingBehindTheHandshakeIsCutOff) {
  Shake();
  Pass(std::chrono::milliseconds(4500), std::chrono::milliseconds(100));
  EXPECT_TRUE(server_.closed.empty());
  Pass(seconds(1), std::chrono::milliseconds(100));
  EXPECT_EQ(server_.closed, std::vector<Reason>{Reason::kTlsHandshakeTimeout});
}

TEST_F(TunnelHostileTest, APeerThatTricklesItsPrefaceIsCutOff) {
  Shake();
  for (int i = 0; i < 12 && server_.closed.empty(); ++i) {
    Send(Wire().Raw(http::kH2Preface.substr(static_cast<std::size_t>(i), 1)));
    Pass(std::chrono::milliseconds(500), std::chrono::milliseconds(100));
  }
  EXPECT_EQ(server_.closed, std::vector<Reason>{Reason::kTlsHandshakeTimeout});
}

// It makes the server say something in every turn, and reads none of it.
TEST_F(TunnelHostileTest, APeerThatDoesNotReadItsWindowUpdatesIsCutOff) {
  server_.send_buffer_bytes = 4096;
  server_.context.limits.output_limit_bytes = 16U << 10U;
  server_.context.limits.unsent_excess_bytes = 32U << 10U;
  server_.context.limits.mux.stream_window_bytes = 1024;
  server_.context.limits.mux.max_stream_window_bytes = 1024;
  Shake();
  Wire wire;
  wire.Preface().Settings();
  std::vector<std::uint32_t> ids;
  for (std::uint32_t i = 0; i < 20; ++i) {
    ids.push_back(2 * i + 1);
    wire.Connect(ids.back());
  }
  Send(wire);
  Settle();
  ASSERT_EQ(server_.sessions.size(), ids.size());
  const std::string part(1000, 'x');
  for (int i = 0; i < 20'000 && server_.closed.empty(); ++i) {
    if (out_.empty()) {
      Wire more;
      for (const std::uint32_t id : ids) {
        more.Data(id, part);
      }
      Send(more);
    }
    Flush();
    Turn();
  }
  ASSERT_EQ(server_.closed, std::vector<Reason>{Reason::kTunnelProtocol});
  EXPECT_EQ(Violations(http::TunnelViolation::kReplyBacklog), 1U);
  EXPECT_EQ(server_.sessions[0]->resets, 1);
}

// It never reads, so no PING is ever answered, but always has something to say.
TEST_F(TunnelHostileTest, APeerThatTakesNothingIsGivenUp) {
  server_.send_buffer_bytes = 4096;
  Shake();
  Send(Wire()
           .Preface()
           .Settings({{http::H2Setting::kInitialWindowSize, 16U << 20U}})
           .WindowUpdate(0, 16U << 20U)
           .Connect(1));
  Settle();
  ASSERT_EQ(server_.sessions.size(), 1U);
  server_.sessions[0]->Send(std::string(4U << 20U, 'x'));
  Settle();
  ASSERT_LT(server_.sessions[0]->sent, 4U << 20U);
  int second = 0;
  for (; second < 120 && server_.closed.empty(); ++second) {
    if (second % 5 == 0) {
      Send(Wire().Frame(http::H2FrameType::kPing, 0, 0, "12345678"));
    }
    Pass(seconds(1));
  }
  EXPECT_EQ(server_.closed, std::vector<Reason>{Reason::kTunnelClosed});
  EXPECT_GE(second, 40);
  EXPECT_LE(second, 75);
  EXPECT_EQ(server_.sessions[0]->resets, 1);
}

TEST_F(TunnelHostileTest, APeerThatDiesInsideAFrameResetsItsStreams) {
  Shake();
  Wire wire;
  wire.Preface().Settings().Connect(1).Data(1, "all of this");
  Send(wire);
  Settle();
  ASSERT_EQ(server_.sessions.size(), 1U);
  EXPECT_EQ(server_.sessions[0]->received, "all of this");
  Send(Wire().Raw(std::string_view("\0\0\x64\0\0\0\0\0\1half of", 16)));
  fd_.Reset();
  ASSERT_TRUE(Until([&] { return !server_.closed.empty(); }));
  EXPECT_EQ(server_.closed[0], Reason::kTunnelClosed);
  EXPECT_EQ(server_.sessions[0]->received, "all of thishalf of");
  EXPECT_EQ(server_.sessions[0]->ends, 0);
  EXPECT_EQ(server_.sessions[0]->resets, 1);
}

TEST_F(TunnelHostileTest, BytesBehindTheEndOfTlsAreIgnored) {
  Shake();
  Wire wire;
  wire.Preface().Settings().Connect(1).Data(1, "last");
  engine_->Send(wire.bytes(), out_);
  engine_->Close(out_);
  out_.Append(test::AsBytes("\x17\x03\x03 and whatever else"));
  Flush();
  ASSERT_TRUE(Until([&] { return !server_.closed.empty(); }));
  EXPECT_EQ(server_.closed[0], Reason::kTunnelClosed);  // it had a stream
  ASSERT_EQ(server_.sessions.size(), 1U);
  EXPECT_EQ(server_.sessions[0]->received, "last");
  EXPECT_EQ(server_.sessions[0]->resets, 1);
}

}  // namespace
}  // namespace weir::proxy
