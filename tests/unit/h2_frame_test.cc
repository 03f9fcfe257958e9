#include "agent/http/h2_frame.h"

#include <gtest/gtest.h>

#include "tests/support/tunnel_rig.h"

namespace weir::http {
namespace {

using test::Bytes;
using test::Wire;

struct Read {
  std::vector<std::string> frames;  // "type:flags:stream:payload", DATA joined
  H2Error error = H2Error::kNoError;
  std::size_t padding_bytes = 0;
};

// Reads `bytes` given in pieces of `piece`.
Read ReadAll(Bytes bytes, std::size_t piece, const H2ReaderLimits& limits = {}) {
  FrameReader reader(limits);
  Read result;
  std::string data;
  while (!bytes.empty()) {
    Bytes part = bytes.first(std::min(piece, bytes.size()));
    bytes = bytes.subspan(part.size());
    for (;;) {
      const H2Event event = reader.Next(part);
      if (event.kind == H2EventKind::kNeedMore) {
        break;
      }
      if (event.kind == H2EventKind::kError) {
        result.error = event.error;
        return result;
      }
      data.append(event.payload.begin(), event.payload.end());
      result.padding_bytes += event.padding_bytes;
      if (event.kind == H2EventKind::kFrame || event.frame_ends) {
        result.frames.push_back(std::to_string(static_cast<int>(event.header.type)) + ":" +
                                std::to_string(event.header.flags) + ":" +
                                std::to_string(event.header.stream_id) + ":" +
                                std::exchange(data, {}));
      }
    }
    EXPECT_TRUE(part.empty());
  }
  EXPECT_TRUE(reader.at_frame_border());
  return result;
}

H2Error ErrorOf(const Wire& wire) {
  return ReadAll(wire.bytes(), SIZE_MAX).error;
}

TEST(FrameReaderTest, ReadsEveryFrameWhereverTheBytesAreSplit) {
  Wire wire;
  wire.Settings({{H2Setting::kInitialWindowSize, 1}, {H2Setting::kMaxFrameSize, 16384}});
  wire.SettingsAck().WindowUpdate(0, 7).Rst(3).Data(1, "hello").Data(1, "");
  AppendPing(wire, 0x0102030405060708U, 0);
  AppendGoAway(wire, 9, H2Error::kNoError, "bye");
  wire.Frame(H2FrameType::kHeaders, kH2FlagEndHeaders, 5, "block");
  wire.Frame(H2FrameType::kHeaders, kH2FlagPadded | kH2FlagPriority, 7,
             std::string("\x02", 1) + "prior" + "block" + "pp");
  wire.Frame(H2FrameType::kContinuation, kH2FlagEndHeaders, 7, "rest");
  wire.Frame(H2FrameType::kPriority, 0, 7, "12345");
  wire.Frame(static_cast<H2FrameType>(0xbe), 3, 7, "unknown");
  wire.Data(1, std::string("\x03", 1) + "data" + "ppp", kH2FlagPadded);
  wire.Data(1, std::string("\x02", 1) + "pp", kH2FlagPadded);
  wire.Data(1, std::string(1, '\0') + "end", kH2FlagPadded | kH2FlagEndStream);

  const Read whole = ReadAll(wire.bytes(), SIZE_MAX);
  ASSERT_EQ(whole.error, H2Error::kNoError);
  ASSERT_EQ(whole.frames.size(), 16U);
  EXPECT_EQ(whole.frames[4], "0:0:1:hello");
  EXPECT_EQ(whole.frames[5], "0:0:1:");
  EXPECT_EQ(whole.frames[9], "1:40:7:block");
  EXPECT_EQ(whole.frames[12], "190:3:7:");
  EXPECT_EQ(whole.frames[13], "0:8:1:data");
  EXPECT_EQ(whole.frames[15], "0:9:1:end");
  EXPECT_EQ(whole.padding_bytes, 4U + 3U + 1U);
  for (std::size_t piece = 1; piece < 40; ++piece) {
    const Read split = ReadAll(wire.bytes(), piece);
    EXPECT_EQ(split.frames, whole.frames) << piece;
    EXPECT_EQ(split.padding_bytes, whole.padding_bytes) << piece;
  }
}

TEST(FrameReaderTest, HandsOnPartsOfADataFrameAtOnce) {
  Wire wire;
  wire.Data(1, "0123456789");
  FrameReader reader({});
  Bytes bytes = Bytes(wire.bytes()).first(kH2FrameHeaderBytes + 4);
  const H2Event event = reader.Next(bytes);
  EXPECT_EQ(event.kind, H2EventKind::kData);
  EXPECT_EQ(std::string(event.payload.begin(), event.payload.end()), "0123");
  EXPECT_FALSE(event.frame_ends);
  EXPECT_EQ(event.frame_data_bytes, 10U);
}

TEST(FrameReaderTest, CopiesNothingWhenAWholeFrameIsAtHand) {
  Wire wire;
  wire.Frame(H2FrameType::kHeaders, kH2FlagEndHeaders, 1, "block");
  FrameReader reader({});
  Bytes bytes = wire.bytes();
  const H2Event event = reader.Next(bytes);
  EXPECT_EQ(event.payload.data(), wire.bytes().data() + kH2FrameHeaderBytes);
}

TEST(FrameReaderTest, CutsGoAwayDebugDataAndGoesOn) {
  Wire wire;
  wire.Frame(H2FrameType::kGoAway, 0, 0, std::string(8, '\0') + std::string(5000, 'x'));
  wire.Data(1, "after");
  for (const std::size_t piece : {std::size_t{1}, std::size_t{100}, SIZE_MAX}) {
    const Read read = ReadAll(wire.bytes(), piece);
    ASSERT_EQ(read.frames.size(), 2U);
    EXPECT_EQ(read.frames[0].size(), std::string("7:0:0:").size() + FrameReader::kGoAwayKeptBytes);
    EXPECT_EQ(read.frames[1], "0:0:1:after");
  }
}

TEST(FrameReaderTest, RefusesFramesOfTheWrongSize) {
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kPing, 0, 0, "1234567")), H2Error::kFrameSizeError);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kPing, 0, 0, "123456789")), H2Error::kFrameSizeError);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kRstStream, 0, 1, "123")), H2Error::kFrameSizeError);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kWindowUpdate, 0, 1, "12345")),
            H2Error::kFrameSizeError);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kPriority, 0, 1, "1234")), H2Error::kFrameSizeError);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kSettings, 0, 0, "12345")), H2Error::kFrameSizeError);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kSettings, kH2FlagAck, 0, "123456")),
            H2Error::kFrameSizeError);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kGoAway, 0, 0, "1234567")), H2Error::kFrameSizeError);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kData, kH2FlagPadded, 1, "")),
            H2Error::kFrameSizeError);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kHeaders, kH2FlagPriority, 1, "1234")),
            H2Error::kFrameSizeError);
}

TEST(FrameReaderTest, KeepsTheExactLimits) {
  EXPECT_EQ(ErrorOf(Wire().Data(1, std::string(16384, 'x'))), H2Error::kNoError);
  EXPECT_EQ(ErrorOf(Wire().Data(1, std::string(16385, 'x'))), H2Error::kFrameSizeError);
  const H2ReaderLimits limits{.max_frame_bytes = 1U << 20U, .max_header_frame_bytes = 100};
  Wire good;
  good.Frame(H2FrameType::kHeaders, kH2FlagEndHeaders, 1, std::string(100, 'x'));
  EXPECT_EQ(ReadAll(good.bytes(), SIZE_MAX, limits).error, H2Error::kNoError);
  Wire bad;
  bad.Frame(H2FrameType::kHeaders, kH2FlagEndHeaders, 1, std::string(101, 'x'));
  EXPECT_EQ(ReadAll(bad.bytes(), SIZE_MAX, limits).error, H2Error::kEnhanceYourCalm);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kSettings, 0, 0, std::string(64 * 6, '\0'))),
            H2Error::kNoError);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kSettings, 0, 0, std::string(65 * 6, '\0'))),
            H2Error::kEnhanceYourCalm);
}

TEST(FrameReaderTest, RefusesFramesOnTheWrongStreamAndBadPadding) {
  for (const H2FrameType type : {H2FrameType::kData, H2FrameType::kHeaders, H2FrameType::kPriority,
                                 H2FrameType::kRstStream, H2FrameType::kContinuation}) {
    EXPECT_EQ(ErrorOf(Wire().Frame(type, 0, 0, "1234")), H2Error::kProtocolError);
  }
  for (const H2FrameType type :
       {H2FrameType::kSettings, H2FrameType::kPing, H2FrameType::kGoAway}) {
    EXPECT_EQ(ErrorOf(Wire().Frame(type, 0, 1, "12345678")), H2Error::kProtocolError);
  }
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kPushPromise, kH2FlagEndHeaders, 1, "1234")),
            H2Error::kProtocolError);
  EXPECT_EQ(ErrorOf(Wire().Data(1,
                                "\x05"
                                "1234",
                                kH2FlagPadded)),
            H2Error::kProtocolError);
  EXPECT_EQ(ErrorOf(Wire().Data(1,
                                "\x04"
                                "1234",
                                kH2FlagPadded)),
            H2Error::kNoError);
  EXPECT_EQ(ErrorOf(Wire().Frame(H2FrameType::kHeaders, kH2FlagPadded, 1,
                                 "\x05"
                                 "1234")),
            H2Error::kProtocolError);
}

TEST(FrameReaderTest, DropsTheReservedBitOfTheStreamId) {
  Wire wire;
  wire.Raw(std::string("\0\0\x02\0\0\x80\0\0\x05hi", 11));
  const Read read = ReadAll(wire.bytes(), SIZE_MAX);
  EXPECT_EQ(read.frames, std::vector<std::string>{"0:0:5:hi"});
}

TEST(FrameReaderTest, StaysFailed) {
  FrameReader reader({});
  Wire bad;
  bad.Frame(H2FrameType::kPing, 0, 0, "short");
  Bytes bytes = bad.bytes();
  EXPECT_EQ(reader.Next(bytes).kind, H2EventKind::kError);
  Wire good;
  good.Data(1, "x");
  bytes = good.bytes();
  EXPECT_EQ(reader.Next(bytes).error, H2Error::kFrameSizeError);
}

}  // namespace
}  // namespace weir::http
