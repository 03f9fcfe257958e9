#include "agent/admin/flow_reader.h"

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "agent/admin/flow_message.h"
#include "agent/admin/target.h"
#include "tests/support/flow_records.h"
#include "weir/v1/flow.pb.h"

namespace weir::admin {
namespace {

using Step = FlowReader::Step;

// What a reader has said so far.
struct Said {
  std::vector<v1::Flow> flows;
  std::vector<v1::FlowSummary> summaries;
};

class FlowReaderTest : public ::testing::Test {
 protected:
  static FlowQuery Query(const std::string& parameters,
                         base::WallTime now = test::kFlowsBegin + std::chrono::seconds(10)) {
    const auto target = ParseTarget("/v1/flows?" + parameters);
    EXPECT_TRUE(target.has_value());
    auto query = ParseFlowQuery(*target, now);
    EXPECT_TRUE(query.has_value()) << query.error().message;
    return query ? std::move(*query) : FlowQuery{};
  }

  static void Parse(const std::string& text, Said& said) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("{\"summary\":")) {
        v1::FlowSummaryLine summary;
        EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(line, &summary).ok()) << line;
        said.summaries.push_back(summary.summary());
      } else {
        EXPECT_TRUE(
            google::protobuf::util::JsonStringToMessage(line, &said.flows.emplace_back()).ok())
            << line;
      }
    }
  }

  Step ReadUntilIdle(FlowReader& reader, Said& said, std::size_t max_bytes = 1U << 20U) {
    Step step = Step::kMore;
    std::string out;
    while (step == Step::kMore) {
      step = reader.Read(out, max_bytes);
      Parse(out, said);
      out.clear();
    }
    return step;
  }

  Said ReadAll(const std::string& parameters) {
    FlowReader reader(Query(parameters), store_, lines_, clock_);
    Said said;
    EXPECT_EQ(ReadUntilIdle(reader, said), Step::kDone);
    return said;
  }

  FlowStore store_{{.max_records = 5000, .max_bytes = 64U << 20U}};
  FlowLines lines_{"node-a"};
  base::ManualClock clock_;
};

TEST_F(FlowReaderTest, GivesTheLastTwentyOldestFirstByDefault) {
  store_.Consume(test::MakeRequests(100));
  const Said said = ReadAll("");
  ASSERT_EQ(said.flows.size(), 20U);
  EXPECT_EQ(said.flows.front().http().path(), "/80");
  EXPECT_EQ(said.flows.back().http().path(), "/99");
  ASSERT_EQ(said.summaries.size(), 1U);
  EXPECT_EQ(said.summaries[0].seen(), 20U);
  EXPECT_EQ(said.summaries[0].matched(), 20U);
  EXPECT_EQ(said.summaries[0].lost(), 0U);
  EXPECT_EQ(said.summaries[0].node(), "node-a");
}

TEST_F(FlowReaderTest, SearchesBackForTheLastThatMatch) {
  store_.Consume(test::MakeRequests(3000));
  const Said said = ReadAll("last=2&filter=path%24%3D00");
  ASSERT_EQ(said.flows.size(), 2U);
  EXPECT_EQ(said.flows[0].http().path(), "/2800");
  EXPECT_EQ(said.flows[1].http().path(), "/2900");
  EXPECT_EQ(said.summaries[0].seen(), 200U);
}

TEST_F(FlowReaderTest, SelectsByTimeNumberAndAll) {
  store_.Consume(test::MakeRequests(4000));
  EXPECT_EQ(ReadAll("all=1").flows.size(), 4000U);
  EXPECT_EQ(ReadAll("first=3").flows.back().http().path(), "/2");
  EXPECT_EQ(ReadAll("last=0").flows.size(), 0U);
  // The flows end from 08:00:00.0031 to 08:00:04.0021; now is 08:00:10.
  const Said recent = ReadAll("since=8s");
  EXPECT_EQ(recent.flows.size(), 2003U);
  EXPECT_EQ(recent.flows.front().http().path(), "/1997");
  EXPECT_EQ(recent.summaries[0].seen(), 2003U);
  EXPECT_EQ(ReadAll("since=2027-01-15T08:00:01Z&until=2027-01-15T09:00:02%2B01:00").flows.size(),
            1000U);
}

TEST_F(FlowReaderTest, SaysWhichTermToDropWhenNothingMatches) {
  store_.Consume(test::MakeRequests(50));
  const Said said = ReadAll("filter=dst%3Dshop/price+and+status%3E%3D500");
  EXPECT_TRUE(said.flows.empty());
  EXPECT_EQ(said.summaries[0].seen(), 50U);
  EXPECT_EQ(said.summaries[0].matched(), 0U);
  EXPECT_EQ(said.summaries[0].nearest_dropped_term(), "status>=500");
  EXPECT_EQ(said.summaries[0].nearest_matches(), 50U);
}

TEST_F(FlowReaderTest, FollowsFromNowOnAndSumsUpAtMostOnceASecond) {
  store_.Consume(test::MakeRequests(10));
  FlowReader reader(Query("follow=1"), store_, lines_, clock_);
  Said said;
  EXPECT_EQ(ReadUntilIdle(reader, said), Step::kCaughtUp);
  EXPECT_TRUE(said.flows.empty());
  EXPECT_EQ(said.summaries.size(), 1U);  // tells that it is there
  for (int i = 0; i < 5; ++i) {
    store_.Consume(test::MakeRequests(1));
    EXPECT_EQ(ReadUntilIdle(reader, said), Step::kCaughtUp);
  }
  EXPECT_EQ(said.flows.size(), 5U);
  EXPECT_EQ(said.summaries.size(), 1U);
  clock_.Advance(FlowReader::kSummaryEvery);
  ReadUntilIdle(reader, said);
  ASSERT_EQ(said.summaries.size(), 2U);
  EXPECT_EQ(said.summaries.back().matched(), 5U);
  clock_.Advance(FlowReader::kSummaryEvery);
  ReadUntilIdle(reader, said);
  EXPECT_EQ(said.summaries.size(), 2U);  // nothing new to say
  clock_.Advance(FlowReader::kIdleSummaryEvery);
  ReadUntilIdle(reader, said);
  EXPECT_EQ(said.summaries.size(), 3U);
}

TEST_F(FlowReaderTest, GoesOnAfterTheLastOnesWithoutRepeatingOrMissingAny) {
  store_.Consume(test::MakeRequests(10));
  FlowReader reader(Query("follow=1&last=3"), store_, lines_, clock_);
  store_.Consume(test::MakeRequests(2));
  Said said;
  ReadUntilIdle(reader, said);
  ASSERT_EQ(said.flows.size(), 5U);
  for (std::size_t i = 1; i < said.flows.size(); ++i) {
    EXPECT_EQ(said.flows[i].sequence(), said.flows[i - 1].sequence() + 1);
  }
}

// F44: a reader that stalled is told what it missed, at once, and goes on.
TEST_F(FlowReaderTest, TellsAStalledReaderHowMuchItLost) {
  FlowReader reader(Query("follow=1"), store_, lines_, clock_);
  Said said;
  ReadUntilIdle(reader, said);
  store_.Consume(test::MakeRequests(4000));
  store_.NoteLost(500);
  store_.Consume(test::MakeRequests(4000));
  EXPECT_EQ(ReadUntilIdle(reader, said), Step::kCaughtUp);
  EXPECT_EQ(said.flows.size(), 5000U);
  ASSERT_GE(said.summaries.size(), 2U);
  EXPECT_EQ(said.summaries[1].lost(), 3000U);      // written over
  EXPECT_EQ(said.summaries.back().lost(), 3500U);  // and never there
  clock_.Advance(FlowReader::kSummaryEvery);
  ReadUntilIdle(reader, said);
  EXPECT_EQ(said.summaries.back().lost() + said.summaries.back().seen(), 8500U);
}

TEST_F(FlowReaderTest, LeavesOutWhatExceedsTheRateAndCountsIt) {
  FlowReader reader(Query("follow=1&max_rps=10"), store_, lines_, clock_);
  Said said;
  ReadUntilIdle(reader, said);
  store_.Consume(test::MakeRequests(100));
  ReadUntilIdle(reader, said);
  EXPECT_EQ(said.flows.size(), 10U);
  clock_.Advance(std::chrono::seconds(1));
  store_.Consume(test::MakeRequests(5));
  ReadUntilIdle(reader, said);
  EXPECT_EQ(said.flows.size(), 15U);
  EXPECT_EQ(said.summaries.back().skipped(), 90U);
  EXPECT_EQ(said.summaries.back().matched(), 105U);
}

TEST_F(FlowReaderTest, SamplesWholeTracesAndCountsTheRest) {
  std::vector<observe::Record> records;
  for (std::uint8_t trace = 0; trace < 32; ++trace) {
    for (int span = 0; span < 3; ++span) {
      records.push_back(test::MakeRequest());
      records.back().flow.trace_id = {};
      records.back().flow.trace_id[0] = 1;
      records.back().flow.trace_id[8] = trace;
    }
  }
  store_.Consume(records);
  FlowReader reader(Query("all=1&sample=4"), store_, lines_, clock_);
  Said said;
  ReadUntilIdle(reader, said);
  std::map<std::string, int> spans_of;
  for (const auto& flow : said.flows) {
    ++spans_of[flow.trace_id()];
  }
  EXPECT_EQ(spans_of.size(), 8U);
  for (const auto& [trace, spans] : spans_of) {
    EXPECT_EQ(spans, 3) << trace;
  }
  EXPECT_EQ(said.summaries.back().matched(), 96U);
  EXPECT_EQ(said.summaries.back().skipped(), 72U);

  store_.Consume({test::MakeDeniedConnection(), test::MakeDeniedConnection()});
  FlowReader last(Query("last=1&sample=2&filter=verdict%3Ddeny"), store_, lines_, clock_);
  Said newest;
  ReadUntilIdle(last, newest);
  ASSERT_EQ(newest.flows.size(), 1U);  // by its number: one of two neighbours
  EXPECT_EQ(newest.flows[0].sequence() % 2, 0U);
}

TEST_F(FlowReaderTest, KeepsEachStepWithinItsBytes) {
  store_.Consume(test::MakeRequests(1000));
  FlowReader reader(Query("all=1"), store_, lines_, clock_);
  std::string out;
  std::size_t steps = 0;
  Step step = Step::kMore;
  while (step == Step::kMore) {
    out.clear();
    step = reader.Read(out, 4096);
    EXPECT_LT(out.size(), 4096U + 4096U);
    ++steps;
  }
  EXPECT_GT(steps, 100U);
}

TEST_F(FlowReaderTest, MakesMessagesThatJsonGivesBackUnchanged) {
  for (const auto& record :
       {test::MakeRequest(), test::MakeFailedRequest(), test::MakeDeniedConnection()}) {
    const StoredFlow stored{.sequence = 9,
                            .flow = std::make_shared<const observe::Flow>(record.flow)};
    const v1::Flow message = ToMessage(stored, "node-a");
    v1::Flow back;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(ToJson(message, false), &back).ok());
    EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(message, back));
  }
}

TEST_F(FlowReaderTest, ReplacesBytesThatAreNotUtf8) {
  auto record = test::MakeRequest();
  record.flow.http->path = "/\xff\xc3\xa4\xed\xa0\x80";
  const StoredFlow stored{.sequence = 1,
                          .flow = std::make_shared<const observe::Flow>(record.flow)};
  const v1::Flow message = ToMessage(stored, "n");
  const std::string replaced = "\xef\xbf\xbd";
  EXPECT_EQ(message.http().path(), "/" + replaced + "\xc3\xa4" + replaced + replaced + replaced);
  EXPECT_NE(ToJson(message, false), "{}");
}

TEST(TargetTest, RefusesWhatItDoesNotUnderstand) {
  const base::WallTime now = test::kFlowsBegin;
  for (const char* target : {"/v1/flows?last=x", "/v1/flows?lsat=3", "/v1/flows?last=3&first=3",
                             "/v1/flows?since=yesterday", "/v1/flows?follow=maybe",
                             "/v1/flows?since=2027-13-01T00:00:00Z", "/v1/flows?format=xml",
                             "/v1/flows?filter=x", "/v1/flows?last=-1"}) {
    const auto parsed = ParseTarget(target);
    ASSERT_TRUE(parsed.has_value()) << target;
    EXPECT_FALSE(ParseFlowQuery(*parsed, now).has_value()) << target;
  }
  for (const char* target :
       {"/v1/flows?a=%", "/v1/flows?a=%4", "/v1/flows?a=%zz", "/v1/flows?a=1&a=2", "/v1/%ff"}) {
    EXPECT_FALSE(ParseTarget(target).has_value()) << target;
  }
  const auto near = ParseTarget("/v1/flows?lsat=3");
  EXPECT_NE(ParseFlowQuery(*near, now).error().message.find("'last'"), std::string::npos);
}

}  // namespace
}  // namespace weir::admin
