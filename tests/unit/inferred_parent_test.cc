#include "agent/proxy/inferred_parent.h"

#include <gtest/gtest.h>

#include <string>

namespace weir::proxy {
namespace {

using observe::ParentSource;

seam::ParentHint Hint(seam::HintSource source) {
  seam::ParentHint hint{.source = source, .parent = {}, .candidate_count = 0, .candidates = {}};
  hint.parent.span.trace_id[0] = 7;
  hint.parent.span.span_id[0] = 8;
  hint.parent.flags = 3;
  hint.parent.SetTraceState("a=b");
  return hint;
}

observe::ExchangeResult Root() {
  observe::ExchangeResult exchange;
  exchange.trace_id[0] = 1;
  exchange.trace_flags = 2;
  return exchange;
}

TEST(InferredParentTest, PutsARequestBelowTheSpanThatTheHintNames) {
  for (const auto& [said, expected] :
       {std::pair(seam::HintSource::kRuntime, ParentSource::kRuntime),
        std::pair(seam::HintSource::kTurn, ParentSource::kTurn),
        std::pair(seam::HintSource::kSole, ParentSource::kSole)}) {
    auto exchange = Root();
    AdoptParent(Hint(said), exchange);
    EXPECT_EQ(exchange.trace_id[0], 7);
    EXPECT_EQ(exchange.parent_span_id[0], 8);
    EXPECT_EQ(exchange.trace_flags, 3);
    EXPECT_EQ(exchange.trace_state, "a=b");
    EXPECT_EQ(exchange.parent_source, expected);
  }
}

TEST(InferredParentTest, KeepsARootWhereTheHintNamesNoParent) {
  auto without_trace = Hint(seam::HintSource::kSole);
  without_trace.parent.span.trace_id = {};
  for (const auto& hint : {Hint(seam::HintSource::kNone), without_trace}) {
    auto exchange = Root();
    AdoptParent(hint, exchange);
    EXPECT_EQ(exchange.trace_id[0], 1);
    EXPECT_EQ(exchange.parent_source, ParentSource::kNone);
  }
}

TEST(InferredParentTest, LinksARequestToThoseThatItMayHaveBeenSentFor) {
  seam::ParentHint hint;
  hint.candidate_count = 2;
  hint.candidates[0].trace_id[0] = 4;
  hint.candidates[0].span_id[0] = 5;
  hint.candidates[1].span_id[0] = 6;  // a request without a trace
  auto exchange = Root();
  AdoptParent(hint, exchange);
  EXPECT_EQ(exchange.trace_id[0], 1);
  EXPECT_EQ(exchange.parent_source, ParentSource::kNone);
  ASSERT_EQ(exchange.links.size(), 1U);
  EXPECT_EQ(exchange.links[0].trace_id[0], 4);
  EXPECT_EQ(exchange.links[0].span_id[0], 5);
}

TEST(InferredParentTest, NamesTheSpanThatTheApplicationIsTold) {
  auto exchange = Root();
  exchange.parent_span_id[0] = 1;
  EXPECT_EQ(ContextOf(exchange).span.span_id[0], 1);
  exchange.client_span_id[0] = 2;
  EXPECT_EQ(ContextOf(exchange).span.span_id[0], 2);
  exchange.server_span_id[0] = 3;
  EXPECT_EQ(ContextOf(exchange).span.span_id[0], 3);
}

TEST(InferredParentTest, KeepsATracestateUpToItsLimit) {
  auto exchange = Root();
  exchange.trace_state = std::string(seam::ParentContext::kMaxStateBytes, 'x');
  EXPECT_EQ(ContextOf(exchange).trace_state(), exchange.trace_state);
  exchange.trace_state += 'x';
  EXPECT_EQ(ContextOf(exchange).trace_state(), "");
}

}  // namespace
}  // namespace weir::proxy
