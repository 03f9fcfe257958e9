// TunnelMux as both ends of a tunnel: streams, half-close, resets, GOAWAY, limits.
#include "agent/http/tunnel_mux.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "tests/support/tunnel_rig.h"

namespace weir::http {
namespace {

using test::FindFrame;
using test::FramesIn;
using test::Pattern;
using test::TestStream;
using test::TunnelPair;

TEST(TunnelMuxTest, CarriesBytesBothWays) {
  TunnelPair pair;
  TestStream& client = pair.client.Open("198.18.0.9:8080");
  ASSERT_TRUE(pair.Pump());
  ASSERT_EQ(pair.server.streams.size(), 1U);
  EXPECT_EQ(pair.server.authorities[0], "198.18.0.9:8080");
  EXPECT_EQ(client.accepted, 200);
  client.Send("question");
  pair.server.at(0).Send("answer");
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.at(0).received, "question");
  EXPECT_EQ(client.received, "answer");
}

TEST(TunnelMuxTest, IsTheSameWhereverTheBytesAreSplit) {
  for (const std::size_t piece : {1U, 2U, 3U, 5U, 7U, 8U, 9U, 10U, 13U, 31U, 4096U}) {
    TunnelPair pair;
    TestStream& client = pair.client.Open();
    client.Send(Pattern(50000));
    client.end_when_sent = true;
    client.Pump();
    ASSERT_TRUE(pair.Pump(1000, piece));
    pair.server.at(0).Send(Pattern(70000, 2));
    pair.server.at(0).end_when_sent = true;
    pair.server.at(0).Pump();
    ASSERT_TRUE(pair.Pump(1000, piece));
    EXPECT_TRUE(pair.server.at(0).received == Pattern(50000)) << piece;
    EXPECT_TRUE(client.received == Pattern(70000, 2)) << piece;
    EXPECT_EQ(client.ends, 1) << piece;
    EXPECT_EQ(pair.server.at(0).ends, 1) << piece;
    EXPECT_EQ(pair.client.mux.stream_count() + pair.server.mux.stream_count(), 0U) << piece;
  }
}

TEST(TunnelMuxTest, SendsEarlyDataBeforeTheAnswer) {
  TunnelPair pair;
  pair.server.on_opened = [](TestStream&) {};  // no answer yet
  TestStream& client = pair.client.Open();
  client.Send("early");
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.at(0).received, "early");
  EXPECT_EQ(client.accepted, 0);
  EXPECT_TRUE(pair.server.mux.Accept(pair.server.at(0).id));
  EXPECT_FALSE(pair.server.mux.Accept(pair.server.at(0).id));
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(client.accepted, 200);
}

TEST(TunnelMuxTest, AServerWritesOnlyAfterAccept) {
  TunnelPair pair;
  pair.server.on_opened = [](TestStream&) {};
  pair.client.Open();
  ASSERT_TRUE(pair.Pump());
  const auto id = pair.server.at(0).id;
  EXPECT_EQ(pair.server.mux.Write(id, test::AsBytes("x")), 0U);
  pair.server.mux.Accept(id);
  EXPECT_EQ(pair.server.mux.Write(id, test::AsBytes("x")), 1U);
}

TEST(TunnelMuxTest, RefusesWithAStatusAndForgets) {
  TunnelPair pair;
  pair.server.on_opened = [&](TestStream& stream) {
    pair.server.mux.Refuse(stream.id, 503, std::array{http::H2Field{"x-reason", "it is shut"}});
  };
  TestStream& client = pair.client.Open();
  client.Send("early and lost");
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(client.refused, 503);
  EXPECT_EQ(client.refusal_reason, "it is shut");
  EXPECT_EQ(client.resets, 0);
  EXPECT_EQ(pair.client.mux.stream_count(), 0U);
  EXPECT_EQ(pair.server.mux.stream_count(), 0U);
  EXPECT_EQ(pair.client.errors + pair.server.errors, 0);
}

// A storm of 5,000 resets a second over a long way: what was under way for them is no fault.
TEST(TunnelMuxTest, DataUnderWayForManyResetStreamsIsNotHeldAgainstThePeer) {
  TunnelPair pair;
  pair.client.Open();
  ASSERT_TRUE(pair.Pump());  // the server's limit is known now
  constexpr std::size_t kStreams = 500;
  for (std::size_t round = 0; round < 6; ++round) {
    std::vector<TestStream*> mine;
    for (std::size_t i = 0; i < kStreams; ++i) {
      mine.push_back(&pair.client.Open());
    }
    ASSERT_TRUE(pair.Pump());
    for (std::size_t i = 0; i < kStreams; ++i) {
      pair.server.at(1 + round * kStreams + i).Send("late");
    }
    for (TestStream* stream : mine) {
      pair.client.mux.ResetStream(stream->id, http::H2Error::kCancel);
    }
    ASSERT_TRUE(pair.Pump());
    ASSERT_EQ(pair.client.errors + pair.server.errors, 0) << "in round " << round;
  }
  EXPECT_EQ(pair.client.mux.stream_count() + pair.server.mux.stream_count(), 2U);
}

TEST(TunnelMuxTest, HalfClosesInBothOrders) {
  for (const bool client_first : {true, false}) {
    TunnelPair pair;
    TestStream& client = pair.client.Open();
    ASSERT_TRUE(pair.Pump());
    TestStream& server = pair.server.at(0);
    TestStream& first = client_first ? client : server;
    TestStream& second = client_first ? server : client;
    first.end.mux.EndStream(first.id);
    ASSERT_TRUE(pair.Pump());
    EXPECT_EQ(second.ends, 1);
    EXPECT_EQ(first.ends, 0);
    second.Send("still flows");
    ASSERT_TRUE(pair.Pump());
    EXPECT_EQ(first.received, "still flows");
    EXPECT_EQ(first.end.mux.Write(first.id, test::AsBytes("x")), 0U);
    second.end.mux.EndStream(second.id);
    ASSERT_TRUE(pair.Pump());
    EXPECT_EQ(first.ends, 1);
    EXPECT_EQ(pair.client.mux.stream_count(), 0U);
    EXPECT_EQ(pair.server.mux.stream_count(), 0U);
    EXPECT_EQ(client.resets + server.resets, 0);
  }
}

TEST(TunnelMuxTest, TellsTheOtherEndOfAReset) {
  TunnelPair pair;
  TestStream& client = pair.client.Open();
  ASSERT_TRUE(pair.Pump());
  client.Send("lost or not");
  pair.client.mux.ResetStream(client.id, H2Error::kConnectError);
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.at(0).resets, 1);
  EXPECT_EQ(pair.server.at(0).reset.code, H2Error::kConnectError);
  EXPECT_EQ(pair.server.at(0).reset.cause, TunnelResetCause::kPeer);
  EXPECT_EQ(client.resets, 0);
  EXPECT_EQ(pair.server.mux.stream_count(), 0U);
}

TEST(TunnelMuxTest, IgnoresWhatWasUnderWayWhenItResetAStream) {
  TunnelPair pair;
  TestStream& client = pair.client.Open();
  ASSERT_TRUE(pair.Pump());
  TestStream& other = pair.client.Open();
  ASSERT_TRUE(pair.Pump());
  client.Send(Pattern(100000));
  pair.server.mux.ResetStream(pair.server.at(0).id, H2Error::kCancel);
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(client.resets, 1);
  EXPECT_EQ(pair.server.at(0).received, "");
  other.Send(Pattern(900000));  // the dead stream's bytes must not be missing here
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.at(1).received_bytes, 900000U);
  EXPECT_EQ(pair.client.errors + pair.server.errors, 0);
}

TEST(TunnelMuxTest, HandlersMayResetAndOpenFromWithinCallbacks) {
  TunnelPair pair;
  TestStream& client = pair.client.Open();
  ASSERT_TRUE(pair.Pump());
  TestStream& server = pair.server.at(0);
  server.return_credit = false;
  server.on_data = [&] { pair.server.mux.ResetStream(server.id, H2Error::kCancel); };
  client.on_reset = [&] {
    for (int i = 0; i < 100; ++i) {
      pair.client.Open().Send("x");  // makes the table grow under the caller
    }
  };
  client.Send("x");
  client.end_when_sent = true;
  client.Pump();
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.streams.size(), 101U);
  EXPECT_EQ(pair.server.at(100).received, "x");
  EXPECT_EQ(server.ends, 0);
}

TEST(TunnelMuxTest, KeepsToThePeersStreamLimitAndTellsWhenThereIsRoom) {
  TunnelMuxConfig config;
  config.max_peer_streams = 3;
  TunnelPair pair({}, config);
  ASSERT_TRUE(pair.Pump());
  for (int i = 0; i < 3; ++i) {
    pair.client.Open();
  }
  EXPECT_FALSE(pair.client.mux.CanOpen());
  pair.client.Open();
  EXPECT_EQ(pair.client.open_error, OpenError::kAtPeerLimit);
  EXPECT_EQ(pair.client.slots, 0);
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.streams.size(), 3U);
  pair.server.mux.ResetStream(pair.server.at(0).id, H2Error::kCancel);
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.client.slots, 1);
  EXPECT_NE(pair.client.Open().id, 0U);
}

TEST(TunnelMuxTest, RefusesStreamsBeyondItsOwnLimitAsNeverSeen) {
  TunnelMuxConfig config;
  config.max_peer_streams = 2;
  TunnelPair pair({}, config);
  for (int i = 0; i < 4; ++i) {
    pair.client.Open();  // before the limit is known
  }
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.streams.size(), 2U);
  EXPECT_EQ(pair.client.at(2).resets, 1);
  EXPECT_EQ(pair.client.at(3).reset.code, H2Error::kRefusedStream);
  EXPECT_EQ(pair.client.at(3).reset.cause, TunnelResetCause::kGoAway);  // safe to try again
  EXPECT_EQ(pair.client.at(1).resets, 0);
}

TEST(TunnelMuxTest, DrainsAServerWithoutLosingRequestsUnderWay) {
  TunnelPair pair;
  TestStream& first = pair.client.Open();
  ASSERT_TRUE(pair.Pump());
  TestStream& late = pair.client.Open();  // crosses with the GOAWAY
  pair.server.mux.Drain(pair.clock.Now());
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(late.accepted, 200);
  EXPECT_EQ(pair.client.goaways, 2);
  EXPECT_EQ(pair.client.goaway_last, late.id);
  EXPECT_FALSE(pair.client.mux.CanOpen());
  pair.client.Open();
  EXPECT_EQ(pair.client.open_error, OpenError::kDraining);
  EXPECT_FALSE(pair.server.mux.drained());
  first.Send("goes on");
  ASSERT_TRUE(pair.Pump());
  EXPECT_EQ(pair.server.at(0).received, "goes on");
  for (TestStream* stream : {&first, &late}) {
    pair.client.mux.ResetStream(stream->id, H2Error::kCancel);
  }
  ASSERT_TRUE(pair.Pump());
  EXPECT_TRUE(pair.server.mux.drained());
  EXPECT_TRUE(pair.client.mux.drained());
}

TEST(TunnelMuxTest, ResetsStreamsThatAGoAwayLeavesOut) {
  base::ManualClock clock;
  test::TunnelEnd client({.role = TunnelRole::kClient}, clock);
  TestStream& first = client.Open();
  TestStream& second = client.Open();
  test::Wire wire;
  wire.Settings();
  AppendGoAway(wire, first.id, H2Error::kNoError, "");
  client.Receive(wire);
  EXPECT_EQ(first.resets, 0);
  EXPECT_EQ(second.resets, 1);
  EXPECT_EQ(second.reset.cause, TunnelResetCause::kGoAway);
}

TEST(TunnelMuxTest, TellsEveryStreamWhenTheConnectionIsLost) {
  TunnelPair pair;
  for (int i = 0; i < 20; ++i) {
    pair.client.Open();
  }
  // One handler takes others down while they are being told.
  pair.client.at(5).on_reset = [&] {
    for (int i = 0; i < 20; i += 2) {
      pair.client.mux.ResetStream(pair.client.at(static_cast<std::size_t>(i)).id, H2Error::kCancel);
    }
  };
  const std::size_t output = pair.client.output.size();
  pair.client.mux.ConnectionLost();
  EXPECT_EQ(pair.client.output.size(), output);
  for (std::size_t i = 1; i < 20; i += 2) {
    EXPECT_EQ(pair.client.at(i).resets, 1) << i;
    EXPECT_EQ(pair.client.at(i).reset.cause, TunnelResetCause::kTunnel);
  }
  EXPECT_EQ(pair.client.mux.stream_count(), 0U);
  pair.client.Open();
  EXPECT_EQ(pair.client.open_error, OpenError::kClosed);
}

TEST(TunnelMuxTest, AnnouncesWhatItIsInTheFirstFlight) {
  base::ManualClock clock;
  test::TunnelEnd client({.role = TunnelRole::kClient}, clock);
  const auto frames = FramesIn(client.output.Take());
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(frames[0].header.type, H2FrameType::kSettings);
  std::map<std::uint16_t, std::uint32_t> settings;
  for (auto rest = test::AsBytes(frames[0].payload); !rest.empty(); rest = rest.subspan(6)) {
    settings[ReadU16(rest)] = ReadU32(rest.subspan(2));
  }
  EXPECT_EQ(settings[1], 0U);           // header table
  EXPECT_EQ(settings[2], 0U);           // push
  EXPECT_EQ(settings[4], 256U << 10U);  // stream window
  EXPECT_EQ(settings[5], 1U << 20U);    // frames
  EXPECT_EQ(settings[6], 16384U);       // header list
  EXPECT_EQ(frames[1].header.type, H2FrameType::kWindowUpdate);
  EXPECT_EQ(ReadU32(test::AsBytes(frames[1].payload)), (1U << 20U) - 65535U);
}

TEST(TunnelMuxTest, MeasuresTheRoundTripByPing) {
  TunnelPair pair;
  ASSERT_TRUE(pair.Pump());
  pair.client.mux.Ping(pair.clock.Now());
  ASSERT_TRUE(pair.client.mux.ping_sent().has_value());
  const auto ping = pair.client.output.Take();
  pair.server.Receive(ping);
  pair.clock.Advance(std::chrono::milliseconds(7));
  pair.client.Receive(pair.server.output.Take());
  EXPECT_FALSE(pair.client.mux.ping_sent().has_value());
  EXPECT_EQ(pair.client.mux.round_trip(), std::chrono::milliseconds(7));
}

TEST(TunnelMuxTest, CostsLittlePerIdleStream) {
  TunnelMuxConfig config;
  config.max_peer_streams = 10000;
  TunnelPair pair({}, config);
  ASSERT_TRUE(pair.Pump());
  for (int i = 0; i < 10000; ++i) {
    ASSERT_NE(pair.client.Open().id, 0U);
  }
  ASSERT_TRUE(pair.Pump());
  ASSERT_EQ(pair.server.mux.stream_count(), 10000U);
  pair.client.mux.Trim();
  pair.server.mux.Trim();
  EXPECT_LT(pair.client.mux.memory_bytes(), 10000U * 128U);
  EXPECT_LT(pair.server.mux.memory_bytes(), 10000U * 128U);
  for (const auto& stream : pair.client.streams) {
    pair.client.mux.ResetStream(stream->id, H2Error::kCancel);
  }
  EXPECT_LT(pair.client.mux.memory_bytes(), 4096U);
}

TEST(TunnelMuxTest, SurvivesManyShortStreams) {
  TunnelPair pair;
  ASSERT_TRUE(pair.Pump());
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 50; ++i) {
      TestStream& stream = pair.client.Open();
      ASSERT_NE(stream.id, 0U);
      stream.end_when_sent = true;
      stream.Send("ping");
    }
    ASSERT_TRUE(pair.Pump());
    for (const auto& stream : pair.server.streams) {
      ASSERT_EQ(stream->received, "ping");
      stream->end_when_sent = true;
      stream->Send("pong");
    }
    ASSERT_TRUE(pair.Pump());
    for (const auto& stream : pair.client.streams) {
      ASSERT_EQ(stream->received, "pong");
      ASSERT_EQ(stream->ends, 1);
    }
    ASSERT_EQ(pair.client.mux.stream_count() + pair.server.mux.stream_count(), 0U);
    pair.client.streams.clear();
    pair.server.streams.clear();
  }
  EXPECT_EQ(pair.client.errors + pair.server.errors, 0);
}

}  // namespace
}  // namespace weir::http
