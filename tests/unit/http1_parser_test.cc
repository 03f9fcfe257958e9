#include "agent/http/http1_parser.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "tests/support/http1_corpus.h"
#include "tests/support/http1_transcript.h"

namespace weir::http {
namespace {

using test::Http1Transcript;

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

RequestHead ParseRequest(const std::string& bytes) {
  RequestHead head;
  EXPECT_EQ(ParseRequestHead(bytes, head), Http1Error::kNone) << bytes;
  return head;
}

ResponseHead ParseResponse(const std::string& bytes, RequestKind kind = {}) {
  ResponseHead head;
  EXPECT_EQ(ParseResponseHead(bytes, kind, head), Http1Error::kNone) << bytes;
  return head;
}

// The transcript of a stream that comes in one piece, byte by byte, and cut at each place
// must be the same.
template <typename Make>
void ExpectSameForEverySplit(std::string_view stream, Make&& make) {
  Http1Transcript whole = make();
  whole.Feed(stream);
  Http1Transcript bytewise = make();
  for (const char c : stream) {
    bytewise.Feed({&c, 1});
  }
  ASSERT_EQ(bytewise.events(), whole.events());
  ASSERT_EQ(bytewise.is_clean(), whole.is_clean());
  for (std::size_t cut = 1; cut < stream.size(); ++cut) {
    Http1Transcript parts = make();
    parts.Feed(stream.substr(0, cut));
    parts.Feed(stream.substr(cut));
    ASSERT_EQ(parts.events(), whole.events()) << "cut at " << cut;
  }
}

TEST(RequestHeadTest, GivesMethodTargetAndFieldsOfARequest) {
  const std::string bytes =
      "POST /a/b?x=1&y#z HTTP/1.1\r\nHost: shop:8080\r\nUser-Agent: curl/8\r\n"
      "Content-Length: 12\r\nX-Empty:\r\n\r\n";
  const RequestHead head = ParseRequest(bytes);
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.target, "/a/b?x=1&y#z");
  EXPECT_EQ(head.path, "/a/b");
  EXPECT_EQ(head.query, "x=1&y");
  EXPECT_EQ(head.host, "shop:8080");
  EXPECT_EQ(head.user_agent, "curl/8");
  EXPECT_EQ(head.version_minor, 1);
  EXPECT_EQ(head.framing.kind, BodyKind::kCounted);
  EXPECT_EQ(head.framing.length, 12U);
  ASSERT_EQ(head.fields.size(), 4U);
  EXPECT_EQ(head.fields[1].line, "User-Agent: curl/8\r\n");
  EXPECT_EQ(head.fields[1].id, FieldId::kUserAgent);
  EXPECT_EQ(head.fields[3].name, "X-Empty");
  EXPECT_EQ(head.fields[3].value, "");
}

TEST(RequestHeadTest, TakesTheHostOfAnAbsoluteTargetWithoutItsUser) {
  const std::string bytes = "GET http://user:secret@shop:80/p?q HTTP/1.1\r\nHost: other\r\n\r\n";
  const RequestHead head = ParseRequest(bytes);
  EXPECT_EQ(head.host, "shop:80");
  EXPECT_EQ(head.path, "/p");
  EXPECT_EQ(head.query, "q");
}

TEST(RequestHeadTest, SeesConnectWithItsAuthority) {
  const std::string bytes = "CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n";
  const RequestHead head = ParseRequest(bytes);
  EXPECT_TRUE(head.is_connect);
  EXPECT_EQ(head.host, "db:5432");
  EXPECT_EQ(head.path, "");
}

TEST(RequestHeadTest, SeesAnUpgradeOnlyWithBothFieldsIn11) {
  const std::string both =
      "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
  EXPECT_TRUE(ParseRequest(both).wants_upgrade);
  const std::string without_connection = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
  EXPECT_FALSE(ParseRequest(without_connection).wants_upgrade);
  const std::string old =
      "GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
  EXPECT_FALSE(ParseRequest(old).wants_upgrade);
}

TEST(RequestHeadTest, TakesKnownCodingsBeforeChunked) {
  const std::string bytes =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\ntransfer-encoding: Chunked\r\n\r\n";
  EXPECT_EQ(ParseRequest(bytes).framing.kind, BodyKind::kChunked);
}

TEST(RequestHeadTest, TrimsSpacesAndTabsAroundAValue) {
  const std::string bytes = "POST / HTTP/1.1\r\nHost:\t a \t\r\nContent-Length:\t5\t\r\n\r\n";
  const RequestHead head = ParseRequest(bytes);
  EXPECT_EQ(head.host, "a");
  EXPECT_EQ(head.framing.length, 5U);
}

TEST(RequestHeadTest, ForgetsThePreviousRequestWhenReused) {
  RequestHead head;
  const std::string first =
      "POST /a?b HTTP/1.0\r\nHost: a\r\nUser-Agent: x\r\nContent-Length: 5\r\n\r\n";
  ASSERT_EQ(ParseRequestHead(first, head), Http1Error::kNone);
  ASSERT_EQ(ParseRequestHead(kGet, head), Http1Error::kNone);
  EXPECT_EQ(head.user_agent, "");
  EXPECT_EQ(head.query, "");
  EXPECT_EQ(head.version_minor, 1);
  EXPECT_EQ(head.framing.kind, BodyKind::kNone);
  EXPECT_EQ(head.fields.size(), 1U);
}

TEST(ResponseHeadTest, FramesByStatusMethodAndFields) {
  struct Case {
    std::string bytes;
    RequestKind kind;
    BodyKind body;
  };
  const std::vector<Case> cases = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", {}, BodyKind::kCounted},
      {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", {}, BodyKind::kNone},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", {}, BodyKind::kChunked},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", {}, BodyKind::kChunked},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", {}, BodyKind::kUntilEnd},
      {"HTTP/1.1 200 OK\r\n\r\n", {}, BodyKind::kUntilEnd},
      {"HTTP/1.0 200 OK\r\n\r\n", {}, BodyKind::kUntilEnd},
      {"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", {}, BodyKind::kCounted},
      {"HTTP/1.1 204 No Content\r\n\r\n", {}, BodyKind::kNone},
      {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", {}, BodyKind::kNone},
      {"HTTP/1.1 100 Continue\r\n\r\n", {}, BodyKind::kNone},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", {.is_head = true}, BodyKind::kNone},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", {.is_head = true}, BodyKind::kNone},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", {.is_connect = true}, BodyKind::kNone},
      {"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n", {.is_connect = true}, BodyKind::kCounted},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(ParseResponse(one.bytes, one.kind).framing.kind, one.body) << one.bytes;
  }
}

TEST(ResponseHeadTest, SeesInterimResponsesAndSwitches) {
  EXPECT_TRUE(ParseResponse("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").is_interim);
  EXPECT_FALSE(ParseResponse("HTTP/1.1 200 OK\r\n\r\n").is_interim);
  const ResponseHead switched =
      ParseResponse("HTTP/1.1 101 Switching Protocols\r\n\r\n", {.wants_upgrade = true});
  EXPECT_TRUE(switched.switches_protocol);
  EXPECT_FALSE(switched.is_interim);
  EXPECT_TRUE(ParseResponse("HTTP/1.1 204 Fine\r\n\r\n", {.is_connect = true}).switches_protocol);
  EXPECT_FALSE(ParseResponse("HTTP/1.1 407 No\r\n\r\n", {.is_connect = true}).switches_protocol);
}

TEST(Http1CorpusTest, RefusesEachMalformedRequestForItsReason) {
  const auto cases = test::MalformedRequests();
  EXPECT_GE(cases.size(), 150U);
  for (const auto& one : cases) {
    Http1Transcript transcript;
    transcript.Feed(one.bytes);
    EXPECT_EQ(ToString(transcript.error()), ToString(one.error)) << one.name;
    EXPECT_EQ(transcript.message_count(), 0U) << one.name;
  }
}

TEST(Http1CorpusTest, RefusesEachMalformedRequestWhateverItsSplit) {
  for (const auto& one : test::MalformedRequests()) {
    if (one.bytes.size() < 600) {
      SCOPED_TRACE(one.name);
      ExpectSameForEverySplit(one.bytes, [] { return Http1Transcript(); });
    }
  }
}

TEST(Http1CorpusTest, ReadsEachWellFormedStreamWhateverItsSplit) {
  for (const auto& one : test::WellFormedRequests()) {
    SCOPED_TRACE(one.name);
    Http1Transcript transcript;
    transcript.Feed(one.bytes);
    EXPECT_EQ(ToString(transcript.error()), "none");
    EXPECT_EQ(transcript.message_count(), one.count);
    EXPECT_TRUE(transcript.is_clean());
    ExpectSameForEverySplit(one.bytes, [] { return Http1Transcript(); });
  }
}

TEST(Http1CorpusTest, RefusesEachMalformedResponseWhateverItsSplit) {
  for (const auto& one : test::MalformedResponses()) {
    SCOPED_TRACE(one.name);
    Http1Transcript transcript(one.kind, {});
    transcript.Feed(one.bytes);
    EXPECT_EQ(ToString(transcript.error()), ToString(one.error));
    ExpectSameForEverySplit(one.bytes, [&] { return Http1Transcript(one.kind, {}); });
  }
}

// ---- limits, each at its last good value and one beyond, in one piece and bytewise ----

Http1Error ErrorOf(const std::string& bytes, const Http1Limits& limits) {
  Http1Transcript whole(limits);
  whole.Feed(bytes);
  Http1Transcript bytewise(limits);
  for (const char c : bytes) {
    bytewise.Feed({&c, 1});
  }
  EXPECT_EQ(whole.events(), bytewise.events());
  EXPECT_EQ(whole.message_count(), whole.error() == Http1Error::kNone ? 1U : 0U);
  return whole.error();
}

std::string WithLine(std::size_t line_bytes) {
  const std::string around = "GET / HTTP/1.1";
  return "GET /" + std::string(line_bytes - around.size(), 'p') + " HTTP/1.1\r\nHost: a\r\n\r\n";
}

TEST(Http1LimitTest, KeepsTheRequestLineLimitToTheByte) {
  for (const std::uint32_t limit : {64U, 8192U, 65536U}) {
    const Http1Limits limits{.max_start_line_bytes = limit};
    EXPECT_EQ(ErrorOf(WithLine(limit - 1), limits), Http1Error::kNone);
    EXPECT_EQ(ErrorOf(WithLine(limit), limits), Http1Error::kNone);
    EXPECT_EQ(ErrorOf(WithLine(limit + 1), limits), Http1Error::kStartLineTooLong);
  }
}

TEST(Http1LimitTest, KeepsTheHeaderBytesLimitToTheByte) {
  for (const std::uint32_t limit : {64U, 8192U, 65536U}) {
    const Http1Limits limits{.max_header_bytes = limit};
    const auto request = [](std::size_t header_bytes) {
      const std::string around = "Host: a\r\nX: \r\n";
      return "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(header_bytes - around.size(), 'v') +
             "\r\n\r\n";
    };
    EXPECT_EQ(ErrorOf(request(limit - 1), limits), Http1Error::kNone);
    EXPECT_EQ(ErrorOf(request(limit), limits), Http1Error::kNone);
    EXPECT_EQ(ErrorOf(request(limit + 1), limits), Http1Error::kHeadersTooLarge);
  }
}

TEST(Http1LimitTest, KeepsTheHeaderCountLimit) {
  const Http1Limits limits{.max_header_count = 256};
  const auto request = [](std::size_t count) {
    std::string bytes = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (std::size_t i = 1; i < count; ++i) {
      bytes += "X: y\r\n";
    }
    return bytes + "\r\n";
  };
  EXPECT_EQ(ErrorOf(request(256), limits), Http1Error::kNone);
  EXPECT_EQ(ErrorOf(request(257), limits), Http1Error::kTooManyHeaders);
}

TEST(Http1LimitTest, KeepsTheHeaderLimitsForTrailers) {
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
  const Http1Limits bytes{.max_header_bytes = 64};
  const auto trailer = [&](std::size_t count) {
    return head + "X: " + std::string(count - 5, 'v') + "\r\n\r\n";
  };
  EXPECT_EQ(ErrorOf(trailer(64), bytes), Http1Error::kNone);
  EXPECT_EQ(ErrorOf(trailer(65), bytes), Http1Error::kHeadersTooLarge);
  const Http1Limits counts{.max_header_count = 2};
  EXPECT_EQ(ErrorOf(head + "X:\r\nY:\r\n\r\n", counts), Http1Error::kNone);
  EXPECT_EQ(ErrorOf(head + "X:\r\nY:\r\nZ:\r\n\r\n", counts), Http1Error::kTooManyHeaders);
}

TEST(Http1LimitTest, TellsALineThatNeverEndsBeforeItEnds) {
  Http1Transcript line(Http1Limits{.max_start_line_bytes = 100});
  line.Feed(std::string(101, 'G'));
  EXPECT_EQ(line.error(), Http1Error::kStartLineTooLong);
  Http1Transcript field(Http1Limits{.max_header_bytes = 100});
  field.Feed("GET / HTTP/1.1\r\n" + std::string(99, 'X'));
  EXPECT_EQ(field.error(), Http1Error::kHeadersTooLarge);
}

TEST(Http1LimitTest, AnswersWithTheStatusOfTheLimit) {
  EXPECT_EQ(StatusFor(Http1Error::kStartLineTooLong), 414);
  EXPECT_EQ(StatusFor(Http1Error::kHeadersTooLarge), 431);
  EXPECT_EQ(StatusFor(Http1Error::kTooManyHeaders), 431);
  EXPECT_EQ(StatusFor(Http1Error::kBareLf), 400);
}

TEST(BodyReaderTest, PassesLargeCountedAndChunkedBodies) {
  BodyReader counted(Framing{.kind = BodyKind::kCounted, .length = 10'000'000'000});
  const std::string piece(1 << 20, 'x');
  std::uint64_t total = 0;
  while (!counted.complete()) {
    total += counted.Read(piece, {}).consumed;
  }
  EXPECT_EQ(total, 10'000'000'000U);
  BodyReader chunked(Framing{.kind = BodyKind::kChunked, .length = 0});
  EXPECT_EQ(chunked.Read("7fffffffffffffff\r\n", {}).progress, Progress::kNeedMore);
  EXPECT_EQ(chunked.Read(piece, {}).consumed, piece.size());
}

TEST(BodyReaderTest, LeavesWhatFollowsTheBody) {
  BodyReader reader(Framing{.kind = BodyKind::kCounted, .length = 5});
  const BodyReader::Step step = reader.Read("helloGET", {});
  EXPECT_EQ(step.progress, Progress::kComplete);
  EXPECT_EQ(step.consumed, 5U);
}

TEST(BodyReaderTest, TakesEverythingUntilTheEndOfTheConnection) {
  BodyReader reader(Framing{.kind = BodyKind::kUntilEnd, .length = 0});
  EXPECT_EQ(reader.Read("anything\r\n\r\n", {}).consumed, 12U);
  EXPECT_TRUE(reader.ends_with_connection());
  EXPECT_FALSE(reader.complete());
}

TEST(BodyReaderTest, KeepsTheExtensionLimitToTheByte) {
  const auto extended = [](std::size_t line_bytes) {
    return "1;" + std::string(line_bytes - 4, 'e') + "\r\n";
  };
  BodyReader last(Framing{.kind = BodyKind::kChunked, .length = 0});
  EXPECT_EQ(last.Read(extended(1024), {}).progress, Progress::kNeedMore);
  BodyReader beyond(Framing{.kind = BodyKind::kChunked, .length = 0});
  EXPECT_EQ(beyond.Read(extended(1025), {}).progress, Progress::kError);
}

}  // namespace
}  // namespace weir::http
