// HTTP/2 and gRPC through workers, with nghttp2 at both ends.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/nghttp2_end.h"
#include "tests/support/proxy_bed.h"
#include "tests/support/tcp.h"
#include "tests/support/tunnel_rig.h"

namespace weir::test {
namespace {

using observe::Direction;
using observe::Protocol;
using observe::Reason;
using std::chrono::steady_clock;

bool SendAllBytes(int fd, std::span<const std::uint8_t> bytes) {
  return SendAll(fd, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// Exchanges bytes between `end` and its socket until `done`, the other end's FIN or reset,
// or kBedWait; false unless done.
bool Drive(Nghttp2End& end, int fd, const std::function<bool()>& done) {
  std::vector<std::uint8_t> buffer(65536);
  const auto until = steady_clock::now() + kBedWait;
  while (steady_clock::now() < until) {
    if (const auto bytes = end.Send(); !bytes.empty() && !SendAllBytes(fd, bytes)) {
      return done();
    }
    if (done()) {
      return true;
    }
    pollfd poll_fd{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&poll_fd, 1, 50) <= 0) {
      continue;
    }
    const ssize_t count = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (count <= 0) {
      return done();
    }
    end.Receive(std::span(buffer).first(static_cast<std::size_t>(count)));
  }
  return done();
}

// An HTTP/2 server that answers every connection to `listener` until it goes.
class Http2Server {
 public:
  explicit Http2Server(int listener, bool speaks_first = false)
      : thread_([this, listener, speaks_first] { Serve(listener, speaks_first); }) {}
  Http2Server(const Http2Server&) = delete;
  Http2Server& operator=(const Http2Server&) = delete;
  ~Http2Server() {
    ending_ = true;
    thread_.join();
  }
  // It sent its SETTINGS before it read anything.
  [[nodiscard]] bool spoke() const { return spoke_; }

 private:
  void Serve(int listener, bool speaks_first) {
    const base::UniqueFd fd = AcceptOne(listener);
    if (!fd.valid()) {
      return;
    }
    Nghttp2End end(/*server=*/true);
    end.answer = [](const Nghttp2Stream& request) { return Answer(request); };
    end.Settings({});
    if (speaks_first) {
      spoke_ = SendAllBytes(fd.get(), end.Send());
    }
    (void)Drive(end, fd.get(), [this] { return ending_.load(); });
  }
  static Nghttp2Message Answer(const Nghttp2Stream& request) {
    if (request.Field("content-type").starts_with("application/grpc")) {
      return {.fields = {{":status", "200"}, {"content-type", "application/grpc"}},
              .body = request.body,
              .trailers = {{"grpc-status", "5"}}};
    }
    return {.fields = {{":status", "200"}, {"x-parent", request.Field("traceparent")}},
            .body = request.body,
            .trailers = {}};
  }
  std::atomic<bool> ending_{false};
  std::atomic<bool> spoke_{false};
  std::thread thread_;
};

TextFields Request(const std::string& path, const std::string& method = "POST") {
  return {{":method", method}, {":scheme", "http"}, {":path", path}, {":authority", "shop:80"}};
}

enum class Way : std::uint8_t { kJoin, kTunnel, kPassthrough };

class Http2WayTest : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    client_ = bed_.AddPod(0, "client");
    if (GetParam() == Way::kPassthrough) {
      server_.listener = Listen("127.0.0.1", 0);
      server_.endpoint = {.address = base::IpAddress::Parse("127.0.0.1").value(),
                          .port = PortOf(server_.listener.get())};
    } else {
      server_node_ = GetParam() == Way::kTunnel ? 1 : 0;
      server_ = bed_.Expose(bed_.AddPod(server_node_, "server"));
    }
    bed_.Publish();
  }
  std::optional<observe::Record> WaitForRequest(std::size_t node, Direction direction) {
    return bed_.records(node).WaitFor([&](const observe::Record& record) {
      return record.flow.is_request && record.flow.direction == direction;
    });
  }

  ProxyBed bed_{{1, 1}};
  std::size_t client_ = 0;
  std::size_t server_node_ = 0;
  ProxyBed::Application server_;
};

INSTANTIATE_TEST_SUITE_P(Ways, Http2WayTest,
                         ::testing::Values(Way::kJoin, Way::kTunnel, Way::kPassthrough),
                         [](const auto& one) {
                           return one.param == Way::kJoin     ? "Join"
                                  : one.param == Way::kTunnel ? "Tunnel"
                                                              : "Passthrough";
                         });

TEST_P(Http2WayTest, MakesSpansOfStreams) {
  const Http2Server server(server_.listener.get());
  const base::UniqueFd fd = bed_.Connect(client_, server_.endpoint);
  Nghttp2End client(/*server=*/false);
  client.Settings({{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1U << 20U}});
  const std::string body(300000, 'b');
  const auto id = client.Request({.fields = Request("/a?k=1"), .body = body, .trailers = {}});
  ASSERT_TRUE(Drive(client, fd.get(), [&] { return client.streams[id].closed; }));
  EXPECT_EQ(client.streams[id].Field(":status"), "200");
  EXPECT_TRUE(client.streams[id].body == body);
  const auto sent = WaitForRequest(0, Direction::kOutbound);
  ASSERT_TRUE(sent && sent->span);
  EXPECT_EQ(sent->flow.protocol, Protocol::kHttp2);
  EXPECT_EQ(sent->flow.http->status, 200);
  EXPECT_EQ(sent->flow.http->path, "/a");
  EXPECT_GE(sent->flow.bytes_sent, body.size());
  EXPECT_GE(sent->flow.bytes_received, body.size());
  std::string named = observe::ToHex(sent->span->span_id);
  if (GetParam() != Way::kPassthrough) {
    const auto received = WaitForRequest(server_node_, Direction::kInbound);
    ASSERT_TRUE(received && received->span);
    EXPECT_EQ(received->span->trace_id, sent->span->trace_id);
    EXPECT_EQ(received->span->parent_span_id, sent->span->span_id);
    named = observe::ToHex(received->span->span_id);
  }
  EXPECT_EQ(client.streams[id].Field("x-parent"),
            "00-" + observe::ToHex(sent->span->trace_id) + "-" + named + "-03");
}

// An application writes more than requests: no write says which it was.
TEST_P(Http2WayTest, TellsOfStreamsThatAreAloneAndInfersNoParentsOfThem) {
  seam::ParentHint hint{.source = seam::HintSource::kSole, .parent = {}, .candidates = {}};
  hint.parent.span.trace_id[0] = 7;
  hint.parent.span.span_id[0] = 8;
  bed_.causality().Say(hint);
  const Http2Server server(server_.listener.get());
  const base::UniqueFd fd = bed_.Connect(client_, server_.endpoint);
  Nghttp2End client(/*server=*/false);
  client.Settings({});
  const auto id = client.Request({.fields = Request("/"), .body = {}, .trailers = {}});
  ASSERT_TRUE(Drive(client, fd.get(), [&] { return client.streams[id].closed; }));
  const auto sent = WaitForRequest(0, Direction::kOutbound);
  ASSERT_TRUE(sent && sent->span);
  EXPECT_EQ(sent->span->parent_source, observe::ParentSource::kNone);
  EXPECT_EQ(bed_.causality().asked(), 0);
  const int delivered = GetParam() == Way::kPassthrough ? 0 : 1;
  EXPECT_EQ(bed_.causality().streams(), delivered);
  ASSERT_EQ(bed_.causality().begun().size(), static_cast<std::size_t>(delivered));
  EXPECT_EQ(bed_.causality().ended(), delivered);
  EXPECT_EQ(bed_.causality().multiplexed(), 0);
  if (delivered == 1) {
    const auto received = WaitForRequest(server_node_, Direction::kInbound);
    ASSERT_TRUE(received && received->span);
    EXPECT_EQ(bed_.causality().begun()[0].context.span.span_id, received->span->span_id);
  }
}

// Both requests are written before either is answered.
TEST_P(Http2WayTest, TellsThatStreamsOverlap) {
  const Http2Server server(server_.listener.get());
  const base::UniqueFd fd = bed_.Connect(client_, server_.endpoint);
  Nghttp2End client(/*server=*/false);
  client.Settings({});
  const auto one = client.Request({.fields = Request("/1"), .body = {}, .trailers = {}});
  const auto two = client.Request({.fields = Request("/2"), .body = {}, .trailers = {}});
  ASSERT_TRUE(Drive(client, fd.get(),
                    [&] { return client.streams[one].closed && client.streams[two].closed; }));
  const int delivered = GetParam() == Way::kPassthrough ? 0 : 1;
  EXPECT_EQ(bed_.causality().multiplexed(), delivered);
  EXPECT_EQ(bed_.causality().begun().size(), static_cast<std::size_t>(delivered));
  EXPECT_EQ(bed_.causality().ended(), delivered);
}

TEST_P(Http2WayTest, TellsGrpcCallsByTheirStatus) {
  const Http2Server server(server_.listener.get());
  const base::UniqueFd fd = bed_.Connect(client_, server_.endpoint);
  Nghttp2End client(/*server=*/false);
  client.Settings({});
  TextFields call = Request("/shop.Cart/Add");
  call.emplace_back("content-type", "application/grpc");
  call.emplace_back("te", "trailers");
  const auto id = client.Request({.fields = call, .body = std::string(5, '\0'), .trailers = {}});
  ASSERT_TRUE(Drive(client, fd.get(), [&] { return client.streams[id].closed; }));
  EXPECT_EQ(client.streams[id].trailers, (TextFields{{"grpc-status", "5"}}));
  const auto record = WaitForRequest(0, Direction::kOutbound);
  ASSERT_TRUE(record);
  EXPECT_EQ(record->flow.protocol, Protocol::kGrpc);
  EXPECT_EQ(record->flow.http->grpc_status, 5);
}

// Requests of who may not come in are answered without the application, the connection stays.
TEST_P(Http2WayTest, AnswersDeniedRequests) {
  if (GetParam() == Way::kPassthrough) {
    GTEST_SKIP() << "nobody decides for what is outside of the mesh";
  }
  bed_.pod(1).permissions = MakePermissions({});
  bed_.Publish();
  const base::UniqueFd fd = bed_.Connect(client_, server_.endpoint);
  Nghttp2End client(/*server=*/false);
  client.Settings({});
  TextFields call = Request("/shop.Cart/Add");
  call.emplace_back("content-type", "application/grpc");
  call.emplace_back("te", "trailers");
  const auto plain = client.Request({.fields = Request("/a"), .body = "body", .trailers = {}});
  const auto grpc = client.Request({.fields = call, .body = std::string(5, '\0'), .trailers = {}});
  ASSERT_TRUE(Drive(client, fd.get(),
                    [&] { return client.streams[plain].closed && client.streams[grpc].closed; }));
  EXPECT_EQ(client.streams[plain].Field(":status"), "403");
  EXPECT_EQ(client.streams[grpc].Field(":status"), "200");
  EXPECT_EQ(client.streams[grpc].Field("grpc-status"), "7");
  const auto later = client.Request({.fields = Request("/b", "GET"), .body = {}, .trailers = {}});
  ASSERT_TRUE(Drive(client, fd.get(), [&] { return client.streams[later].closed; }));
  EXPECT_EQ(client.streams[later].Field(":status"), "403");
  EXPECT_EQ(client.goaways, 0);
  EXPECT_EQ(client.invalid_frames, 0);
  const auto record = bed_.records(server_node_).WaitFor([](const observe::Record& one) {
    return one.flow.direction == Direction::kInbound && one.flow.protocol == Protocol::kGrpc;
  });
  ASSERT_TRUE(record);
  EXPECT_EQ(record->flow.reason, Reason::kPolicyDenied);
  EXPECT_EQ(record->flow.http->grpc_status, 7);
  EXPECT_FALSE(AcceptOne(server_.listener.get(), std::chrono::milliseconds(20)).valid());
}

// A stream that is open when its connection dies is reported, too.
TEST_P(Http2WayTest, ReportsStreamsOfAConnectionThatDies) {
  const Http2Server server(server_.listener.get());
  base::UniqueFd fd = bed_.Connect(client_, server_.endpoint);
  Nghttp2End client(/*server=*/false);
  client.Settings({});
  const auto id = client.Request({.fields = Request("/first"), .body = {}, .trailers = {}});
  ASSERT_TRUE(Drive(client, fd.get(), [&] { return client.streams[id].closed; }));
  const std::vector<std::uint8_t> half = Wire()
                                             .Headers(3, {{":method", "POST"},
                                                          {":scheme", "http"},
                                                          {":path", "/half"},
                                                          {":authority", "shop:80"}})
                                             .bytes();
  ASSERT_TRUE(SendAllBytes(fd.get(), half));
  fd.Reset();
  const auto record = bed_.records(0).WaitFor(
      [](const observe::Record& one) { return one.flow.http && one.flow.http->path == "/half"; });
  ASSERT_TRUE(record);
  EXPECT_EQ(record->flow.reason, Reason::kDownstreamReset);
}

TEST_P(Http2WayTest, ClosesAConnectionThatResetsRapidly) {
  const Http2Server server(server_.listener.get());
  const base::UniqueFd fd = bed_.Connect(client_, server_.endpoint);
  ASSERT_TRUE(SendAllBytes(fd.get(),
                           Wire().Preface().Settings({{http::H2Setting::kEnablePush, 0}}).bytes()));
  const auto before = steady_clock::now();
  for (std::uint32_t id = 1; id < 100000; id += 2) {
    const bool sent = SendAllBytes(fd.get(), Wire()
                                                 .Headers(id,
                                                          {{":method", "GET"},
                                                           {":scheme", "http"},
                                                           {":path", "/"},
                                                           {":authority", "shop:80"}},
                                                          http::kH2FlagEndHeaders)
                                                 .Rst(id)
                                                 .bytes());
    if (!sent) {
      break;
    }
  }
  const std::optional<std::string> received = ReadAll(fd.get());
  EXPECT_LT(steady_clock::now() - before, kBedWait);
  if (received) {  // not lost by a reset behind it
    const auto goaway = FindFrame(AsBytes(*received), http::H2FrameType::kGoAway);
    ASSERT_TRUE(goaway);
    EXPECT_EQ(goaway->payload[7], '\x0b');  // ENHANCE_YOUR_CALM
  }
  EXPECT_TRUE(ProxyBed::Eventually([&] {
    return bed_.workers(0)
               .at(0)
               .stats()
               .h2_violations[static_cast<std::size_t>(http::H2Violation::kRapidReset)]
               .value() == 1;
  }));
}

TEST_P(Http2WayTest, WaitsForTheClientWhenTheServersSettingsComeFirst) {
  const Http2Server server(server_.listener.get(), /*speaks_first=*/true);
  const base::UniqueFd fd = bed_.Connect(client_, server_.endpoint);
  // A part of the preface opens the upstream, and the server may speak before the rest.
  ASSERT_TRUE(SendText(fd.get(), http::kH2Preface.substr(0, 4)));
  ASSERT_TRUE(ProxyBed::Eventually([&] { return server.spoke(); }));
  Nghttp2End client(/*server=*/false);
  client.Settings({});
  const auto id = client.Request({.fields = Request("/late"), .body = {}, .trailers = {}});
  const std::vector<std::uint8_t> first = client.Send();
  ASSERT_TRUE(SendAllBytes(fd.get(), std::span(first).subspan(4)));
  ASSERT_TRUE(Drive(client, fd.get(), [&] { return client.streams[id].closed; }));
  EXPECT_TRUE(WaitForRequest(0, Direction::kOutbound));
}

}  // namespace
}  // namespace weir::test
