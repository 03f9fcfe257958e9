#include "agent/admin/flow_replay.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/admin/flow_message.h"
#include "tests/support/flow_records.h"
#include "weir/v1/flow.pb.h"

namespace weir::admin {
namespace {

using Step = FlowReplay::Step;

std::string LineOf(const observe::Record& record, std::uint64_t sequence) {
  const StoredFlow stored{.sequence = sequence,
                          .flow = std::make_shared<const observe::Flow>(record.flow)};
  return ToJson(ToMessage(stored, "node-a"), /*with_defaults=*/false);
}

TEST(FlowFromMessageTest, ReadsAllThatAMessageSays) {
  std::vector<observe::Record> records = {test::MakeRequest(), test::MakeFailedRequest(),
                                          test::MakeDeniedConnection()};
  records.push_back(test::MakeRequest());
  observe::Flow& grpc = records.back().flow;
  grpc.protocol = observe::Protocol::kGrpc;
  grpc.http->version_major = 2;
  grpc.http->version_minor = 0;
  grpc.http->is_grpc = true;
  grpc.http->grpc_status = 14;
  grpc.http->request_index = 3;
  grpc.sni = "a.test";
  grpc.retries = 2;
  grpc.tags = {{.name = "tenant", .value = "acme"}};
  grpc.parent_span_id = {9};
  grpc.destination.endpoint = *base::Endpoint::Parse("[fd00::1]:443");
  for (const observe::Record& record : records) {
    const std::string line = LineOf(record, 7);
    v1::Flow message = ToMessage(
        {.sequence = 7, .flow = std::make_shared<const observe::Flow>(record.flow)}, "node-a");
    const auto flow = FromMessage(message);
    ASSERT_TRUE(flow.has_value()) << line;
    EXPECT_EQ(LineOf({.flow = *flow, .span = {}, .local = {}}, 7), line);
  }
}

TEST(FlowFromMessageTest, RefusesWordsThatItDoesNotKnow) {
  const v1::Flow good = ToMessage(
      {.sequence = 1, .flow = std::make_shared<const observe::Flow>(test::MakeRequest().flow)},
      "node-a");
  ASSERT_TRUE(FromMessage(good).has_value());
  const auto refused = [&](auto change) {
    v1::Flow bad = good;
    change(bad);
    return !FromMessage(bad).has_value();
  };
  EXPECT_TRUE(refused([](v1::Flow& flow) { flow.set_reason("tired"); }));
  EXPECT_TRUE(refused([](v1::Flow& flow) { flow.set_protocol("smoke"); }));
  EXPECT_TRUE(refused([](v1::Flow& flow) { flow.set_direction(""); }));
  EXPECT_TRUE(refused([](v1::Flow& flow) { flow.set_trace_id("4bf9"); }));
  EXPECT_TRUE(refused([](v1::Flow& flow) { flow.set_duration_seconds(1e10); }));
  EXPECT_TRUE(refused([](v1::Flow& flow) { flow.set_first_byte_seconds(-1); }));
  EXPECT_TRUE(refused([](v1::Flow& flow) { flow.mutable_time()->set_seconds(1LL << 40); }));
  EXPECT_TRUE(refused([](v1::Flow& flow) { flow.set_span_id("00f067aa0ba902bx"); }));
  EXPECT_TRUE(refused([](v1::Flow& flow) { flow.mutable_source()->set_address("nowhere"); }));
  EXPECT_TRUE(refused([](v1::Flow& flow) { flow.mutable_source()->set_port(65536); }));
  EXPECT_TRUE(refused([](v1::Flow& flow) { flow.mutable_source()->set_identity("cart"); }));
}

TEST(FlowReplayTest, KeepsNoMoreThanWasAskedFor) {
  auto replay = FlowReplay::Create("/v1/flows?last=2", {});
  ASSERT_TRUE(replay.has_value());
  std::vector<std::string> out;
  const auto take = [&](std::string_view line) {
    out.emplace_back(line);
    return true;
  };
  const auto records = test::MakeRequests(5);
  for (std::size_t i = 0; i < records.size(); ++i) {
    EXPECT_EQ(replay->Take(LineOf(records[i], i + 1), take), Step::kMore);
  }
  EXPECT_TRUE(out.empty());
  replay->Finish("kept", take);
  ASSERT_EQ(out.size(), 3U);
  EXPECT_EQ(out[0], LineOf(records[3], 4)) << "byte by byte as it came";
  EXPECT_EQ(out[1], LineOf(records[4], 5));
  EXPECT_NE(out[2].find("\"seen\":\"5\",\"matched\":\"5\""), std::string::npos) << out[2];
  EXPECT_NE(out[2].find("\"node\":\"kept\""), std::string::npos) << out[2];
}

TEST(FlowReplayTest, EndsWhenItHasEnough) {
  auto replay = FlowReplay::Create("/v1/flows?first=1", {});
  ASSERT_TRUE(replay.has_value());
  const std::string line = LineOf(test::MakeRequest(), 1);
  const auto take = [](std::string_view) { return true; };
  EXPECT_EQ(replay->Take("", take), Step::kMore);
  EXPECT_EQ(replay->Take(R"({"summary":{}})", take), Step::kMore);
  EXPECT_EQ(replay->Take("{", take), Step::kNoFlow);
  EXPECT_EQ(replay->Take(line, take), Step::kEnough);
  auto all = FlowReplay::Create("/v1/flows?all=1", {});
  EXPECT_EQ(all->Take(line, [](std::string_view) { return false; }), Step::kEnough);
}

TEST(FlowReplayTest, RefusesWhatAFileCannotAnswer) {
  for (const char* target :
       {"/v1/flows?follow=1", "/v1/flows?max_rps=1", "/v1/flows?lst=1", "/v1/flows?filter=x%3D1"}) {
    EXPECT_FALSE(FlowReplay::Create(target, {}).has_value()) << target;
  }
}

}  // namespace
}  // namespace weir::admin
