// H2Relay between two nghttp2 sessions, which check every frame that they get.
#include <gtest/gtest.h>

#include <random>

#include "agent/http/h2_relay.h"
#include "tests/support/h2_relay_rig.h"
#include "tests/support/nghttp2_end.h"

namespace weir::test {
namespace {

using http::H2Side;

// A relay between its ends; bytes are cut by a seeded sequence.
class Between {
 public:
  explicit Between(std::uint32_t seed = 1) : random_(seed) {
    server.answer = [](const Nghttp2Stream& request) {
      Nghttp2Message answer{.fields = {{":status", "200"}, {"x-path", request.Field(":path")}},
                            .body = request.body,
                            .trailers = {}};
      if (!request.trailers.empty()) {
        answer.trailers = {{"grpc-status", "0"}, {"x-sum", request.trailers[0].second}};
      }
      return answer;
    };
  }
  // Until nobody has anything more to send.
  void Run() {
    for (int turn = 0; turn < 10000; ++turn) {
      const std::vector<std::uint8_t> from_client = client.Send();
      const std::vector<std::uint8_t> from_server = server.Send();
      if (from_client.empty() && from_server.empty()) {
        return;
      }
      Pass(H2Side::kClient, from_client);
      Pass(H2Side::kServer, from_server);
    }
    ADD_FAILURE() << "they never came to rest";
  }

  Nghttp2End client{false};
  Nghttp2End server{true};
  H2RelayRig rig;
  std::size_t most_pieces = 5000;  // bytes
  std::string sent_by_client;      // without header blocks, as Passed
  std::string sent_by_server;

 private:
  void Pass(H2Side from, Bytes bytes) {
    std::string& sent = from == H2Side::kClient ? sent_by_client : sent_by_server;
    sent.append(bytes.begin(), bytes.end());
    while (!bytes.empty()) {
      const std::size_t count = std::min<std::size_t>(bytes.size(), 1 + random_() % most_pieces);
      FrameLog to_server;
      FrameLog to_client;
      const http::H2Relay::Output out{.to_server = to_server, .to_client = to_client};
      const Bytes direct = rig.relay.Receive(from, bytes.first(count), rig.clock.Now(), out);
      (from == H2Side::kClient ? to_server : to_client).Append(direct);
      rig.to_server.Append(to_server.bytes());
      rig.to_client.Append(to_client.bytes());
      server.Receive(to_server.bytes());
      client.Receive(to_client.bytes());
      bytes = bytes.subspan(count);
    }
  }
  std::minstd_rand random_;
};

TextFields Head(const std::string& path, const std::string& method = "POST") {
  return {{":method", method},
          {":scheme", "http"},
          {":path", path},
          {":authority", "back:80"},
          {"x-same", "the same value in every request"},
          {"x-own-" + path.substr(1), path},
          {"authorization", "secret"}};
}

struct Variation {
  const char* name;
  std::vector<nghttp2_settings_entry> client;
  std::vector<nghttp2_settings_entry> server;
  std::size_t padding;
  std::size_t most_pieces;
};

class H2RelayNghttp2Test : public ::testing::TestWithParam<Variation> {};

INSTANTIATE_TEST_SUITE_P(
    Variations, H2RelayNghttp2Test,
    ::testing::Values(Variation{"Plain", {}, {}, 0, 20000},
                      Variation{"InSmallPieces", {}, {}, 0, 30},
                      Variation{"Padded", {}, {}, 77, 5000},
                      Variation{"NoTables",
                                {{NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 0}},
                                {{NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 0}},
                                0,
                                5000},
                      Variation{"LargeTables",
                                {{NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 1U << 20U}},
                                {{NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 20000}},
                                9,
                                5000},
                      Variation{"LargeFrames",
                                {{NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 1U << 20U},
                                 {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1U << 20U}},
                                {{NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 1U << 18U},
                                 {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1U << 20U}},
                                0,
                                100000}),
    [](const auto& one) { return one.param.name; });

TEST_P(H2RelayNghttp2Test, CarriesManyStreamsWithBodiesAndTrailers) {
  Between between;
  between.client.padding = between.server.padding = GetParam().padding;
  between.most_pieces = GetParam().most_pieces;
  between.rig.added["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  between.client.Settings(GetParam().client);
  between.server.Settings(GetParam().server);
  std::map<std::int32_t, std::string> bodies;
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 25; ++i) {
      const std::string path = "/" + std::to_string(round * 25 + i);
      Nghttp2Message message{.fields = Head(path), .body = {}, .trailers = {}};
      for (int k = 0; k < i * 100; ++k) {
        message.body += path;
      }
      if (i % 3 == 0) {
        message.trailers = {{"x-sum", std::to_string(i)}};
      }
      const std::string body = message.body;
      bodies[between.client.Request(std::move(message))] = body;
    }
    between.Run();
  }
  ASSERT_FALSE(between.rig.relay.closed()) << ToString(between.rig.relay.violation());
  ASSERT_EQ(bodies.size(), 100U);
  for (const auto& [id, body] : bodies) {
    const Nghttp2Stream& seen = between.client.streams[id];
    const Nghttp2Stream& served = between.server.streams[id];
    EXPECT_EQ(seen.body, body);
    EXPECT_EQ(seen.Field("x-path"), seen.sends.fields[2].second);
    TextFields expected = seen.sends.fields;
    expected.emplace_back("traceparent", between.rig.added["traceparent"]);
    EXPECT_EQ(served.fields, expected);
    EXPECT_EQ(served.trailers, seen.sends.trailers);
    EXPECT_EQ(seen.trailers.empty(), seen.sends.trailers.empty());
    EXPECT_TRUE(seen.closed && seen.close_code == 0);
  }
  EXPECT_EQ(between.client.invalid_frames + between.server.invalid_frames, 0);
  EXPECT_EQ(between.rig.open, 0);
  EXPECT_EQ(between.rig.ends.size(), 100U);
  // Byte for byte, but for header blocks and the SETTINGS that the relay changes.
  const auto plain = [](std::string_view bytes) {
    std::string rest;
    for (const SeenFrame& frame : FramesIn(AsBytes(bytes))) {
      if (frame.header.type != http::H2FrameType::kSettings &&
          frame.header.type != http::H2FrameType::kHeaders &&
          frame.header.type != http::H2FrameType::kContinuation) {
        rest += std::to_string(static_cast<unsigned>(frame.header.type)) + '/' +
                std::to_string(frame.header.flags) + '/' + std::to_string(frame.header.stream_id) +
                '/' + frame.payload;
      }
    }
    return rest;
  };
  const auto passed = [](const FrameLog& log) {
    return std::string(log.bytes().begin(), log.bytes().end());
  };
  EXPECT_EQ(plain(between.sent_by_client), plain(passed(between.rig.to_server)));
  EXPECT_EQ(plain(between.sent_by_server), plain(passed(between.rig.to_client)));
}

TEST(H2RelayNghttp2SettingsTest, FollowsTablesThatChangeAllTheTime) {
  Between between(7);
  between.client.Settings({});
  between.server.Settings({});
  for (std::uint32_t round = 0; round < 60; ++round) {
    const std::uint32_t size = (round * 7919) % 9000;
    (round % 2 == 0 ? between.client : between.server)
        .Settings({{NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, size},
                   {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 16384 + round}});
    for (int i = 0; i < 3; ++i) {
      Nghttp2Message message{
          .fields = Head("/" + std::to_string(round)), .body = "b", .trailers = {{"x-sum", "1"}}};
      message.fields.emplace_back("x-long", std::string(round * 300, 'l'));
      between.client.Request(std::move(message));
    }
    between.Run();
    ASSERT_FALSE(between.rig.relay.closed()) << round;
  }
  EXPECT_EQ(between.rig.ends.size(), 180U);
  EXPECT_EQ(between.client.goaways + between.server.goaways, 0);
  for (const auto& [id, stream] : between.client.streams) {
    EXPECT_EQ(stream.Field(":status"), "200") << id;
  }
}

TEST(H2RelayNghttp2SettingsTest, RejectsOneStreamAndLeavesTheOthers) {
  Between between;
  between.client.Settings({});
  between.server.Settings({});
  std::vector<std::int32_t> good;
  std::vector<std::int32_t> bad;
  for (int i = 0; i < 40; ++i) {
    Nghttp2Message message{
        .fields = Head("/" + std::to_string(i)), .body = std::string(5000, 'x'), .trailers = {}};
    if (i % 4 == 1) {
      message.fields.emplace_back("connection", "close");  // nghttp2's client does not look
    }
    (i % 4 == 1 ? bad : good).push_back(between.client.Request(std::move(message)));
  }
  between.Run();
  ASSERT_FALSE(between.rig.relay.closed()) << ToString(between.rig.relay.violation());
  for (const std::int32_t id : good) {
    EXPECT_EQ(between.client.streams[id].body.size(), 5000U) << id;
  }
  for (const std::int32_t id : bad) {
    EXPECT_EQ(between.client.streams[id].close_code, NGHTTP2_PROTOCOL_ERROR) << id;
    EXPECT_FALSE(between.server.streams.contains(id));
  }
  // 200,000 bytes and more went through a window of 65,535: what was swallowed came back.
  EXPECT_EQ(between.client.goaways + between.server.goaways, 0);
  EXPECT_EQ(nghttp2_session_get_remote_window_size(between.client.session()),
            nghttp2_session_get_effective_local_window_size(between.server.session()) -
                nghttp2_session_get_effective_recv_data_length(between.server.session()));
}

TEST(H2RelayNghttp2SettingsTest, PassesResetsBothWays) {
  Between between;
  between.server.answer = nullptr;
  between.client.Settings({});
  between.server.Settings({});
  const auto first = between.client.Request({.fields = Head("/1"), .body = {}, .trailers = {}});
  const auto second = between.client.Request({.fields = Head("/2"), .body = {}, .trailers = {}});
  between.Run();
  between.client.Reset(first);
  between.server.Reset(second, NGHTTP2_REFUSED_STREAM);
  between.Run();
  EXPECT_EQ(between.server.streams[first].close_code, NGHTTP2_CANCEL);
  EXPECT_EQ(between.client.streams[second].close_code, NGHTTP2_REFUSED_STREAM);
  EXPECT_EQ(between.rig.open, 0);
}

}  // namespace
}  // namespace weir::test
