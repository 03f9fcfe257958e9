// TunnelMux against nghttp2 sessions, which share nothing with it but the HPACK coder.
#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include "agent/http/tunnel_mux.h"
#include "tests/support/tunnel_rig.h"

namespace weir::http {
namespace {

using test::Pattern;
using test::TestStream;
using test::TunnelEnd;

// One stream of the nghttp2 side.
struct PeerStream {
  std::string authority;
  std::string status;
  std::string received;
  std::string to_send;
  std::size_t sent = 0;
  bool remote_ended = false;
  bool closed = false;
  std::uint32_t close_code = 0;
};

// A CONNECT client or server made of an nghttp2 session.
class Nghttp2Peer {
 public:
  explicit Nghttp2Peer(bool server) : server_(server) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, OnBeginHeaders);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, OnFrame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnChunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
    nghttp2_session_callbacks_set_select_padding_callback(callbacks, SelectPadding);
    if (server) {
      nghttp2_session_server_new(&session_, callbacks, this);
    } else {
      nghttp2_session_client_new(&session_, callbacks, this);
    }
    nghttp2_session_callbacks_del(callbacks);
  }
  Nghttp2Peer(const Nghttp2Peer&) = delete;
  Nghttp2Peer& operator=(const Nghttp2Peer&) = delete;
  ~Nghttp2Peer() { nghttp2_session_del(session_); }

  void Start(const std::vector<nghttp2_settings_entry>& settings, std::int32_t tunnel_window) {
    ASSERT_EQ(
        nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size()), 0);
    ASSERT_EQ(nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, tunnel_window),
              0);
  }
  std::int32_t Connect(const std::string& authority, std::string to_send) {
    const auto nv = [](const char* name, const std::string& value) {
      return nghttp2_nv{reinterpret_cast<std::uint8_t*>(const_cast<char*>(name)),
                        reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())),
                        std::char_traits<char>::length(name), value.size(), NGHTTP2_NV_FLAG_NONE};
    };
    const std::string method = "CONNECT";
    const std::array<nghttp2_nv, 2> fields = {nv(":method", method), nv(":authority", authority)};
    const nghttp2_data_provider provider{.source = {.ptr = this}, .read_callback = ReadData};
    const std::int32_t id =
        nghttp2_submit_request(session_, nullptr, fields.data(), fields.size(), &provider, nullptr);
    streams[id].to_send = std::move(to_send);
    return id;
  }
  // Everything that it wants to send now.
  std::vector<std::uint8_t> Send() {
    std::vector<std::uint8_t> sent;
    for (;;) {
      const std::uint8_t* data = nullptr;
      const auto count = nghttp2_session_mem_send(session_, &data);
      if (count <= 0) {
        EXPECT_EQ(count, 0) << nghttp2_strerror(static_cast<int>(count));
        return sent;
      }
      sent.insert(sent.end(), data, data + count);
    }
  }
  void Receive(std::span<const std::uint8_t> bytes) {
    const auto count = nghttp2_session_mem_recv(session_, bytes.data(), bytes.size());
    EXPECT_EQ(count, static_cast<ssize_t>(bytes.size()))
        << nghttp2_strerror(static_cast<int>(count));
  }

  std::map<std::int32_t, PeerStream> streams;
  std::string answer;  // a server sends this on each stream
  bool pad = false;
  int goaways = 0;

 private:
  static Nghttp2Peer& Of(void* user) { return *static_cast<Nghttp2Peer*>(user); }
  static int OnBeginHeaders(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    Of(user).streams[frame->hd.stream_id];
    return 0;
  }
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                      std::size_t name_bytes, const std::uint8_t* value, std::size_t value_bytes,
                      std::uint8_t, void* user) {
    const std::string key(name, name + name_bytes);
    PeerStream& stream = Of(user).streams[frame->hd.stream_id];
    if (key == ":authority") {
      stream.authority.assign(value, value + value_bytes);
    } else if (key == ":status") {
      stream.status.assign(value, value + value_bytes);
    }
    return 0;
  }
  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Nghttp2Peer& peer = Of(user);
    if (frame->hd.type == NGHTTP2_GOAWAY) {
      ++peer.goaways;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && peer.server_) {
      PeerStream& stream = peer.streams[frame->hd.stream_id];
      stream.to_send = peer.answer;
      std::string status = ":status";
      std::string code = "200";
      const nghttp2_nv field{reinterpret_cast<std::uint8_t*>(status.data()),
                             reinterpret_cast<std::uint8_t*>(code.data()), status.size(),
                             code.size(), NGHTTP2_NV_FLAG_NONE};
      const nghttp2_data_provider provider{.source = {.ptr = user}, .read_callback = ReadData};
      EXPECT_EQ(nghttp2_submit_response(session, frame->hd.stream_id, &field, 1, &provider), 0);
    }
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
        (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)) {
      peer.streams[frame->hd.stream_id].remote_ended = true;
    }
    return 0;
  }
  static int OnChunk(nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data,
                     std::size_t count, void* user) {
    Of(user).streams[id].received.append(data, data + count);
    return 0;
  }
  static int OnClose(nghttp2_session*, std::int32_t id, std::uint32_t code, void* user) {
    Of(user).streams[id].closed = true;
    Of(user).streams[id].close_code = code;
    return 0;
  }
  static ssize_t SelectPadding(nghttp2_session*, const nghttp2_frame* frame, std::size_t most,
                               void* user) {
    const std::size_t plain = frame->hd.length;
    return static_cast<ssize_t>(Of(user).pad ? std::min(most, plain + 37) : plain);
  }
  static ssize_t ReadData(nghttp2_session*, std::int32_t id, std::uint8_t* to, std::size_t most,
                          std::uint32_t* flags, nghttp2_data_source*, void* user) {
    PeerStream& stream = Of(user).streams[id];
    const std::size_t count = std::min(most, stream.to_send.size() - stream.sent);
    std::copy_n(stream.to_send.begin() + static_cast<std::ptrdiff_t>(stream.sent), count, to);
    stream.sent += count;
    if (stream.sent == stream.to_send.size()) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return static_cast<ssize_t>(count);
  }

  nghttp2_session* session_ = nullptr;
  bool server_;
};

struct Shape {
  std::uint32_t window_bytes;
  std::uint32_t frame_bytes;
  bool pad;
  std::size_t streams;
  std::size_t bytes;
};

class TunnelNghttp2Test : public testing::TestWithParam<Shape> {
 protected:
  static bool Exchange(TunnelEnd& mux, Nghttp2Peer& peer) {
    const auto out = mux.output.Take();
    peer.Receive(out);
    mux.mux.OnOutputDrained(mux.clock.Now());
    const auto in = peer.Send();
    mux.Receive(in);
    mux.clock.Advance(std::chrono::microseconds(200));
    return !out.empty() || !in.empty();
  }
  static void Pump(TunnelEnd& mux, Nghttp2Peer& peer) {
    int turns = 0;
    while (Exchange(mux, peer)) {
      ASSERT_LT(++turns, 100000) << "no end";
    }
  }
  static void Start(Nghttp2Peer& peer) {
    peer.pad = GetParam().pad;
    peer.Start({{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GetParam().window_bytes},
                {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, GetParam().frame_bytes}},
               static_cast<std::int32_t>(std::max(GetParam().window_bytes, 65535U)));
  }
};

TEST_P(TunnelNghttp2Test, OurClientTalksToItsServer) {
  base::ManualClock clock;
  TunnelEnd client({.role = TunnelRole::kClient}, clock);
  Nghttp2Peer server(/*server=*/true);
  server.answer = Pattern(GetParam().bytes, 7);
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
    const PeerStream& at_server = server.streams.at(static_cast<std::int32_t>(2 * i + 1));
    EXPECT_EQ(at_server.authority, "198.18.0.1:" + std::to_string(i + 1));
    EXPECT_TRUE(at_server.received == Pattern(GetParam().bytes, static_cast<std::uint32_t>(i)));
    EXPECT_TRUE(at_server.remote_ended);
    EXPECT_EQ(client.at(i).accepted, 200);
    EXPECT_EQ(client.at(i).ends, 1);
    EXPECT_TRUE(client.at(i).received == server.answer);
  }
  EXPECT_EQ(client.mux.stream_count(), 0U);
}

TEST_P(TunnelNghttp2Test, ItsClientTalksToOurServer) {
  base::ManualClock clock;
  TunnelEnd server({.role = TunnelRole::kServer}, clock);
  Nghttp2Peer client(/*server=*/false);
  Start(client);
  server.on_opened = [&](TestStream& stream) {
    server.mux.Accept(stream.id);
    stream.end_when_sent = true;
    stream.to_send = Pattern(GetParam().bytes, 9);
  };
  for (std::size_t i = 0; i < GetParam().streams; ++i) {
    client.Connect("h:" + std::to_string(i + 1),
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
    const PeerStream& at_client = client.streams.at(static_cast<std::int32_t>(2 * i + 1));
    EXPECT_EQ(at_client.status, "200");
    EXPECT_TRUE(at_client.received == Pattern(GetParam().bytes, 9));
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
  Nghttp2Peer client(/*server=*/false);
  client.Start({}, 65535);
  client.Connect("a:1", std::string(100000, 'x'));
  client.Connect("b:1", std::string(100000, 'x'));
  for (int i = 0; i < 20; ++i) {
    server.Receive(client.Send());
    client.Receive(server.output.Take());
  }
  EXPECT_EQ(server.errors, 0) << ToString(server.violation);
  EXPECT_EQ(client.streams[1].status, "503");
  EXPECT_TRUE(client.streams[1].closed);
  EXPECT_EQ(client.streams[1].close_code, 0U);
  EXPECT_EQ(client.streams[3].close_code, static_cast<std::uint32_t>(H2Error::kConnectError));
  // A stream that goes on keeps the session from ending at the first GOAWAY.
  server.on_opened = [&](TestStream& stream) { server.mux.Accept(stream.id); };
  const std::int32_t last = client.Connect("c:1", "x");
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
