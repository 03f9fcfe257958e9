// Flow control of TunnelMux: exactness, back-pressure, growth, and the two loop bugs.
#include <gtest/gtest.h>

#include "agent/http/tunnel_mux.h"
#include "tests/support/tunnel_rig.h"

namespace weir::http {
namespace {

using test::FindFrame;
using test::FramesIn;
using test::Pattern;
using test::TestStream;
using test::TunnelEnd;
using test::TunnelPair;
using test::Wire;

// Windows that do not grow.
TunnelMuxConfig Fixed(std::uint32_t stream_bytes, std::uint32_t tunnel_bytes) {
  TunnelMuxConfig config;
  config.stream_window_bytes = config.max_stream_window_bytes = stream_bytes;
  config.tunnel_window_bytes = config.max_tunnel_window_bytes = tunnel_bytes;
  return config;
}

TEST(TunnelFlowTest, StopsExactlyAtTheStreamWindow) {
  TunnelPair pair({}, Fixed(100000, 1U << 20U));
  TestStream& client = pair.client.Open();
  ASSERT_TRUE(pair.Pump());
  pair.server.at(0).return_credit = false;
  client.Send(Pattern(300000));
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.at(0).received_bytes, 100000U);
  EXPECT_EQ(client.to_send.size(), 200000U);
  // Half a window is announced when half a window was returned, not a byte earlier.
  pair.server.Return(pair.server.at(0), 49999);
  EXPECT_FALSE(FindFrame(pair.server.output.Take(), H2FrameType::kWindowUpdate));
  pair.server.Return(pair.server.at(0), 1);
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.at(0).received_bytes, 150000U);
}

TEST(TunnelFlowTest, OneStoppedReaderStopsOnlyItsOwnWriter) {
  TunnelPair pair({}, Fixed(65536, 262144));
  TestStream& stuck = pair.client.Open();
  TestStream& free = pair.client.Open();
  ASSERT_TRUE(pair.Pump());
  pair.server.at(0).return_credit = false;
  stuck.Send(Pattern(1000000));
  free.Send(Pattern(3000000));
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.at(0).received_bytes, 65536U);
  EXPECT_EQ(pair.server.at(1).received_bytes, 3000000U);
}

// Stopped readers that hold most of the tunnel's window leave credit for the others.
TEST(TunnelFlowTest, AFullTunnelWindowStillCarriesTheReadersThatGoOn) {
  TunnelPair pair({}, Fixed(65536, 262144));
  for (int i = 0; i < 4; ++i) {
    pair.client.Open();
  }
  ASSERT_TRUE(pair.Pump());
  for (std::size_t i = 0; i < 3; ++i) {
    pair.server.at(i).return_credit = false;
    pair.client.at(i).Send(Pattern(100000));
  }
  ASSERT_TRUE(pair.Pump());
  pair.client.at(3).Send(Pattern(2000000));
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.at(3).received_bytes, 2000000U);
}

TEST(TunnelFlowTest, HeldBytesOfAResetStreamReturnToTheTunnel) {
  TunnelPair pair({}, Fixed(65536, 131072));
  for (int round = 0; round < 10; ++round) {
    TestStream& stream = pair.client.Open();
    ASSERT_TRUE(pair.Pump());
    TestStream& served = *pair.server.streams.back();
    served.return_credit = false;
    stream.Send(Pattern(65536));
    ASSERT_TRUE(pair.Pump());
    ASSERT_EQ(served.received_bytes, 65536U) << round;
    if (round % 2 == 0) {
      pair.server.mux.ResetStream(served.id, H2Error::kCancel);
    } else {
      pair.client.mux.ResetStream(stream.id, H2Error::kCancel);
    }
    ASSERT_TRUE(pair.Pump());
  }
}

TEST(TunnelFlowTest, AnEndedStreamIsKeptUntilItsBytesAreTaken) {
  TunnelPair pair;
  TestStream& client = pair.client.Open();
  ASSERT_TRUE(pair.Pump());
  TestStream& server = pair.server.at(0);
  server.return_credit = false;
  client.end_when_sent = true;
  client.Send(Pattern(1000));
  pair.server.mux.EndStream(server.id);
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(server.ends, 1);
  EXPECT_EQ(pair.server.mux.stream_count(), 1U);
  pair.server.Return(server, 1000);
  EXPECT_EQ(pair.server.mux.stream_count(), 0U);
  pair.server.Return(server, 1000);  // of a forgotten stream: nothing
}

TEST(TunnelFlowTest, BytesForADeadStreamReturnToTheTunnel) {
  base::ManualClock clock;
  TunnelMuxConfig config = Fixed(65535, 65535);
  config.role = TunnelRole::kServer;
  TunnelEnd server(config, clock);
  Wire wire;
  wire.Preface().Settings().Connect(1).Connect(3);
  server.Receive(wire);
  server.mux.ResetStream(1, H2Error::kCancel);
  (void)server.output.Take();
  // What was under way fills the tunnel's window four times over.
  std::uint32_t credit = 0;
  for (int i = 0; i < 16; ++i) {
    server.Receive(Wire().Data(1, std::string(16000, 'x')));
    for (const auto& frame : FramesIn(server.output.Take())) {
      ASSERT_EQ(frame.header.type, H2FrameType::kWindowUpdate);
      ASSERT_EQ(frame.header.stream_id, 0U);
      credit += ReadU32(test::AsBytes(frame.payload));
    }
  }
  EXPECT_EQ(server.errors, 0);
  EXPECT_LE(credit, 16U * 16000U);
  EXPECT_GT(credit + 65535 / 2, 16U * 16000U) << "up to half a window may wait";
  EXPECT_EQ(server.at(0).received_bytes, 0U);
  server.Receive(Wire().Data(3, "goes on"));
  EXPECT_EQ(server.at(1).received, "goes on");
}

TEST(TunnelFlowTest, PaddingReturnsByItself) {
  base::ManualClock clock;
  TunnelEnd server(
      [] {
        TunnelMuxConfig config = Fixed(65535, 65535);
        config.role = TunnelRole::kServer;
        return config;
      }(),
      clock);
  server.on_opened = [&](TestStream& stream) {
    stream.return_credit = false;
    server.mux.Accept(stream.id);
  };
  Wire wire;
  wire.Preface().Settings().Connect(1);
  server.Receive(wire);
  (void)server.output.Take();
  // 200 x 256 bytes, one of them data: nearly all of it padding.
  Wire padded;
  for (int i = 0; i < 200; ++i) {
    padded.Data(1, std::string("\xfe", 1) + "d" + std::string(254, '\0'), kH2FlagPadded);
  }
  server.Receive(padded);
  std::uint32_t stream_credit = 0;
  std::uint32_t tunnel_credit = 0;
  for (const auto& frame : FramesIn(server.output.Take())) {
    if (frame.header.type == H2FrameType::kWindowUpdate) {
      (frame.header.stream_id == 0 ? tunnel_credit : stream_credit) +=
          ReadU32(test::AsBytes(frame.payload));
    }
  }
  EXPECT_EQ(server.errors, 0);
  EXPECT_EQ(server.at(0).received_bytes, 200U);
  EXPECT_GE(stream_credit, 65535U / 2);
  EXPECT_LE(stream_credit, 200U * 255U);
  EXPECT_GE(tunnel_credit, 65535U / 2);
  EXPECT_LE(tunnel_credit, 200U * 255U);
}

TEST(TunnelFlowTest, SendsFramesOnlyAsLargeAsThePeerAllows) {
  base::ManualClock clock;
  for (const std::uint32_t allowed : {16384U, 100000U, 16777215U}) {
    TunnelEnd client({.role = TunnelRole::kClient}, clock);
    client.output.limit = 4U << 20U;
    TestStream& stream = client.Open();
    Wire wire;
    wire.Settings(
        {{H2Setting::kMaxFrameSize, allowed}, {H2Setting::kInitialWindowSize, 1U << 20U}});
    wire.WindowUpdate(0, 1U << 20U);
    client.Receive(wire);
    (void)client.output.Take();
    stream.Send(std::string(1U << 20U, 'x'));
    std::size_t largest = 0;
    for (const auto& frame : FramesIn(client.output.Take())) {
      largest = std::max<std::size_t>(largest, frame.header.length);
    }
    EXPECT_EQ(largest, std::min<std::size_t>(allowed, 256U << 10U));
  }
}

TEST(TunnelFlowTest, FollowsAChangeOfTheInitialWindow) {
  base::ManualClock clock;
  TunnelEnd client({.role = TunnelRole::kClient}, clock);
  TestStream& stream = client.Open();
  Wire settings;
  settings.Settings({{H2Setting::kInitialWindowSize, 1000}});
  client.Receive(settings);
  (void)client.output.Take();
  stream.Send(std::string(5000, 'x'));
  EXPECT_EQ(stream.to_send.size(), 4000U);
  // Less than was sent already: the window is negative, and 500 more only bring it to 0.
  Wire smaller;
  smaller.Settings({{H2Setting::kInitialWindowSize, 500}}).WindowUpdate(stream.id, 500);
  client.Receive(smaller);
  EXPECT_EQ(stream.to_send.size(), 4000U);
  EXPECT_EQ(stream.writables, 0);
  Wire more;
  more.Settings({{H2Setting::kInitialWindowSize, 1500}});
  client.Receive(more);
  EXPECT_EQ(stream.to_send.size(), 3000U);
}

// First of the two loop bugs: with the tunnel's credit used up, streams must wait without
// being asked over and over, and go on when credit comes.
TEST(TunnelFlowTest, DoesNotSpinWhenTheTunnelsCreditIsExhausted) {
  TunnelPair pair({}, Fixed(1U << 20U, 65535));
  for (int i = 0; i < 10; ++i) {
    pair.client.Open();
  }
  ASSERT_TRUE(pair.Pump());
  for (std::size_t i = 0; i < 10; ++i) {
    pair.server.at(i).return_credit = false;
    pair.client.at(i).Send(Pattern(20000));
  }
  ASSERT_TRUE(pair.Pump(100)) << "keeps producing output without credit";
  EXPECT_TRUE(pair.client.mux.window_bound());
  EXPECT_FALSE(pair.client.mux.room_wanted());
  int calls = 0;
  for (const auto& stream : pair.client.streams) {
    calls += stream->writables;
  }
  for (int i = 0; i < 1000; ++i) {
    pair.client.mux.OnOutputDrained(pair.clock.Now());
  }
  for (const auto& stream : pair.client.streams) {
    calls -= stream->writables;
  }
  EXPECT_EQ(calls, 0) << "streams are asked although there is no credit";
  EXPECT_EQ(pair.client.output.size(), 0U);
  std::uint64_t received = 0;
  for (std::size_t i = 0; i < 10; ++i) {
    TestStream& stream = pair.server.at(i);
    received += stream.received_bytes;
    stream.return_credit = true;
    pair.server.Return(stream, stream.received_bytes);
  }
  EXPECT_EQ(received, 65535U);
  ASSERT_TRUE(pair.Pump());
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_TRUE(pair.server.at(i).received == Pattern(20000)) << i;
  }
}

// Second: a full output must stop the writers without losing them, also when the
// multiplexer has nothing else to do afterwards.
TEST(TunnelFlowTest, NeitherStallsNorSpinsWhenTheOutputIsFull) {
  TunnelPair pair({}, Fixed(4U << 20U, 16U << 20U));
  pair.client.output.limit = 10000;
  for (int i = 0; i < 5; ++i) {
    pair.client.Open();
  }
  ASSERT_TRUE(pair.Pump());
  for (std::size_t i = 0; i < 5; ++i) {
    pair.client.at(i).Send(Pattern(100000));
  }
  EXPECT_TRUE(pair.client.mux.room_wanted());
  const int asked = pair.client.at(0).writables;
  pair.client.mux.OnOutputDrained(pair.clock.Now());  // but there is no room
  EXPECT_EQ(pair.client.at(0).writables, asked);
  int turns = 0;
  while (pair.Exchange()) {
    EXPECT_LE(pair.client.output.size(), 10000U + 5 * kH2FrameHeaderBytes + 64);
    ASSERT_LT(++turns, 200) << "spins";
  }
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(pair.server.at(i).received == Pattern(100000)) << i;
  }
  EXPECT_FALSE(pair.client.mux.room_wanted());
}

TEST(TunnelFlowTest, WritersTakeTurns) {
  TunnelPair pair({}, Fixed(4U << 20U, 16U << 20U));
  pair.client.output.limit = 20000;
  for (int i = 0; i < 4; ++i) {
    pair.client.Open();
  }
  ASSERT_TRUE(pair.Pump());
  for (std::size_t i = 0; i < 4; ++i) {
    pair.client.at(i).Send(Pattern(400000));
  }
  for (int i = 0; i < 20; ++i) {
    pair.Exchange();
  }
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_GT(pair.server.at(i).received_bytes, 50000U) << i;
  }
}

TEST(TunnelFlowTest, WindowsGrowWhenTheyAreTheLimit) {
  TunnelPair pair;
  TestStream& client = pair.client.Open();
  ASSERT_TRUE(pair.Pump());
  TestStream& server = pair.server.at(0);
  server.keep_received = false;
  pair.client.output.limit = 64U << 20U;
  // A link of 10 ms round trip with a consumer that takes everything at once: the sender
  // waits for windows only, so they must grow until they are the path's.
  std::size_t most_in_flight = 0;
  for (int i = 0; i < 200; ++i) {
    client.Send(std::string((8U << 20U) - client.to_send.size(), 'x'));
    most_in_flight = std::max(most_in_flight, pair.client.output.size());
    pair.server.Receive(pair.client.output.Take());
    pair.clock.Advance(std::chrono::milliseconds(5));
    pair.client.mux.OnOutputDrained(pair.clock.Now());
    pair.client.Receive(pair.server.output.Take());
    pair.clock.Advance(std::chrono::milliseconds(5));
    pair.server.mux.OnOutputDrained(pair.clock.Now());
  }
  EXPECT_GT(most_in_flight, 3U << 20U);
  EXPECT_LE(most_in_flight, (4U << 20U) + 65536U);
  EXPECT_GT(pair.server.budget.used_bytes(), 7U << 20U);
  EXPECT_LE(pair.server.budget.used_bytes(), 16U << 20U);
}

TEST(TunnelFlowTest, WindowsStayWhenTheConsumerIsTheLimit) {
  TunnelPair pair;
  TestStream& client = pair.client.Open();
  ASSERT_TRUE(pair.Pump());
  TestStream& server = pair.server.at(0);
  server.keep_received = server.return_credit = false;
  for (int i = 0; i < 2000; ++i) {
    client.Send(std::string((1U << 20U) - client.to_send.size(), 'x'));
    pair.Exchange();
    pair.clock.Advance(std::chrono::milliseconds(1));
    // 16 KiB a millisecond: half a window lasts 8 ms, four times the round trip.
    pair.server.Return(server, std::min<std::uint64_t>(16384, server.received_bytes));
    server.received_bytes -= std::min<std::uint64_t>(16384, server.received_bytes);
  }
  EXPECT_LE(server.received_bytes, 256U << 10U);
  EXPECT_EQ(pair.server.budget.used_bytes(), (1U << 20U) - 65535U);
}

TEST(TunnelFlowTest, GrowthEndsAtTheSharedBudget) {
  base::ManualClock clock;
  TunnelMuxConfig config;
  config.role = TunnelRole::kServer;
  TunnelEnd rich(config, clock, /*budget_bytes=*/1U << 20U);
  EXPECT_EQ(rich.budget.used_bytes(), (1U << 20U) - 65535U);
  TunnelEnd poor(config, clock, /*budget_bytes=*/1000);
  EXPECT_EQ(poor.budget.used_bytes(), 0U);
  EXPECT_FALSE(FindFrame(poor.output.Take(), H2FrameType::kWindowUpdate));
}

TEST(TunnelFlowTest, GivesTheBudgetBack) {
  base::ManualClock clock;
  test::MemoryOutput output;
  WindowBudget budget(4U << 20U);
  TunnelEnd owner({.role = TunnelRole::kServer}, clock);
  {
    TunnelMux mux({.role = TunnelRole::kServer}, output, owner, budget);
    mux.Start(clock.Now());
    EXPECT_GT(budget.used_bytes(), 0U);
  }
  EXPECT_EQ(budget.used_bytes(), 0U);
}

}  // namespace
}  // namespace weir::http
