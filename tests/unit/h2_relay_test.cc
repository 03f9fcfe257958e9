// H2Relay with frames made by hand: what passes as it is, what changes, and where.
#include "agent/http/h2_relay.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/h2_relay_rig.h"

namespace weir::test {
namespace {

using http::H2Error;
using http::H2FrameType;
using http::H2Setting;
using http::H2Side;
using http::H2Violation;
using http::kH2FlagAck;
using http::kH2FlagEndHeaders;
using http::kH2FlagEndStream;
using http::kH2FlagPadded;
using http::kH2FlagPriority;
using Lists = std::vector<std::string>;

constexpr std::uint8_t kWhole = kH2FlagEndHeaders | kH2FlagEndStream;
const std::string kRequest = " :method=GET :scheme=http :path=/ :authority=back:80";
const std::vector<http::H2Field> kOk = {{":status", "200"}};

std::string Frame(H2FrameType type, std::uint8_t flags, std::uint32_t stream,
                  std::string_view payload) {
  const std::vector<std::uint8_t> wire = Wire().Frame(type, flags, stream, payload).bytes();
  return {wire.begin(), wire.end()};
}

// Every kind of frame that a client may send.
std::vector<std::uint8_t> ClientConversation() {
  Wire wire;
  wire.Preface()
      .Settings({{H2Setting::kEnablePush, 0}, {H2Setting::kInitialWindowSize, 1048576}})
      .WindowUpdate(0, 1U << 20U)
      .Frame(H2FrameType::kPriority, 0, 9, std::string("\0\0\0\0\x10", 5))
      .Headers(1, RequestFields())
      .Data(1, "some data")
      .Data(1, std::string("\5padded\0\0\0\0\0", 12), kH2FlagPadded)
      .Data(1, "")
      .Frame(static_cast<H2FrameType>(0x10), 0x5a, 0, std::string("\0\0\0\1u=3", 7))
      .Frame(static_cast<H2FrameType>(0x77), 0, 1, "")
      .Frame(H2FrameType::kPing, 0, 0, "12345678")
      .Headers(3, RequestFields("/3"), kWhole)
      .WindowUpdate(3, 77)
      .Data(1, std::string("\0", 1), kH2FlagPadded | kH2FlagEndStream)
      .Rst(3)
      .SettingsAck()
      .Frame(H2FrameType::kGoAway, 0, 0, std::string(8, '\0') + std::string(2000, 'x'));
  return wire.bytes();
}

// However the bytes are cut, all but header blocks passes byte for byte.
TEST(H2RelayTest, PassesAllButHeaderBlocksAsTheyAre) {
  const std::vector<std::uint8_t> wire = ClientConversation();
  const Bytes all(wire);
  for (const std::size_t piece : {all.size(), std::size_t{1}, std::size_t{7}, std::size_t{33}}) {
    H2RelayRig rig;
    rig.Server(Wire().Settings({{H2Setting::kMaxConcurrentStreams, 100}}));
    for (std::size_t at = 0; at < all.size(); at += piece) {
      rig.Client(all.subspan(at, std::min(piece, all.size() - at)));
    }
    EXPECT_FALSE(rig.relay.closed()) << ToString(rig.relay.violation());
    EXPECT_EQ(rig.to_server.WithoutHeaderBlocks(), FrameLog::Strip(all)) << piece;
    EXPECT_EQ(rig.to_server.Lists(), (Lists{"1" + kRequest,
                                            "3 END :method=GET :scheme=http "
                                            ":path=/3 :authority=back:80"}));
  }
}

TEST(H2RelayTest, PassesLargeDataWithoutACopy) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields()));
  const std::size_t before = rig.to_server.bytes().size();
  const std::vector<std::uint8_t> data =
      Wire().Data(1, std::string(16384, 'd')).Data(1, std::string(9000, 'e')).bytes();
  const auto direct = rig.relay.Receive(H2Side::kClient, data, {}, rig.out());
  EXPECT_EQ(direct.data(), data.data());
  EXPECT_EQ(direct.size(), data.size());
  EXPECT_EQ(rig.to_server.bytes().size(), before);
}

TEST(H2RelayTest, KeepsPriorityAndNeverIndexedOfABlockInPieces) {
  H2RelayRig rig;
  rig.Begin();
  std::vector<http::H2Field> fields = RequestFields();
  fields.push_back({.name = "authorization", .value = "secret", .never_indexed = true});
  const std::string block = Wire::Block(fields);
  const std::string priority("\x80\0\0\0\x20", 5);
  rig.Client(Wire()
                 .Frame(H2FrameType::kHeaders, kH2FlagPadded | kH2FlagPriority | kH2FlagEndStream,
                        1, "\3" + priority + block.substr(0, 4) + "ppp")
                 .Frame(H2FrameType::kContinuation, 0, 1, block.substr(4, 3))
                 .Frame(H2FrameType::kContinuation, kH2FlagEndHeaders, 1, block.substr(7)));
  EXPECT_EQ(rig.to_server.Lists(), (Lists{"1 END" + kRequest + " authorization=secret!"}));
  const auto headers = rig.to_server.Frames(H2FrameType::kHeaders);
  ASSERT_EQ(headers.size(), 1U);
  EXPECT_EQ(headers[0].header.flags, kWhole | kH2FlagPriority);
  EXPECT_EQ(headers[0].payload.substr(0, 5), priority);
}

TEST(H2RelayTest, AddsFieldsToRequestsOnly) {
  H2RelayRig rig;
  rig.added["traceparent"] = "00-x";
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields()).Headers(1, {{"x-checksum", "1"}}, kWhole));
  rig.Server(Wire().Headers(1, {{":status", "103"}, {"link", "</a>"}}).Headers(1, kOk));
  EXPECT_EQ(rig.to_server.Lists(),
            (Lists{"1" + kRequest + " traceparent=00-x!", "1 END x-checksum=1"}));
  EXPECT_EQ(rig.to_client.Lists(), (Lists{"1 :status=103 link=</a>", "1 :status=200"}));
}

TEST(H2RelayTest, ReportsAStreamFromItsRequestToItsTrailers) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields("/a?b")).Data(1, "abc", kH2FlagEndStream));
  rig.Server(Wire().Headers(1, kOk).Data(1, "defg").Headers(1, {{"grpc-status", "5"}}, kWhole));
  EXPECT_EQ(rig.notes, (std::vector<std::string>{"request 1 GET /a", "response 1 200",
                                                 "trailers 1 5", "end 1 both 0"}));
  EXPECT_EQ(rig.relay.open_streams(), 0U);
  // DATA counts with its frame header; of the blocks, what was sent on.
  EXPECT_GT(rig.ends[1].bytes_to_server, 12U);
  EXPECT_GT(rig.ends[1].bytes_to_client, 13U);
}

TEST(H2RelayTest, ReportsWhoResetAStream) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire()
                 .Headers(1, RequestFields())
                 .Headers(3, RequestFields())
                 .Headers(5, RequestFields())
                 .Rst(1));
  rig.Server(
      Wire().Rst(3, H2Error::kRefusedStream).Headers(5, kOk, kWhole).Rst(5, H2Error::kNoError));
  EXPECT_EQ(rig.notes[3], "end 1 client 8");
  EXPECT_EQ(rig.notes[4], "end 3 server 7");
  EXPECT_EQ(rig.notes[6], "end 5 both 0");
  EXPECT_EQ(rig.to_client.Frames(H2FrameType::kRstStream).size(), 2U);
  EXPECT_EQ(rig.to_server.Frames(H2FrameType::kRstStream).size(), 1U);
}

// What was under way when the other end reset the stream still counts for flow control.
TEST(H2RelayTest, PassesLateFramesOfAResetStream) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields()).Rst(1));
  rig.Server(Wire().Headers(1, kOk).Data(1, "late").WindowUpdate(1, 5));
  EXPECT_EQ(rig.to_client.Frames(H2FrameType::kData).size(), 1U);
  EXPECT_EQ(rig.to_client.Frames(H2FrameType::kHeaders).size(), 0U);
  EXPECT_FALSE(rig.relay.closed());
}

// ---- SETTINGS ----

TEST(H2RelayTest, SwitchesServerPushOff) {
  H2RelayRig rig;
  rig.Client(Wire().Preface().Settings({{H2Setting::kInitialWindowSize, 70000}}));
  rig.Client(Wire().Settings({{H2Setting::kEnablePush, 1}}).Settings());
  const auto settings = rig.to_server.Frames(H2FrameType::kSettings);
  ASSERT_EQ(settings.size(), 3U);
  EXPECT_EQ(settings[0].payload, std::string("\0\4\0\1\x11\x70\0\2\0\0\0\0", 12));
  EXPECT_EQ(settings[1].payload, std::string("\0\2\0\0\0\0", 6));
  EXPECT_EQ(settings[2].payload, "");
}

TEST(H2RelayTest, LowersWhatWouldCostTooMuch) {
  H2RelayRig rig({.max_header_bytes = 50000, .max_streams = 200});
  rig.Server(Wire().Settings(
      {{H2Setting::kHeaderTableSize, 1U << 30U}, {H2Setting::kMaxHeaderListSize, 1U << 20U}}));
  rig.Server(Wire().Settings({{H2Setting::kMaxConcurrentStreams, 1U << 30U}}));
  rig.Server(Wire().Settings({{H2Setting::kMaxConcurrentStreams, 50}}));
  const auto settings = rig.to_client.Frames(H2FrameType::kSettings);
  ASSERT_EQ(settings.size(), 3U);
  EXPECT_EQ(settings[0].payload, std::string("\0\1\0\1\0\0\0\6\0\0\xc3\x50\0\3\0\0\0\xc8", 18));
  EXPECT_EQ(settings[1].payload, std::string("\0\3\0\0\0\xc8", 6));
  EXPECT_EQ(settings[2].payload, std::string("\0\3\0\0\0\x32", 6));
}

TEST(H2RelayTest, RefusesBadSettings) {
  const auto closes = [](H2Side from, H2Setting id, std::uint32_t value) {
    H2RelayRig rig;
    Wire wire;
    if (from == H2Side::kClient) {
      wire.Preface();
    }
    rig.Feed(from, Bytes(wire.Settings({{id, value}}).bytes()));
    return rig.relay.error();
  };
  EXPECT_EQ(closes(H2Side::kClient, H2Setting::kEnablePush, 2), H2Error::kProtocolError);
  EXPECT_EQ(closes(H2Side::kServer, H2Setting::kEnablePush, 1), H2Error::kProtocolError);
  EXPECT_EQ(closes(H2Side::kClient, H2Setting::kInitialWindowSize, 1U << 31U),
            H2Error::kFlowControlError);
  EXPECT_EQ(closes(H2Side::kServer, H2Setting::kMaxFrameSize, 16383), H2Error::kProtocolError);
  EXPECT_EQ(closes(H2Side::kServer, H2Setting::kMaxFrameSize, 1U << 24U), H2Error::kProtocolError);
  EXPECT_EQ(closes(H2Side::kServer, H2Setting::kMaxFrameSize, 16384), H2Error::kNoError);
}

TEST(H2RelayTest, RefusesAnAcknowledgementOfNothing) {
  H2RelayRig rig;
  rig.Client(Wire().Preface().Settings().SettingsAck());
  EXPECT_EQ(rig.relay.violation(), H2Violation::kBadSettings);
}

// The receiver's table and frame size count from the acknowledgement that the sender gives.
TEST(H2RelayTest, SplitsBlocksByTheReceiversFrameSize) {
  H2RelayRig rig;
  rig.Client(Wire().Preface().Settings());
  rig.Server(Wire().Settings({{H2Setting::kMaxFrameSize, 20000}}));
  std::vector<http::H2Field> fields = RequestFields();
  const std::string value(30000, '\x7f' - 1);  // Huffman would make it longer
  fields.push_back({.name = "x-large", .value = value});
  const auto send = [&](std::uint32_t stream) {
    const std::string block = Wire::Block(fields);
    rig.Client(
        Wire()
            .Frame(H2FrameType::kHeaders, kH2FlagEndStream, stream, block.substr(0, 16384))
            .Frame(H2FrameType::kContinuation, kH2FlagEndHeaders, stream, block.substr(16384)));
  };
  send(1);
  rig.Client(Wire().SettingsAck());
  send(3);
  EXPECT_EQ(rig.to_server.Lists().size(), 2U);
  EXPECT_TRUE(rig.to_server.Lists()[1].ends_with("x-large=" + value));
  std::vector<std::uint32_t> lengths;
  for (const SeenFrame& frame : rig.to_server.frames()) {
    if (frame.header.type == H2FrameType::kHeaders ||
        frame.header.type == H2FrameType::kContinuation) {
      lengths.push_back(frame.header.length);
    }
  }
  ASSERT_EQ(lengths.size(), 4U);
  EXPECT_EQ(lengths[0], 16384U);
  EXPECT_EQ(lengths[2], 20000U);
}

TEST(H2RelayTest, TakesTheFrameSizeThatTheReceiverAdmits) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields()));
  rig.Server(Wire().Settings({{H2Setting::kMaxFrameSize, 40000}}));
  rig.Client(Wire().Data(1, std::string(40000, 'x')));  // before its acknowledgement
  EXPECT_FALSE(rig.relay.closed());
  rig.Client(Wire().SettingsAck());
  rig.Server(Wire().Settings({{H2Setting::kMaxFrameSize, 16384}}));
  rig.Client(Wire().Data(1, std::string(40000, 'x')));
  EXPECT_FALSE(rig.relay.closed());
  rig.Client(Wire().SettingsAck().Data(1, std::string(16385, 'x')));
  EXPECT_EQ(rig.relay.error(), H2Error::kFrameSizeError);
}

TEST(H2RelayTest, KeepsToTheReceiversHeaderTable) {
  H2RelayRig rig;
  rig.Client(Wire().Preface().Settings({{H2Setting::kHeaderTableSize, 0}}));
  rig.Server(Wire().Settings().SettingsAck());
  rig.Client(Wire().Headers(1, RequestFields()).Headers(3, RequestFields()));
  const std::vector<http::H2Field> answer = {{":status", "200"}, {"server", "me"}};
  rig.Server(Wire().Headers(1, answer).Headers(3, answer));
  const auto headers = rig.to_client.Frames(H2FrameType::kHeaders);
  ASSERT_EQ(headers.size(), 2U);
  EXPECT_EQ(headers[0].payload[0], '\x20');  // a table size update to 0 (RFC 7541 section 6.3)
  EXPECT_EQ(rig.to_client.Lists(/*table_bytes=*/0),
            (Lists{"1 :status=200 server=me", "3 :status=200 server=me"}));
  // The server's table is untouched, so the second request is shorter than the first.
  const auto requests = rig.to_server.Frames(H2FrameType::kHeaders);
  EXPECT_LT(requests[1].header.length, requests[0].header.length);
}

// ---- malformed messages ----

struct BadList {
  const char* name;
  std::vector<http::H2Field> fields;
};

class BadRequestTest : public ::testing::TestWithParam<BadList> {};

INSTANTIATE_TEST_SUITE_P(
    Lists, BadRequestTest,
    ::testing::Values(
        BadList{"NoMethod", {{":scheme", "http"}, {":path", "/"}}},
        BadList{"NoPath", {{":method", "GET"}, {":scheme", "http"}}},
        BadList{"EmptyPath", {{":method", "GET"}, {":scheme", "http"}, {":path", ""}}},
        BadList{"SpaceInPath", {{":method", "GET"}, {":scheme", "http"}, {":path", "/a b"}}},
        BadList{"BadMethod", {{":method", "GE T"}, {":scheme", "http"}, {":path", "/"}}},
        BadList{"TwoPaths",
                {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":path", "/b"}}},
        BadList{"Status",
                {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":status", "200"}}},
        BadList{"LatePseudo",
                {{":method", "GET"}, {":scheme", "http"}, {"a", "b"}, {":path", "/"}}},
        BadList{"UpperCase", {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"A", "b"}}},
        BadList{"EmptyName", {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"", "b"}}},
        BadList{"LineFeed",
                {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"a", "b\nc: d"}}},
        BadList{"SpaceAtEnd",
                {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"a", "b "}}},
        BadList{"Connection",
                {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"connection", "x"}}},
        BadList{"TransferEncoding",
                {{":method", "GET"},
                 {":scheme", "http"},
                 {":path", "/"},
                 {"transfer-encoding", "chunked"}}},
        BadList{"Te", {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"te", "gzip"}}},
        BadList{"TwoLengths",
                {{":method", "GET"},
                 {":scheme", "http"},
                 {":path", "/"},
                 {"content-length", "1"},
                 {"content-length", "2"}}},
        BadList{"OtherHost",
                {{":method", "GET"},
                 {":scheme", "http"},
                 {":path", "/"},
                 {":authority", "a"},
                 {"host", "b"}}},
        BadList{"UserInfo",
                {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "u@a"}}},
        BadList{"ConnectWithPath", {{":method", "CONNECT"}, {":authority", "a:1"}, {":path", "/"}}},
        BadList{"ProtocolWithoutConnect",
                {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":protocol", "x"}}}),
    [](const auto& one) { return one.param.name; });

// The server hears nothing of it; neighbours go on; what was sent for it is given back.
TEST_P(BadRequestTest, IsResetAndNotPassedOn) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields()));
  const std::size_t before = rig.to_server.bytes().size();
  rig.Client(Wire()
                 .Headers(3, GetParam().fields)
                 .Data(3, "swallowed")
                 .WindowUpdate(3, 9)
                 .Data(3, "too", kH2FlagEndStream));
  EXPECT_EQ(rig.to_server.bytes().size(), before);
  const auto resets = rig.to_client.Frames(H2FrameType::kRstStream);
  ASSERT_EQ(resets.size(), 1U);
  EXPECT_EQ(resets[0].header.stream_id, 3U);
  EXPECT_EQ(resets[0].payload, std::string("\0\0\0\1", 4));
  const auto credits = rig.to_client.Frames(H2FrameType::kWindowUpdate);
  ASSERT_EQ(credits.size(), 2U);
  EXPECT_EQ(credits[0].payload, std::string("\0\0\0\x9", 4));
  rig.Client(Wire().Headers(5, RequestFields("/5"), kWhole).Data(1, "on", kH2FlagEndStream));
  rig.Server(Wire().Headers(1, kOk, kWhole).Headers(5, kOk, kWhole));
  EXPECT_EQ(rig.to_server.Lists().size(), 2U);
  EXPECT_EQ(rig.to_client.Lists().size(), 2U);
  EXPECT_FALSE(rig.relay.closed());
}

TEST(H2RelayTest, TakesWhatIsUnusualButLegal) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire()
                 .Headers(1, {{":method", "OPTIONS"}, {":scheme", "http"}, {":path", "*"}}, kWhole)
                 .Headers(3, {{":method", "CONNECT"}, {":authority", "a:1"}})
                 .Headers(5, {{":method", "CONNECT"},
                              {":protocol", "websocket"},
                              {":scheme", "http"},
                              {":path", "/chat"},
                              {":authority", "a"}})
                 .Headers(7,
                          {{":method", "GET"},
                           {":scheme", "http"},
                           {":path", "/"},
                           {"host", "a"},
                           {"te", "trailers"},
                           {"cookie", "a=b"},
                           {"cookie", "c=d"},
                           {"x-empty", ""}},
                          kWhole));
  EXPECT_EQ(rig.to_server.Lists().size(), 4U);
}

TEST(H2RelayTest, ResetsAStreamWhoseAnswerIsMalformed) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields()).Headers(3, RequestFields(), kWhole));
  rig.Server(Wire().Headers(1, {{":status", "2000"}}).Data(1, "swallowed").Headers(3, kOk, kWhole));
  EXPECT_EQ(rig.to_client.Lists(), (Lists{"3 END :status=200"}));
  EXPECT_TRUE(rig.to_client.Frames(H2FrameType::kData).empty());
  ASSERT_EQ(rig.to_client.Frames(H2FrameType::kRstStream).size(), 1U);
  ASSERT_EQ(rig.to_server.Frames(H2FrameType::kRstStream).size(), 1U);
  EXPECT_EQ(rig.to_server.Frames(H2FrameType::kWindowUpdate).size(), 1U);
  EXPECT_EQ(rig.ends[1].by, http::H2StreamEnd::By::kRelay);
}

// The relay's own frames wait until a frame that passes in parts is complete.
TEST(H2RelayTest, NeverBreaksIntoAFrame) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields(), kWhole));
  rig.Server(Wire().Headers(1, kOk));
  const std::string data = Frame(H2FrameType::kData, kH2FlagEndStream, 1, "0123456789");
  rig.Server(AsBytes(data.substr(0, 13)));
  rig.Client(Wire().Headers(3, {{"bad", "list"}}, kWhole));
  EXPECT_TRUE(rig.to_client.Frames(H2FrameType::kRstStream).empty());
  rig.Server(AsBytes(data.substr(13)));
  const auto frames = rig.to_client.frames();
  EXPECT_EQ(frames[frames.size() - 2].payload, "0123456789");
  EXPECT_EQ(frames.back().header.type, H2FrameType::kRstStream);
}

TEST(H2RelayTest, SaysNothingBeforeTheServersSettings) {
  H2RelayRig rig;
  rig.Client(Wire().Preface().Settings().Headers(1, {{"bad", "list"}}, kWhole));
  EXPECT_TRUE(rig.to_client.frames().empty());
  rig.Server(Wire().Settings().SettingsAck());
  const auto frames = rig.to_client.frames();
  ASSERT_EQ(frames.size(), 3U);
  EXPECT_EQ(frames[0].header.type, H2FrameType::kSettings);
  EXPECT_EQ(frames[1].header.type, H2FrameType::kRstStream);

  H2RelayRig closing;
  closing.Client(Wire().Preface().WindowUpdate(0, 1));
  EXPECT_EQ(closing.to_client.frames()[0].header.type, H2FrameType::kSettings);
  EXPECT_EQ(closing.to_client.frames()[1].header.type, H2FrameType::kGoAway);
}

TEST(H2RelayTest, AnswersListsBeyondTheLimit) {
  H2RelayRig rig({.max_header_bytes = 300});
  rig.Begin();
  std::vector<http::H2Field> fields = RequestFields();  // 4 * 32 + 42
  const std::size_t used = 128 + 7 + 3 + 7 + 4 + 5 + 1 + 10 + 7;
  const std::string exact(300 - used - 32 - 1, 'v');
  fields.push_back({.name = "x", .value = exact});
  rig.Client(Wire().Headers(1, fields, kWhole));
  EXPECT_EQ(rig.to_server.Lists().size(), 1U);
  const std::string over = exact + 'v';
  fields.back().value = over;
  rig.Client(Wire().Headers(3, fields).Headers(5, RequestFields(), kWhole));
  EXPECT_EQ(rig.to_client.Lists(), (Lists{"3 END :status=431 content-length=0"}));
  EXPECT_EQ(rig.to_client.Frames(H2FrameType::kRstStream).size(), 1U);
  EXPECT_EQ(rig.to_server.Lists().size(), 2U);
}

TEST(H2RelayTest, RefusesStreamsBeyondTheLimit) {
  H2RelayRig rig({.max_streams = 2});
  rig.Begin();
  rig.Client(Wire()
                 .Headers(1, RequestFields())
                 .Headers(3, RequestFields())
                 .Headers(5, RequestFields(), kWhole)
                 .Rst(1)
                 .Headers(7, RequestFields()));
  const auto resets = rig.to_client.Frames(H2FrameType::kRstStream);
  ASSERT_EQ(resets.size(), 1U);
  EXPECT_EQ(resets[0].header.stream_id, 5U);
  EXPECT_EQ(resets[0].payload, std::string("\0\0\0\7", 4));
  EXPECT_EQ(rig.to_server.Lists().size(), 3U);
}

TEST(H2RelayTest, AsksTheClientToLeaveWhenItDrains) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields(), kWhole));
  rig.relay.Drain(rig.out());
  const auto goaway = rig.to_client.Frames(H2FrameType::kGoAway);
  ASSERT_EQ(goaway.size(), 1U);
  EXPECT_EQ(goaway[0].payload, std::string("\x7f\xff\xff\xff\0\0\0\0", 8));
  rig.Server(Wire().Headers(1, kOk, kWhole));
  EXPECT_EQ(rig.to_client.Lists().size(), 1U);
  EXPECT_EQ(rig.relay.open_streams(), 0U);
}

TEST(H2RelayTest, GoesOnWhereAnUpgradeBegan) {
  H2RelayRig rig;
  rig.relay.BeginUpgraded({.table_bytes = 0, .max_frame_bytes = 20000});
  ++rig.open;
  rig.Server(Wire().Settings().Headers(1, {{":status", "200"}, {"server", "me"}}, kWhole));
  rig.Client(Wire().Preface().Settings().SettingsAck().Headers(3, RequestFields(), kWhole));
  EXPECT_FALSE(rig.relay.closed()) << ToString(rig.relay.violation());
  EXPECT_EQ(rig.to_client.Lists(0), (Lists{"1 END :status=200 server=me"}));
  EXPECT_EQ(rig.to_server.Lists(), (Lists{"3 END" + kRequest}));
  EXPECT_EQ(rig.notes[1], "end 1 both 0");
}

}  // namespace
}  // namespace weir::test
