#include "agent/client/grpc.h"

#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include "agent/client/gzip.h"

namespace weir::client {
namespace {

HttpResponse Ok(std::string body) {
  return {.status = 200, .body = std::move(body), .trailers = {{"grpc-status", "0"}}};
}

const std::string kAnswer("\0\0\0\0\2ab", 7);

TEST(GrpcTest, FramesACall) {
  const HttpRequest request = ToHttp({.method = "/p.S/M",
                                      .metadata = {{"authorization", "x"}},
                                      .message = "ab",
                                      .timeout = std::chrono::milliseconds(1500),
                                      .user_agent = "weir"});
  EXPECT_EQ(request.target, "/p.S/M");
  EXPECT_EQ(request.body, kAnswer);
  EXPECT_EQ(request.headers, (std::vector<HttpHeader>{{"te", "trailers"},
                                                      {"content-type", "application/grpc"},
                                                      {"grpc-timeout", "1500m"},
                                                      {"grpc-accept-encoding", "identity,gzip"},
                                                      {"user-agent", "weir"},
                                                      {"authorization", "x"}}));
}

TEST(GrpcTest, PacksAMessage) {
  const HttpRequest request =
      ToHttp({.method = "/p.S/M", .message = std::string(1000, 'x'), .gzip = true});
  EXPECT_EQ(request.body[0], 1);
  EXPECT_EQ(Gunzip(std::string_view(request.body).substr(5), 1000).value(), std::string(1000, 'x'));
}

TEST(GrpcTest, ReadsTheMessageOfAnAnswer) {
  EXPECT_EQ(ReadGrpcAnswer(Ok(kAnswer), 10).message, "ab");
  EXPECT_EQ(ReadGrpcAnswer(Ok(kAnswer), 10).status, GrpcStatus::kOk);
  const std::string packed = Gzip("unpacked");
  HttpResponse response =
      Ok(std::string("\1\0\0\0", 4) + static_cast<char>(packed.size()) + packed);
  response.headers = {{"grpc-encoding", "gzip"}};
  EXPECT_EQ(ReadGrpcAnswer(response, 8).message, "unpacked");
  EXPECT_EQ(ReadGrpcAnswer(response, 7).status, GrpcStatus::kInternal);
}

TEST(GrpcTest, RefusesAnOkWithoutExactlyOneMessage) {
  for (const std::string& body :
       {std::string(), std::string("\0\0\0\0", 4), kAnswer + "x", kAnswer.substr(0, 6),
        std::string("\2\0\0\0\0", 5), std::string("\1\0\0\0\0", 5),
        std::string("\0\xff\xff\xff\xff", 5)}) {
    const GrpcAnswer answer = ReadGrpcAnswer(Ok(body), 100);
    EXPECT_EQ(answer.status, GrpcStatus::kInternal) << body.size();
    EXPECT_FALSE(answer.text.empty());
  }
}

TEST(GrpcTest, ReadsStatusTextAndDetails) {
  // "AQID" is {1, 2, 3}; gRPC leaves base64's padding out, but takes it.
  for (const char* details : {"AQID", "AQ", "AQ=="}) {
    const GrpcAnswer answer = ReadGrpcAnswer({.status = 200,
                                              .headers = {{"grpc-status", "8"},
                                                          {"grpc-message", "too%20many%zz"},
                                                          {"grpc-status-details-bin", details}}},
                                             10);
    EXPECT_EQ(answer.status, GrpcStatus::kResourceExhausted);
    EXPECT_EQ(answer.text, "too many%zz");
    EXPECT_EQ(answer.details, std::string(details) == "AQID" ? "\1\2\3" : "\1");
  }
  EXPECT_EQ(ReadGrpcAnswer({.status = 200, .headers = {{"grpc-status", "99"}}}, 10).status,
            GrpcStatus::kUnknown);
  EXPECT_EQ(ReadGrpcAnswer({.status = 200, .headers = {{"grpc-status", "-1"}}}, 10).status,
            GrpcStatus::kUnknown);
}

TEST(GrpcTest, InfersTheStatusThatIsMissing) {
  EXPECT_EQ(ReadGrpcAnswer({.status = 200}, 10).status, GrpcStatus::kUnknown);
  EXPECT_EQ(ReadGrpcAnswer({.status = 404}, 10).status, GrpcStatus::kUnimplemented);
  EXPECT_EQ(ReadGrpcAnswer({.status = 401}, 10).status, GrpcStatus::kUnauthenticated);
  EXPECT_EQ(ReadGrpcAnswer({.status = 418}, 10).status, GrpcStatus::kUnknown);
  for (const unsigned status : {429U, 502U, 503U, 504U}) {
    EXPECT_EQ(ReadGrpcAnswer({.status = status}, 10).status, GrpcStatus::kUnavailable);
  }
  const auto reset = [](std::uint32_t code) {
    return ReadGrpcAnswer({.status = 0, .reset_code = code}, 10).status;
  };
  EXPECT_EQ(reset(NGHTTP2_REFUSED_STREAM), GrpcStatus::kUnavailable);
  EXPECT_EQ(reset(NGHTTP2_CANCEL), GrpcStatus::kCancelled);
  EXPECT_EQ(reset(NGHTTP2_ENHANCE_YOUR_CALM), GrpcStatus::kResourceExhausted);
  EXPECT_EQ(reset(NGHTTP2_INADEQUATE_SECURITY), GrpcStatus::kPermissionDenied);
  EXPECT_EQ(reset(NGHTTP2_PROTOCOL_ERROR), GrpcStatus::kInternal);
  EXPECT_EQ(reset(12345), GrpcStatus::kInternal);
}

}  // namespace
}  // namespace weir::client
