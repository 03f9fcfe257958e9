// What a peer of TunnelMux may not do: violations of RFC 9113, floods, bombs.
#include <gtest/gtest.h>

#include "agent/http/tunnel_mux.h"
#include "tests/support/tunnel_rig.h"

namespace weir::http {
namespace {

using test::FindFrame;
using test::FramesIn;
using test::TestStream;
using test::TunnelEnd;
using test::Wire;

// A server whose peer is hand-made frames; the connection is set up.
class TunnelAbuseTest : public testing::Test {
 protected:
  TunnelAbuseTest() : server_(ServerConfig(), clock_) {
    Wire wire;
    wire.Preface().Settings().SettingsAck();
    server_.Receive(wire);
    (void)server_.output.Take();
  }
  static TunnelMuxConfig ServerConfig() {
    TunnelMuxConfig config;
    config.role = TunnelRole::kServer;
    config.stream_window_bytes = config.max_stream_window_bytes = 1000;
    config.tunnel_window_bytes = config.max_tunnel_window_bytes = 100000;
    return config;
  }
  // First block after the ACK begins with a table size update, as Block makes it.
  void OpenStream(std::uint32_t id) {
    Wire wire;
    wire.Connect(id);
    server_.Receive(wire);
    ASSERT_EQ(server_.errors, 0);
  }
  void ExpectConnectionError(H2Error code, TunnelViolation violation) {
    EXPECT_EQ(server_.errors, 1);
    EXPECT_EQ(server_.error, code);
    EXPECT_EQ(server_.violation, violation) << ToString(server_.violation);
    EXPECT_TRUE(server_.mux.closed());
    const auto goaway = FindFrame(server_.output.Take(), H2FrameType::kGoAway);
    ASSERT_TRUE(goaway.has_value());
    EXPECT_EQ(ReadU32(test::AsBytes(goaway->payload).subspan(4)), static_cast<std::uint32_t>(code));
    // Deaf from now on.
    server_.Receive(Wire().Connect(4001));
    EXPECT_EQ(server_.output.size(), 0U);
  }
  void ExpectStreamError(std::uint32_t id, H2Error code) {
    EXPECT_EQ(server_.errors, 0);
    const auto reset = FindFrame(server_.output.Take(), H2FrameType::kRstStream);
    ASSERT_TRUE(reset.has_value());
    EXPECT_EQ(reset->header.stream_id, id);
    EXPECT_EQ(ReadU32(test::AsBytes(reset->payload)), static_cast<std::uint32_t>(code));
  }
  // Sends `frame` over and over, a batch of 500 at once every `interval`; how many were taken.
  template <typename Append>
  int Flood(Append append, int most, base::Nanoseconds interval = base::Nanoseconds(0)) {
    int sent = 0;
    while (sent < most && server_.errors == 0) {
      Wire wire;
      for (int i = 0; i < 500; ++i) {
        append(wire, sent++);
      }
      server_.Receive(wire);
      (void)server_.output.Take();
      server_.mux.OnOutputDrained(clock_.Now());
      clock_.Advance(interval);
    }
    return sent;
  }

  base::ManualClock clock_;
  TunnelEnd server_;
};

TEST_F(TunnelAbuseTest, RefusesABadPreface) {
  TunnelEnd fresh(ServerConfig(), clock_);
  fresh.Receive(test::AsBytes("PRI * HTTP/2.1\r\n"));
  EXPECT_EQ(fresh.violation, TunnelViolation::kBadPreface);
  TunnelEnd no_settings(ServerConfig(), clock_);
  Wire wire;
  wire.Preface().WindowUpdate(0, 1);
  no_settings.Receive(wire);
  EXPECT_EQ(no_settings.violation, TunnelViolation::kBadPreface);
}

TEST_F(TunnelAbuseTest, RefusesFramesOnIdleStreams) {
  const auto check = [&](const Wire& wire) {
    TunnelEnd fresh(ServerConfig(), clock_);
    Wire start;
    start.Preface().Settings().Connect(5);
    fresh.Receive(start);
    fresh.Receive(wire);
    EXPECT_EQ(fresh.error, H2Error::kProtocolError);
    EXPECT_EQ(fresh.violation, TunnelViolation::kBadStreamId);
  };
  check(Wire().Data(7, "x"));
  check(Wire().Rst(7));
  check(Wire().WindowUpdate(7, 1));
  check(Wire().Data(2, "x"));
  check(Wire().Connect(8));
}

TEST_F(TunnelAbuseTest, KeepsToTheStreamWindow) {
  OpenStream(1);
  server_.at(0).return_credit = false;
  server_.Receive(Wire().Data(1, std::string(1000, 'x')));
  EXPECT_EQ(server_.at(0).received_bytes, 1000U);
  (void)server_.output.Take();
  server_.Receive(Wire().Data(1, "x"));
  ExpectStreamError(1, H2Error::kFlowControlError);
  EXPECT_EQ(server_.at(0).reset.cause, TunnelResetCause::kViolation);
}

TEST_F(TunnelAbuseTest, KeepsToTheTunnelWindow) {
  for (std::uint32_t i = 0; i < 101; ++i) {
    OpenStream(1 + 2 * i);
    server_.at(i).return_credit = false;
    server_.Receive(Wire().Data(1 + 2 * i, std::string(1000, 'x')));
  }
  ExpectConnectionError(H2Error::kFlowControlError, TunnelViolation::kFlowControl);
}

TEST_F(TunnelAbuseTest, RefusesDataAfterTheEndOfAStream) {
  OpenStream(1);
  Wire wire;
  wire.Data(1, "x", kH2FlagEndStream);
  server_.Receive(wire);
  (void)server_.output.Take();
  server_.Receive(Wire().Data(1, "y"));
  ExpectStreamError(1, H2Error::kStreamClosed);
}

TEST_F(TunnelAbuseTest, RefusesFramesForAStreamThatIsLongGone) {
  OpenStream(1);
  server_.Receive(Wire().Data(1, "", kH2FlagEndStream));
  server_.mux.EndStream(1);
  EXPECT_EQ(server_.mux.stream_count(), 0U);
  (void)server_.output.Take();
  server_.Receive(Wire().Data(1, "y"));
  ExpectStreamError(1, H2Error::kStreamClosed);
  server_.Receive(Wire().WindowUpdate(1, 1).Rst(1));  // these may still come
  EXPECT_EQ(server_.errors, 0);
  EXPECT_EQ(server_.output.size(), 0U);
}

TEST_F(TunnelAbuseTest, RefusesASecondHeaderBlockOnATunnel) {
  OpenStream(1);
  (void)server_.output.Take();
  server_.Receive(Wire().Headers(1, {{"trailer", "x"}}));
  ExpectStreamError(1, H2Error::kProtocolError);
  EXPECT_EQ(server_.at(0).resets, 1);
}

TEST_F(TunnelAbuseTest, RefusesMalformedRequests) {
  const std::vector<std::vector<H2Field>> requests = {
      {{":method", "GET"}, {":authority", "a:1"}},
      {{":method", "CONNECT"}},
      {{":method", "CONNECT"}, {":authority", ""}},
      {{":method", "CONNECT"}, {":authority", "a:1"}, {":path", "/"}},
      {{":method", "CONNECT"}, {":authority", "a:1"}, {":scheme", "https"}},
      {{":method", "CONNECT"}, {":authority", "a:1"}, {":authority", "b:1"}},
      {{":method", "CONNECT"}, {":authority", "a:1"}, {":unknown", "x"}},
      {{":method", "CONNECT"}, {"x", "y"}, {":authority", "a:1"}},
      {{":method", "CONNECT"}, {":authority", "a:1"}, {"Upper", "x"}},
      {{":method", "CONNECT"}, {":authority", "a:1"}, {"bad name", "x"}},
      {{":method", "CONNECT"}, {":authority", "a:1"}, {"", "x"}},
      {{":method", "CONNECT"}, {":authority", "a:1"}, {"x", "line\nfeed"}},
      {{":method", "CONNECT"}, {":authority", "a:1"}, {"x", " padded"}},
      {{":method", "CONNECT"}, {":authority", "a:1"}, {"connection", "close"}},
      {{":method", "CONNECT"}, {":authority", "a:1"}, {"te", "gzip"}},
  };
  std::uint32_t id = 1;
  for (const auto& request : requests) {
    server_.Receive(Wire().Headers(id, request));
    ExpectStreamError(id, H2Error::kProtocolError);
    id += 2;
  }
  EXPECT_TRUE(server_.streams.empty());
  server_.Receive(Wire().Headers(
      id, {{":method", "CONNECT"}, {":authority", "a:1"}, {"te", "trailers"}, {"x-y", "a b"}}));
  EXPECT_EQ(server_.streams.size(), 1U);
}

TEST_F(TunnelAbuseTest, RefusesBadSettings) {
  const auto check = [&](const Wire& settings, H2Error code) {
    TunnelEnd fresh(ServerConfig(), clock_);
    fresh.Receive(Wire().Preface());
    fresh.Receive(settings);
    EXPECT_EQ(fresh.error, code);
    EXPECT_EQ(fresh.violation, TunnelViolation::kBadSettings);
  };
  check(Wire().Settings({{H2Setting::kEnablePush, 2}}), H2Error::kProtocolError);
  check(Wire().Settings({{H2Setting::kInitialWindowSize, 1U << 31U}}), H2Error::kFlowControlError);
  check(Wire().Settings({{H2Setting::kMaxFrameSize, 16383}}), H2Error::kProtocolError);
  check(Wire().Settings({{H2Setting::kMaxFrameSize, 1U << 24U}}), H2Error::kProtocolError);
  check(Wire().Settings().SettingsAck().SettingsAck(), H2Error::kProtocolError);
  OpenStream(1);
  server_.Receive(Wire()
                      .WindowUpdate(1, kH2LargestWindowBytes - kH2DefaultWindowBytes)
                      .Settings({{H2Setting::kInitialWindowSize, kH2DefaultWindowBytes + 1}}));
  ExpectConnectionError(H2Error::kFlowControlError, TunnelViolation::kBadSettings);
}

TEST_F(TunnelAbuseTest, RefusesWindowUpdatesOfNothingAndTooMuch) {
  OpenStream(1);
  (void)server_.output.Take();
  server_.Receive(Wire().WindowUpdate(1, 0));
  ExpectStreamError(1, H2Error::kProtocolError);
  OpenStream(3);
  (void)server_.output.Take();
  server_.Receive(Wire().WindowUpdate(3, kH2LargestWindowBytes - kH2DefaultWindowBytes + 1));
  ExpectStreamError(3, H2Error::kFlowControlError);
  server_.Receive(Wire().WindowUpdate(0, kH2LargestWindowBytes - kH2DefaultWindowBytes));
  EXPECT_EQ(server_.errors, 0);
  server_.Receive(Wire().WindowUpdate(0, 1));
  ExpectConnectionError(H2Error::kFlowControlError, TunnelViolation::kFlowControl);
}

TEST_F(TunnelAbuseTest, RefusesAZeroUpdateOfTheTunnelWindow) {
  server_.Receive(Wire().WindowUpdate(0, 0));
  ExpectConnectionError(H2Error::kProtocolError, TunnelViolation::kBadFrame);
}

TEST_F(TunnelAbuseTest, JoinsContinuationsAndRefusesAnythingBetween) {
  const std::string block = Wire::Block({{":method", "CONNECT"}, {":authority", "a:1"}});
  Wire split;
  split.Frame(H2FrameType::kHeaders, 0, 1, block.substr(0, 3));
  split.Frame(H2FrameType::kContinuation, 0, 1, block.substr(3, 4));
  split.Frame(H2FrameType::kContinuation, kH2FlagEndHeaders, 1, block.substr(7));
  server_.Receive(split);
  EXPECT_EQ(server_.authorities, std::vector<std::string>{"a:1"});
  (void)server_.output.Take();
  Wire broken;
  broken.Frame(H2FrameType::kHeaders, 0, 3, block.substr(0, 3));
  broken.Frame(H2FrameType::kPing, 0, 0, "12345678");
  server_.Receive(broken);
  ExpectConnectionError(H2Error::kProtocolError, TunnelViolation::kBadFrame);
}

TEST_F(TunnelAbuseTest, RefusesALoneContinuationAndOneOfAnotherStream) {
  TunnelEnd other(ServerConfig(), clock_);
  other.Receive(Wire()
                    .Preface()
                    .Settings()
                    .Frame(H2FrameType::kHeaders, 0, 1, "")
                    .Frame(H2FrameType::kContinuation, kH2FlagEndHeaders, 3, ""));
  EXPECT_EQ(other.violation, TunnelViolation::kBadFrame);
  server_.Receive(Wire().Frame(H2FrameType::kContinuation, kH2FlagEndHeaders, 1, ""));
  ExpectConnectionError(H2Error::kProtocolError, TunnelViolation::kBadFrame);
}

TEST_F(TunnelAbuseTest, StopsAContinuationFlood) {
  Wire wire;
  wire.Frame(H2FrameType::kHeaders, 0, 1, "");
  for (int i = 0; i < 17; ++i) {
    wire.Frame(H2FrameType::kContinuation, 0, 1, "");
  }
  server_.Receive(wire);
  ExpectConnectionError(H2Error::kEnhanceYourCalm, TunnelViolation::kContinuationFlood);
}

TEST_F(TunnelAbuseTest, StopsAHeaderBlockThatIsTooLarge) {
  server_.Receive(Wire()
                      .Frame(H2FrameType::kHeaders, 0, 1, std::string(16000, 'x'))
                      .Frame(H2FrameType::kContinuation, 0, 1, std::string(16768, 'x')));
  EXPECT_EQ(server_.errors, 0);
  server_.Receive(Wire().Frame(H2FrameType::kContinuation, 0, 1, "x"));
  ExpectConnectionError(H2Error::kEnhanceYourCalm, TunnelViolation::kHeaderBlockTooLarge);
}

TEST_F(TunnelAbuseTest, RefusesAHeaderListBeyondTheLimitAndKeepsTheConnection) {
  // Exactly at the limit: 16,384 with 32 for each field.
  const std::size_t rest =
      16384 - (7 + 7 + 32) - (10 + 3 + 32) - (1 + 32);  // :method, :authority, x
  const auto request = [](const std::string& value) {
    return std::vector<H2Field>{{":method", "CONNECT"}, {":authority", "a:1"}, {"x", value}};
  };
  const std::string fits(rest, 'v');
  const std::string beyond(rest + 1, 'v');
  server_.Receive(Wire().Headers(1, request(fits)));
  EXPECT_EQ(server_.streams.size(), 1U);
  (void)server_.output.Take();
  server_.Receive(Wire().Headers(3, request(beyond)));
  EXPECT_EQ(server_.streams.size(), 1U);
  ExpectStreamError(3, H2Error::kEnhanceYourCalm);
  OpenStream(5);
  EXPECT_EQ(server_.streams.size(), 2U);
}

// A field of 4,000 bytes goes into the table once and is named by one byte 20,000 times.
TEST_F(TunnelAbuseTest, AnHpackBombIsNotUnfolded) {
  TunnelEnd fresh(ServerConfig(), clock_);
  std::string block(
      "\x40\x01"
      "b"
      "\x7f\xa1\x1e",
      6);  // literal with indexing, length 4,000
  block += std::string(4000, 'x');
  block += std::string(20000, '\xbe');  // index 62
  Wire wire;
  wire.Preface().Settings().Frame(H2FrameType::kHeaders, kH2FlagEndHeaders, 1, block);
  fresh.Receive(wire);
  EXPECT_TRUE(fresh.streams.empty());
  EXPECT_EQ(fresh.errors, 0);
  const auto reset = FindFrame(fresh.output.Take(), H2FrameType::kRstStream);
  ASSERT_TRUE(reset.has_value());
  EXPECT_LT(fresh.mux.memory_bytes(), 65536U);
}

TEST_F(TunnelAbuseTest, RefusesABlockThatDoesNotDecode) {
  server_.Receive(Wire().Frame(H2FrameType::kHeaders, kH2FlagEndHeaders, 1, "\xff\xff\xff\xff"));
  ExpectConnectionError(H2Error::kCompressionError, TunnelViolation::kCompression);
}

// The trap of table size 0: the peer has acknowledged it, so its next block must begin with
// a size update; and indexing into a table of nothing is an error.
TEST_F(TunnelAbuseTest, RefusesABlockWithoutTheDueTableSizeUpdate) {
  server_.Receive(Wire().Frame(H2FrameType::kHeaders, kH2FlagEndHeaders, 1, "\x88"));
  ExpectConnectionError(H2Error::kCompressionError, TunnelViolation::kCompression);
}

TEST_F(TunnelAbuseTest, StopsASettingsFlood) {
  EXPECT_LE(Flood([](Wire& wire, int) { wire.Settings(); }, 10000), 500);
  EXPECT_EQ(server_.violation, TunnelViolation::kSettingsFlood);
  EXPECT_EQ(server_.error, H2Error::kEnhanceYourCalm);
}

TEST_F(TunnelAbuseTest, StopsAPingFlood) {
  EXPECT_LE(Flood([](Wire& wire, int i) { AppendPing(wire, static_cast<unsigned>(i), 0); }, 10000),
            500);
  EXPECT_EQ(server_.violation, TunnelViolation::kPingFlood);
}

TEST_F(TunnelAbuseTest, StopsAFloodOfEmptyData) {
  OpenStream(1);
  EXPECT_LE(Flood([](Wire& wire, int) { wire.Data(1, ""); }, 10000), 500);
  EXPECT_EQ(server_.violation, TunnelViolation::kEmptyDataFlood);
}

TEST_F(TunnelAbuseTest, StopsAFloodOfPaddingOnlyData) {
  OpenStream(1);
  EXPECT_LE(
      Flood([](Wire& wire, int) { wire.Data(1, std::string(1, '\0'), kH2FlagPadded); }, 10000),
      500);
  EXPECT_EQ(server_.violation, TunnelViolation::kEmptyDataFlood);
}

TEST_F(TunnelAbuseTest, StopsAPriorityFlood) {
  EXPECT_LE(
      Flood([](Wire& wire, int) { wire.Frame(H2FrameType::kPriority, 0, 1, "12345"); }, 10000),
      500);
  EXPECT_EQ(server_.violation, TunnelViolation::kPriorityFlood);
}

TEST_F(TunnelAbuseTest, StopsAWindowUpdateFlood) {
  EXPECT_LE(Flood([](Wire& wire, int) { wire.WindowUpdate(0, 1); }, 50000), 10500);
  EXPECT_EQ(server_.violation, TunnelViolation::kWindowUpdateFlood);
}

TEST_F(TunnelAbuseTest, StopsAFloodOfUnknownFrames) {
  EXPECT_LE(Flood([](Wire& wire, int) { wire.Frame(H2FrameType{0x55}, 0, 0, ""); }, 10000), 500);
  EXPECT_EQ(server_.violation, TunnelViolation::kUnknownFrameFlood);
}

TEST_F(TunnelAbuseTest, StopsRapidReset) {
  server_.on_opened = [](TestStream&) {};  // no answer before the reset
  const int sent = Flood(
      [](Wire& wire, int i) {
        const auto id = static_cast<std::uint32_t>(2 * i + 1);
        wire.Connect(id).Rst(id);
      },
      100000, std::chrono::milliseconds(10));  // 50,000/s
  EXPECT_LE(sent, 4000);
  EXPECT_EQ(server_.violation, TunnelViolation::kRapidReset);
  EXPECT_EQ(server_.mux.stream_count(), 0U);
}

TEST_F(TunnelAbuseTest, StopsAFloodOfMalformedRequests) {
  const int sent = Flood(
      [](Wire& wire, int i) {
        wire.Headers(static_cast<std::uint32_t>(2 * i + 1), {{":method", "GET"}});
      },
      100000, std::chrono::milliseconds(10));
  EXPECT_LE(sent, 5000);
  EXPECT_EQ(server_.violation, TunnelViolation::kRejectedStreamFlood);
}

TEST_F(TunnelAbuseTest, StopsAPeerThatDoesNotReadItsAnswers) {
  server_.on_opened = [&](TestStream& stream) { server_.mux.Refuse(stream.id, 503); };
  std::uint32_t id = 1;
  while (server_.errors == 0 && id < 200000) {
    server_.Receive(Wire().Connect(id));
    clock_.Advance(std::chrono::milliseconds(10));
    id += 2;
  }
  EXPECT_EQ(server_.violation, TunnelViolation::kReplyBacklog);
  EXPECT_LT(server_.output.size(), 1U << 20U);
}

TEST_F(TunnelAbuseTest, AHonestStormOfResetsPasses) {
  // 5,000 connections a second, each reset by its application after the answer.
  const int sent = Flood(
      [](Wire& wire, int i) {
        const auto id = static_cast<std::uint32_t>(2 * i + 1);
        wire.Connect(id).Data(id, "x").Rst(id);
      },
      50000, std::chrono::milliseconds(100));
  EXPECT_EQ(sent, 50000);
  EXPECT_EQ(server_.errors, 0) << ToString(server_.violation);
}

TEST_F(TunnelAbuseTest, HonestPingsAndUpdatesPass) {
  OpenStream(1);
  for (int i = 0; i < 1000; ++i) {
    Wire wire;
    AppendPing(wire, 1, 0);
    wire.WindowUpdate(0, 1).WindowUpdate(1, 1);
    server_.Receive(wire);
    (void)server_.output.Take();
    clock_.Advance(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(server_.errors, 0);
}

TEST_F(TunnelAbuseTest, IgnoresUnknownFramesAndSettings) {
  Wire wire;
  wire.Settings({{static_cast<H2Setting>(0xfff), 7}});
  wire.Frame(H2FrameType{0xa}, 0xff, 77, std::string(1000, 'x'));
  wire.Connect(1);
  server_.Receive(wire);
  EXPECT_EQ(server_.errors, 0);
  EXPECT_EQ(server_.streams.size(), 1U);
}

// The client's side of it.
class TunnelClientAbuseTest : public testing::Test {
 protected:
  TunnelClientAbuseTest() : client_({.role = TunnelRole::kClient}, clock_) {
    client_.Receive(Wire().Settings().SettingsAck());
    stream_ = &client_.Open();
    (void)client_.output.Take();
  }
  H2Error ResetCode() {
    const auto reset = FindFrame(client_.output.Take(), H2FrameType::kRstStream);
    return reset ? static_cast<H2Error>(ReadU32(test::AsBytes(reset->payload))) : H2Error::kNoError;
  }
  base::ManualClock clock_;
  TunnelEnd client_;
  TestStream* stream_ = nullptr;
};

TEST_F(TunnelClientAbuseTest, RefusesDataBeforeTheAnswer) {
  client_.Receive(Wire().Data(1, "x"));
  EXPECT_EQ(ResetCode(), H2Error::kProtocolError);
  EXPECT_EQ(stream_->resets, 1);
}

TEST_F(TunnelClientAbuseTest, RefusesMalformedAnswers) {
  const std::vector<std::vector<H2Field>> answers = {
      {},
      {{":status", "20"}},
      {{":status", "2000"}},
      {{":status", "abc"}},
      {{":status", "999"}},
      {{":status", "200"}, {":status", "200"}},
      {{":status", "200"}, {"connection", "close"}},
      {{"x", "y"}, {":status", "200"}},
      {{":method", "CONNECT"}},
  };
  for (const auto& answer : answers) {
    TestStream& stream = client_.Open();
    (void)client_.output.Take();
    client_.Receive(Wire().Headers(stream.id, answer));
    EXPECT_EQ(ResetCode(), H2Error::kProtocolError);
    EXPECT_EQ(stream.resets, 1);
    EXPECT_EQ(stream.accepted, 0);
  }
}

TEST_F(TunnelClientAbuseTest, WaitsOutInterimAnswers) {
  client_.Receive(Wire().Headers(1, {{":status", "103"}}).Headers(1, {{":status", "204"}}));
  EXPECT_EQ(stream_->accepted, 204);
}

TEST_F(TunnelClientAbuseTest, RefusesStreamsOfTheServer) {
  client_.Receive(Wire().Connect(2));
  EXPECT_EQ(client_.violation, TunnelViolation::kBadStreamId);
}

TEST_F(TunnelClientAbuseTest, RefusesAnswersToNothing) {
  client_.Receive(Wire().Headers(9, {{":status", "200"}}));
  EXPECT_EQ(client_.violation, TunnelViolation::kBadStreamId);
}

TEST_F(TunnelClientAbuseTest, RefusesPush) {
  client_.Receive(Wire().Settings({{H2Setting::kEnablePush, 1}}));
  EXPECT_EQ(client_.violation, TunnelViolation::kBadSettings);
}

TEST(FloodGuardTest, RefillsByTimeUpToTheBurst) {
  FloodGuard guard;
  base::ManualClock clock;
  guard.Advance(clock.Now());
  int taken = 0;
  while (guard.Allow(FloodGuard::Kind::kPing)) {
    ++taken;
  }
  EXPECT_EQ(taken, 200);
  clock.Advance(std::chrono::seconds(1));
  guard.Advance(clock.Now());
  for (taken = 0; guard.Allow(FloodGuard::Kind::kPing); ++taken) {
  }
  EXPECT_EQ(taken, 20);
  clock.Advance(std::chrono::hours(24));
  guard.Advance(clock.Now());
  for (taken = 0; guard.Allow(FloodGuard::Kind::kPing); ++taken) {
  }
  EXPECT_EQ(taken, 200);
}

TEST(FloodGuardTest, SlowBucketsRefillHoweverOftenTheyAreAdvanced) {
  FloodGuard guard;
  base::ManualClock clock;
  while (guard.Allow(FloodGuard::Kind::kSettings)) {
  }
  for (int i = 0; i < 1000; ++i) {
    clock.Advance(std::chrono::milliseconds(5));
    guard.Advance(clock.Now());
  }
  int taken = 0;
  while (guard.Allow(FloodGuard::Kind::kSettings)) {
    ++taken;
  }
  EXPECT_GE(taken, 9);  // 2 a second for 5 s
}

TEST(FloodGuardTest, SentBytesEarnWindowUpdates) {
  FloodGuard guard;
  for (int i = 0; i < 100000; ++i) {
    guard.OnDataSent(16384);
    for (int k = 0; k < 4; ++k) {
      ASSERT_TRUE(guard.Allow(FloodGuard::Kind::kWindowUpdate));
    }
  }
}

}  // namespace
}  // namespace weir::http
