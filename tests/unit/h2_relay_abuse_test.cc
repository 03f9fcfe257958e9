// H2Relay against ends that break or strain the protocol: each ends its one connection.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "agent/http/h2_relay.h"
#include "tests/support/h2_relay_rig.h"

namespace weir::test {
namespace {

using http::H2Error;
using http::H2FrameType;
using http::H2Side;
using http::H2Violation;
using http::kH2FlagAck;
using http::kH2FlagEndHeaders;
using http::kH2FlagEndStream;
using http::kH2FlagPadded;

constexpr std::uint8_t kWhole = kH2FlagEndHeaders | kH2FlagEndStream;
const std::vector<http::H2Field> kOk = {{":status", "200"}};

struct Attack {
  const char* name;
  std::function<void(H2RelayRig&)> run;
  H2Error code;
  H2Violation violation;
};

std::vector<Attack> Attacks() {
  // Repeats a wire until the relay has had enough; 100,000 frames at most.
  const auto flood = [](const Wire& wire) {
    return [bytes = wire.bytes()](H2RelayRig& rig) {
      for (int i = 0; i < 100000 && !rig.relay.closed(); ++i) {
        rig.Client(Bytes(bytes));
      }
    };
  };
  const auto once = [](const Wire& wire) {
    return [bytes = wire.bytes()](H2RelayRig& rig) { rig.Client(Bytes(bytes)); };
  };
  return {
      {"RapidReset",
       [](H2RelayRig& rig) {
         for (std::uint32_t id = 3; id < 100000 && !rig.relay.closed(); id += 2) {
           rig.Client(Wire().Headers(id, RequestFields(), kWhole).Rst(id));
         }
       },
       H2Error::kEnhanceYourCalm, H2Violation::kRapidReset},
      {"ProvokedResets",
       [](H2RelayRig& rig) {
         for (std::uint32_t id = 3; id < 100000 && !rig.relay.closed(); id += 2) {
           rig.Client(Wire().Headers(id, RequestFields()));
           rig.Server(Wire().Rst(id, H2Error::kProtocolError));
         }
       },
       H2Error::kEnhanceYourCalm, H2Violation::kRapidReset},
      {"MalformedRequests",
       [](H2RelayRig& rig) {
         for (std::uint32_t id = 3; id < 100000 && !rig.relay.closed(); id += 2) {
           rig.Client(Wire().Headers(id, {{"bad", "list"}}));
         }
       },
       H2Error::kEnhanceYourCalm, H2Violation::kRejectedStreamFlood},
      {"TooManyStreams",
       [](H2RelayRig& rig) {
         for (std::uint32_t id = 3; id < 100000 && !rig.relay.closed(); id += 2) {
           rig.Client(Wire().Headers(id, RequestFields()));
         }
       },
       H2Error::kEnhanceYourCalm, H2Violation::kTooManyStreams},
      {"Settings", flood(Wire().Settings()), H2Error::kEnhanceYourCalm,
       H2Violation::kSettingsFlood},
      {"Ping", flood(Wire().Frame(H2FrameType::kPing, 0, 0, "12345678")), H2Error::kEnhanceYourCalm,
       H2Violation::kPingFlood},
      {"PingAnswers", flood(Wire().Frame(H2FrameType::kPing, kH2FlagAck, 0, "12345678")),
       H2Error::kEnhanceYourCalm, H2Violation::kPingFlood},
      {"Priority", flood(Wire().Frame(H2FrameType::kPriority, 0, 9, "\1\1\1\1\1")),
       H2Error::kEnhanceYourCalm, H2Violation::kPriorityFlood},
      {"EmptyData", flood(Wire().Data(1, "")), H2Error::kEnhanceYourCalm,
       H2Violation::kEmptyDataFlood},
      {"PaddingOnly", flood(Wire().Data(1, std::string("\3\0\0\0", 4), kH2FlagPadded)),
       H2Error::kEnhanceYourCalm, H2Violation::kEmptyDataFlood},
      {"WindowUpdate", flood(Wire().WindowUpdate(0, 1)), H2Error::kEnhanceYourCalm,
       H2Violation::kWindowUpdateFlood},
      {"Reset", flood(Wire().Rst(1)), H2Error::kEnhanceYourCalm, H2Violation::kResetFlood},
      {"UnknownFrames", flood(Wire().Frame(static_cast<H2FrameType>(99), 0, 0, "")),
       H2Error::kEnhanceYourCalm, H2Violation::kUnknownFrameFlood},
      {"Continuation",
       [](H2RelayRig& rig) {
         rig.Client(Wire().Frame(H2FrameType::kHeaders, 0, 3, ""));
         for (int i = 0; i < 100 && !rig.relay.closed(); ++i) {
           rig.Client(Wire().Frame(H2FrameType::kContinuation, 0, 3, ""));
         }
       },
       H2Error::kEnhanceYourCalm, H2Violation::kContinuationFlood},
      {"LongBlock",
       [](H2RelayRig& rig) {
         rig.Client(Wire().Frame(H2FrameType::kHeaders, 0, 3, std::string(16384, 'x')));
         for (int i = 0; i < 63 && !rig.relay.closed(); ++i) {
           rig.Client(Wire().Frame(H2FrameType::kContinuation, 0, 3, std::string(16384, 'x')));
         }
       },
       H2Error::kEnhanceYourCalm, H2Violation::kHeaderBlockTooLarge},
      {"HpackBomb",
       [](H2RelayRig& rig) {
         // A table of 4,096 bytes, one entry of 4,000 in it, then 300 references to that.
         std::string block = "\x3f\xe1\x1f\x40\x01x\x7f\xa1\x1e" + std::string(4000, 'a');
         block.append(300, '\xbe');
         rig.Client(Wire().Frame(H2FrameType::kHeaders, kWhole, 3, block));
       },
       H2Error::kEnhanceYourCalm, H2Violation::kHeaderListTooLarge},
      {"CookieCrumbs",
       [](H2RelayRig& rig) {
         std::string block;
         for (int i = 0; i < 40000; ++i) {
           block += '\xa0';  // cookie with an empty value, of the static table
         }
         rig.Client(
             Wire()
                 .Frame(H2FrameType::kHeaders, 0, 3, block.substr(0, 16384))
                 .Frame(H2FrameType::kContinuation, 0, 3, block.substr(16384, 16384))
                 .Frame(H2FrameType::kContinuation, kH2FlagEndHeaders, 3, block.substr(32768)));
       },
       H2Error::kEnhanceYourCalm, H2Violation::kHeaderListTooLarge},
      {"BadHpack", once(Wire().Frame(H2FrameType::kHeaders, kWhole, 3, "\xff\xff\xff\xff\xff")),
       H2Error::kCompressionError, H2Violation::kCompression},
      {"PushByTheServer",
       [](H2RelayRig& rig) {
         rig.Server(Wire().Frame(H2FrameType::kPushPromise, kH2FlagEndHeaders, 1,
                                 std::string("\0\0\0\2", 4)));
       },
       H2Error::kProtocolError, H2Violation::kBadFrame},
      {"EvenStream", once(Wire().Headers(2, RequestFields())), H2Error::kProtocolError,
       H2Violation::kBadStreamId},
      {"DataOnIdleStream", once(Wire().Data(5, "x")), H2Error::kProtocolError,
       H2Violation::kBadStreamId},
      {"ResetOfIdleStream", once(Wire().Rst(5)), H2Error::kProtocolError,
       H2Violation::kBadStreamId},
      {"WindowUpdateOfIdleStream", once(Wire().WindowUpdate(5, 1)), H2Error::kProtocolError,
       H2Violation::kBadStreamId},
      {"AnswerOnIdleStream", [](H2RelayRig& rig) { rig.Server(Wire().Headers(5, kOk)); },
       H2Error::kProtocolError, H2Violation::kBadStreamId},
      {"DataBeforeTheAnswer", [](H2RelayRig& rig) { rig.Server(Wire().Data(1, "x")); },
       H2Error::kProtocolError, H2Violation::kStreamState},
      {"DataAfterTheEnd", once(Wire().Data(1, "x", kH2FlagEndStream).Data(1, "y")),
       H2Error::kStreamClosed, H2Violation::kStreamState},
      {"NoWindow", once(Wire().Frame(H2FrameType::kWindowUpdate, 0, 0, std::string(4, '\0'))),
       H2Error::kProtocolError, H2Violation::kFlowControl},
      {"FrameInsideABlock",
       once(Wire()
                .Frame(H2FrameType::kHeaders, 0, 3, "")
                .Frame(H2FrameType::kPing, 0, 0, "12345678")),
       H2Error::kProtocolError, H2Violation::kBadFrame},
      {"OtherStreamInsideABlock",
       once(Wire()
                .Frame(H2FrameType::kHeaders, 0, 3, "")
                .Frame(H2FrameType::kContinuation, 0, 5, "")),
       H2Error::kProtocolError, H2Violation::kBadFrame},
      {"ContinuationOfNothing", once(Wire().Frame(H2FrameType::kContinuation, 0, 1, "")),
       H2Error::kProtocolError, H2Violation::kBadFrame},
      {"LongFrame", once(Wire().Data(1, std::string(16385, 'x'))), H2Error::kFrameSizeError,
       H2Violation::kFrameSize},
  };
}

class H2RelayAttackTest : public ::testing::TestWithParam<Attack> {};

INSTANTIATE_TEST_SUITE_P(All, H2RelayAttackTest, ::testing::ValuesIn(Attacks()),
                         [](const auto& one) { return one.param.name; });

TEST_P(H2RelayAttackTest, ClosesTheConnectionWithTheRightCode) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields()));
  GetParam().run(rig);
  ASSERT_TRUE(rig.relay.closed());
  EXPECT_EQ(rig.relay.violation(), GetParam().violation);
  EXPECT_EQ(rig.relay.error(), GetParam().code);
  const bool by_client = rig.relay.offender() == H2Side::kClient;
  const auto to_offender = (by_client ? rig.to_client : rig.to_server).frames();
  ASSERT_EQ(to_offender.back().header.type, H2FrameType::kGoAway);
  EXPECT_EQ(static_cast<std::uint8_t>(to_offender.back().payload[7]),
            static_cast<std::uint8_t>(GetParam().code));
  const auto to_other = (by_client ? rig.to_server : rig.to_client).frames();
  ASSERT_EQ(to_other.back().header.type, H2FrameType::kGoAway);
  EXPECT_EQ(to_other.back().payload[7], '\0');
  // Nothing passes any more.
  const std::size_t before = rig.to_server.bytes().size();
  rig.Client(Wire().Headers(100001, RequestFields()));
  EXPECT_EQ(rig.to_server.bytes().size(), before);
}

TEST(H2RelayBeginningTest, WantsSettingsFirst) {
  H2RelayRig bad_preface;
  bad_preface.Client(AsBytes("PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n"));
  EXPECT_EQ(bad_preface.relay.violation(), H2Violation::kBadPreface);
  H2RelayRig no_settings;
  no_settings.Client(Wire().Preface().WindowUpdate(0, 1));
  EXPECT_EQ(no_settings.relay.violation(), H2Violation::kBadPreface);
  H2RelayRig server;
  server.Server(Wire().Frame(H2FrameType::kPing, 0, 0, "12345678"));
  EXPECT_EQ(server.relay.violation(), H2Violation::kBadPreface);
}

// gRPC measures the path with a PING for each batch of data.
TEST(H2RelayHonestTest, AdmitsAPingForEachDataFrame) {
  H2RelayRig rig;
  rig.Begin();
  rig.Client(Wire().Headers(1, RequestFields()));
  rig.Server(Wire().Headers(1, kOk));
  for (int i = 0; i < 20000; ++i) {
    rig.Server(Wire().Data(1, "x"));
    rig.Client(
        Wire().Frame(H2FrameType::kPing, 0, 0, "12345678").WindowUpdate(0, 1).WindowUpdate(1, 1));
    rig.Server(Wire().Frame(H2FrameType::kPing, kH2FlagAck, 0, "12345678"));
  }
  EXPECT_FALSE(rig.relay.closed()) << ToString(rig.relay.violation());
}

}  // namespace
}  // namespace weir::test
