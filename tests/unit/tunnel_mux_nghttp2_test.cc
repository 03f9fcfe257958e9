// TunnelMux against nghttp2 sessions, which share nothing with it but the HPACK coder.
#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include <string>
#include <utility>

#include "agent/http/tunnel_mux.h"
#include "tests/support/nghttp2_end.h"
#include "tests/support/tunnel_rig.h"

namespace weir::http {
namespace {

using test::Nghttp2End;
using test::Nghttp2Message;
using test::Nghttp2Stream;
using test::Pattern;
using test::TestStream;
using test::TunnelEnd;

constexpr std::size_t kPaddingBytes = 37;

std::int32_t Connect(Nghttp2End& client, const std::string& authority, std::string to_send) {
  return client.Request({.fields = {{":method", "CONNECT"}, {":authority", authority}},
                         .body = std::move(to_send),
                         .is_tunnel = true});
}

struct Shape {
  std::uint32_t window_bytes;
  std::uint32_t frame_bytes;
  bool pad;
  std::size_t streams;
  std::size_t bytes;
};

class TunnelNghttp2Test : public testing::TestWithParam<Shape> {
 protected:
  static bool Exchange(TunnelEnd& mux, Nghttp2End& peer) {
    const auto out = mux.output.Take();
    peer.Receive(out);
    mux.mux.OnOutputDrained(mux.clock.Now());
    const auto in = peer.Send();
    mux.Receive(in);
    mux.clock.Advance(std::chrono::microseconds(200));
    return !out.empty() || !in.empty();
  }
  static void Pump(TunnelEnd& mux, Nghttp2End& peer) {
    int turns = 0;
    while (Exchange(mux, peer)) {
      ASSERT_LT(++turns, 100000) << "no end";
    }
  }
  static void Start(Nghttp2End& peer) {
    peer.padding = GetParam().pad ? kPaddingBytes : 0;
    peer.Settings({{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GetParam().window_bytes},
                   {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, GetParam().frame_bytes}});
    const auto window = static_cast<std::int32_t>(std::max(GetParam().window_bytes, 65535U));
    ASSERT_EQ(nghttp2_session_set_local_window_size(peer.session(), NGHTTP2_FLAG_NONE, 0, window),
              0);
  }
};

TEST_P(TunnelNghttp2Test, OurClientTalksToItsServer) {
  base::ManualClock clock;
  TunnelEnd client({.role = TunnelRole::kClient}, clock);
  Nghttp2End server(/*server=*/true);
  const std::string answer = Pattern(GetParam().bytes, 7);
  server.answers_heads = true;
  server.answer = [&](const Nghttp2Stream&) {
    return Nghttp2Message{.fields = {{":status", "200"}}, .body = answer, .is_tunnel = true};
  };
  Start(server);
  for (std::size_t i = 0; i < GetParam().streams; ++i) {
    TestStream& stream = client.Open("198.18.0.1:" + std::to_string(i + 1));
    stream.end_when_sent = true;
    stream.Send(Pattern(GetParam().bytes, static_cast<std::uint32_t>(i)));
  }
  Pump(client, server);
  EXPECT_EQ(client.errors, 0) << ToString(client.violation);
  ASSERT_EQ(server.streams.size(), GetParam().streams);
  for (std::size_t i = 0; i < GetParam().streams; ++i) {
    const Nghttp2Stream& at_server = server.streams.at(static_cast<std::int32_t>(2 * i + 1));
    EXPECT_EQ(at_server.Field(":authority"), "198.18.0.1:" + std::to_string(i + 1));
    EXPECT_TRUE(at_server.body == Pattern(GetParam().bytes, static_cast<std::uint32_t>(i)));
    EXPECT_TRUE(at_server.ended);
    EXPECT_EQ(client.at(i).accepted, 200);
    EXPECT_EQ(client.at(i).ends, 1);
    EXPECT_TRUE(client.at(i).received == answer);
  }
  EXPECT_EQ(client.mux.stream_count(), 0U);
}

TEST_P(TunnelNghttp2Test, ItsClientTalksToOurServer) {
  base::ManualClock clock;
  TunnelEnd server({.role = TunnelRole::kServer}, clock);
  Nghttp2End client(/*server=*/false);
  Start(client);
  server.on_opened = [&](TestStream& stream) {
    server.mux.Accept(stream.id);
    stream.end_when_sent = true;
    stream.to_send = Pattern(GetParam().bytes, 9);
  };
  for (std::size_t i = 0; i < GetParam().streams; ++i) {
    Connect(client, "h:" + std::to_string(i + 1),
            Pattern(GetParam().bytes, static_cast<std::uint32_t>(i)));
  }
  while (Exchange(server, client)) {
    for (const auto& stream : server.streams) {
      if (stream->writables == 0) {
        stream->Pump();
      }
    }
  }
  EXPECT_EQ(server.errors, 0) << ToString(server.violation);
  ASSERT_EQ(server.streams.size(), GetParam().streams);
  for (std::size_t i = 0; i < GetParam().streams; ++i) {
    EXPECT_TRUE(server.at(i).received == Pattern(GetParam().bytes, static_cast<std::uint32_t>(i)));
    const Nghttp2Stream& at_client = client.streams.at(static_cast<std::int32_t>(2 * i + 1));
    EXPECT_EQ(at_client.Field(":status"), "200");
    EXPECT_TRUE(at_client.body == Pattern(GetParam().bytes, 9));
    EXPECT_TRUE(at_client.closed);
    EXPECT_EQ(at_client.close_code, 0U);
  }
  EXPECT_EQ(server.mux.stream_count(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Shapes, TunnelNghttp2Test,
                         testing::Values(Shape{65535, 16384, false, 1, 1000},
                                         Shape{65535, 16384, false, 50, 0},
                                         Shape{65535, 16384, true, 8, 300000},
                                         Shape{1000, 16384, false, 4, 100000},
                                         Shape{4U << 20U, 1U << 20U, false, 1, 16U << 20U},
                                         Shape{1U << 20U, 262144, false, 8, 4U << 20U}));

TEST(TunnelNghttp2ResetTest, ResetsAndRefusalsAreUnderstood) {
  base::ManualClock clock;
  TunnelEnd server({.role = TunnelRole::kServer}, clock);
  server.on_opened = [&](TestStream& stream) {
    if (stream.id == 1) {
      server.mux.Refuse(stream.id, 503);
    } else {
      server.mux.Accept(stream.id);
      server.mux.ResetStream(stream.id, H2Error::kConnectError);
    }
  };
  Nghttp2End client(/*server=*/false);
  client.Settings({});
  Connect(client, "a:1", std::string(100000, 'x'));
  Connect(client, "b:1", std::string(100000, 'x'));
  for (int i = 0; i < 20; ++i) {
    server.Receive(client.Send());
    client.Receive(server.output.Take());
  }
  EXPECT_EQ(server.errors, 0) << ToString(server.violation);
  EXPECT_EQ(client.streams[1].Field(":status"), "503");
  EXPECT_TRUE(client.streams[1].closed);
  EXPECT_EQ(client.streams[1].close_code, 0U);
  EXPECT_EQ(client.streams[3].close_code, static_cast<std::uint32_t>(H2Error::kConnectError));
  // A stream that goes on keeps the session from ending at the first GOAWAY.
  server.on_opened = [&](TestStream& stream) { server.mux.Accept(stream.id); };
  const std::int32_t last = Connect(client, "c:1", "x");
  server.Receive(client.Send());
  server.mux.Drain(clock.Now());
  for (int i = 0; i < 4; ++i) {
    client.Receive(server.output.Take());
    server.Receive(client.Send());
  }
  EXPECT_EQ(client.goaways, 2);
  EXPECT_FALSE(server.mux.drained());
  server.mux.EndStream(static_cast<TunnelStreamId>(last));
  EXPECT_TRUE(server.mux.drained());
}

}  // namespace
}  // namespace weir::http
