// What workers tell of the requests that they deliver, and make of what they are told.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/proxy_bed.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

class CausalityTest : public ::testing::Test {
 protected:
  void Start(model::Causality mode = model::Causality::kInferred) {
    client_ = bed_.AddPod(0, "client");
    server_ = bed_.AddPod(1, "server");
    bed_.pod(client_).causality = mode;
    bed_.pod(server_).causality = mode;
    application_ = bed_.Expose(server_);
    bed_.Publish();
  }
  struct Pair {
    base::UniqueFd client;
    base::UniqueFd server;
  };
  // All of a request without a body.
  static bool ReceiveHead(int fd) {
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
      const std::string byte = ReceiveText(fd, 1);
      if (byte.empty()) {
        return false;
      }
      head += byte;
    }
    return true;
  }
  // One request through the mesh, answered.
  void Exchange(Pair& pair, std::string_view request = kGet) {
    if (!pair.client.valid()) {
      pair.client = bed_.Connect(client_, application_.endpoint);
    }
    ASSERT_TRUE(SendText(pair.client.get(), request));
    if (!pair.server.valid()) {
      pair.server = AcceptOne(application_.listener.get());
    }
    ASSERT_TRUE(ReceiveHead(pair.server.get()));
    ASSERT_TRUE(SendText(pair.server.get(), kOk));
    ASSERT_EQ(ReceiveText(pair.client.get(), kOk.size()), kOk);
  }
  observe::Span SpanAt(std::size_t node) {
    const auto record =
        bed_.records(node).WaitFor([](const observe::Record& one) { return one.span.has_value(); });
    EXPECT_TRUE(record.has_value());
    return record ? *record->span : observe::Span{};
  }
  static seam::ParentHint Hint() {
    seam::ParentHint hint;
    hint.source = seam::HintSource::kTurn;
    hint.parent.span.trace_id[0] = 7;
    hint.parent.span.span_id[0] = 8;
    hint.parent.flags = 1;
    return hint;
  }

  ProxyBed bed_;
  std::size_t client_ = 0;
  std::size_t server_ = 0;
  ProxyBed::Application application_;
};

TEST_F(CausalityTest, TellsOfEachRequestThatItDelivers) {
  Start();
  Pair pair;
  Exchange(pair);
  const auto begun = bed_.causality().begun();
  ASSERT_EQ(begun.size(), 1U);
  EXPECT_NE(begun[0].handle, 0U);
  const observe::Span server = SpanAt(1);
  EXPECT_EQ(begun[0].context.span.span_id, server.span_id);
  EXPECT_EQ(begun[0].context.span.trace_id, server.trace_id);
  EXPECT_EQ(begun[0].context.flags, server.trace_flags);
  Exchange(pair, std::string(kGet));
  EXPECT_EQ(bed_.causality().begun().size(), 2U);
  EXPECT_EQ(bed_.causality().held(), 1);
  pair = {};
  EXPECT_TRUE(ProxyBed::Eventually([&] { return bed_.causality().held() == 0; }));
}

TEST_F(CausalityTest, PutsARequestBelowTheOneThatItWasSentFor) {
  Start();
  bed_.causality().Say(Hint());
  Pair pair;
  Exchange(pair);
  const observe::Span client = SpanAt(0);
  EXPECT_EQ(client.trace_id[0], 7);
  EXPECT_EQ(client.parent_span_id[0], 8);
  EXPECT_EQ(client.parent_source, observe::ParentSource::kTurn);
  EXPECT_EQ(SpanAt(1).trace_id[0], 7);
}

TEST_F(CausalityTest, BelievesTheHeaderFirst) {
  Start();
  bed_.causality().Say(Hint());
  Pair pair;
  Exchange(pair,
           "GET / HTTP/1.1\r\nHost: shop\r\n"
           "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n");
  EXPECT_EQ(SpanAt(0).parent_source, observe::ParentSource::kHeader);
  EXPECT_EQ(bed_.causality().asked(), 0);
}

TEST_F(CausalityTest, AsksNothingForAWorkloadThatWantsHeadersOnly) {
  Start(model::Causality::kHeaders);
  bed_.causality().Say(Hint());
  Pair pair;
  Exchange(pair);
  EXPECT_EQ(SpanAt(0).parent_source, observe::ParentSource::kNone);
  EXPECT_EQ(bed_.causality().asked(), 0);
  EXPECT_TRUE(bed_.causality().begun().empty());
}

TEST_F(CausalityTest, BeginsATraceForEachRequestWhereItIsOff) {
  Start(model::Causality::kOff);
  Pair pair;
  Exchange(pair,
           "GET / HTTP/1.1\r\nHost: shop\r\n"
           "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n");
  const observe::Span span = SpanAt(0);
  EXPECT_EQ(span.parent_source, observe::ParentSource::kNone);
  EXPECT_EQ(span.parent_span_id, observe::SpanId{});
  EXPECT_NE(span.trace_id[0], 0x0a);
}

TEST_F(CausalityTest, SaysThatAConnectionIsNoLongerRequestsBehindAnUpgrade) {
  Start();
  Pair pair;
  pair.client = bed_.Connect(client_, application_.endpoint);
  ASSERT_TRUE(SendText(pair.client.get(),
                       "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"));
  pair.server = AcceptOne(application_.listener.get());
  ASSERT_TRUE(ReceiveHead(pair.server.get()));
  ASSERT_TRUE(SendText(pair.server.get(),
                       "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"));
  EXPECT_TRUE(ProxyBed::Eventually([&] { return bed_.causality().multiplexed() == 1; }));
}

TEST_F(CausalityTest, SaysThatAConnectionIsNoLongerRequestsInHttp2) {
  Start();
  Pair pair;
  pair.client = bed_.Connect(client_, application_.endpoint);
  ASSERT_TRUE(SendText(pair.client.get(),
                       "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                       "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"));
  pair.server = AcceptOne(application_.listener.get());
  ASSERT_TRUE(ReceiveHead(pair.server.get()));
  ASSERT_TRUE(SendText(pair.server.get(),
                       "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"));
  EXPECT_TRUE(ProxyBed::Eventually([&] { return bed_.causality().multiplexed() == 1; }));
}

}  // namespace
}  // namespace weir::test
