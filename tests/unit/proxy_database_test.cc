// Databases, and connections that nobody looks into, through workers.
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "agent/database/postgresql.h"
#include "tests/support/mysql_talk.h"
#include "tests/support/postgresql_talk.h"
#include "tests/support/proxy_bed.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

using model::ProtocolHint;
using observe::Direction;
using observe::Protocol;
using observe::Reason;
using observe::Record;

constexpr std::string_view kPing = "*1\r\n$4\r\nPING\r\n";
constexpr std::string_view kGet = "*2\r\n$3\r\nGET\r\n$6\r\nsecret\r\n";

class ProxyDatabaseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    client_ = bed_.AddPod(0, "client");
    near_ = bed_.AddPod(0, "near");
    far_ = bed_.AddPod(1, "far");
  }
  // The client's connection to an application of `pod`, both of its ends.
  void Connect(std::size_t pod, ProtocolHint hint = ProtocolHint::kNone) {
    application_ = bed_.Expose(pod, hint);
    bed_.Publish();
    client_end_ = bed_.Connect(client_, application_.endpoint);
  }
  // Each part is passed on whole and unchanged before the next is said.
  void Converse(const Talk& talk) {
    for (const Said& said : talk) {
      if (!said.by_client && !server_end_.valid()) {
        server_end_ = AcceptOne(application_.listener.get());
      }
      ASSERT_TRUE(SendText(said.by_client ? client_end_.get() : server_end_.get(), said.bytes));
      if (said.by_client && !server_end_.valid()) {
        server_end_ = AcceptOne(application_.listener.get());
      }
      ASSERT_EQ(
          ReceiveText(said.by_client ? server_end_.get() : client_end_.get(), said.bytes.size()),
          said.bytes);
    }
  }
  void Close() {
    client_end_.Reset();
    server_end_.Reset();
  }
  std::optional<Record> Command(std::string_view name) {
    return bed_.records(0).WaitFor([&](const Record& record) {
      return record.flow.database != nullptr && record.flow.database->name() == name;
    });
  }
  std::optional<Record> Connection(std::size_t node, Direction direction) {
    return bed_.records(node).WaitFor([&](const Record& record) {
      return !record.flow.is_request && record.flow.direction == direction;
    });
  }
  std::uint64_t Unfollowed(database::TapEnd reason) {
    return bed_.workers(0).at(0).stats().database_ends[static_cast<std::size_t>(reason)].value();
  }

  ProxyBed bed_;
  std::size_t client_ = 0;
  std::size_t near_ = 0;
  std::size_t far_ = 0;
  ProxyBed::Application application_;
  base::UniqueFd client_end_;
  base::UniqueFd server_end_;
};

TEST_F(ProxyDatabaseTest, ReportsCommandsOfAConnectionThroughATunnel) {
  Connect(far_);
  Converse(pg::LoggedIn({Client(pg::Query("SELECT a FROM users WHERE b = 'secret'")),
                         Server(pg::Row() + pg::Done("SELECT 1") + pg::Ready())}));
  const auto record = Command("SELECT users");
  ASSERT_TRUE(record);
  const observe::Flow& flow = record->flow;
  EXPECT_EQ(flow.protocol, Protocol::kPostgresql);
  EXPECT_EQ(flow.direction, Direction::kOutbound);
  EXPECT_TRUE(flow.is_request);
  EXPECT_FALSE(flow.http);
  EXPECT_EQ(flow.database->name_space, "shop");
  EXPECT_EQ(flow.database->returned_rows, 1);
  EXPECT_GT(flow.timing.total.count(), 0);
  EXPECT_GE(flow.timing.first_byte.count(), 0);
  EXPECT_GT(flow.bytes_sent, 0U);
  EXPECT_GT(flow.bytes_received, 0U);
  ASSERT_TRUE(record->span);
  EXPECT_TRUE(record->span->is_client);
  EXPECT_NE(record->span->trace_id, observe::TraceId{});
  EXPECT_EQ(record->span->parent_span_id, observe::SpanId{});
  Close();
  // The other node sees a connection.
  const auto there = Connection(1, Direction::kInbound);
  ASSERT_TRUE(there);
  EXPECT_FALSE(there->span);
  EXPECT_EQ(there->flow.protocol, Protocol::kPostgresql);
}

TEST_F(ProxyDatabaseTest, ReportsCommandsOnceOnOneNode) {
  Connect(near_);
  Converse({Client(std::string(kPing) + std::string(kGet)), Server("+PONG\r\n-WRONGTYPE x\r\n")});
  const auto record = Command("GET");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->flow.protocol, Protocol::kRedis);
  EXPECT_EQ(record->flow.database->status, "WRONGTYPE");
  EXPECT_TRUE(Command("PING"));
  Close();
  ASSERT_TRUE(Connection(0, Direction::kInbound));
  EXPECT_EQ(bed_.records(0).size(), 3U);  // two commands, and the server's connection
}

TEST_F(ProxyDatabaseTest, FollowsTheHintWhateverTheFirstBytesAre) {
  Connect(far_, ProtocolHint::kRedis);
  Converse({Client("GET /secret HTTP/1.1\r\n"), Server("$-1\r\n")});
  ASSERT_TRUE(Command("GET"));
}

TEST_F(ProxyDatabaseTest, DoesNotLookWhereThePortIsSaidToBeTcp) {
  Connect(far_, ProtocolHint::kTcp);
  Converse({Client(std::string(kPing)), Server("+PONG\r\n")});
  Close();
  const auto record = Connection(0, Direction::kOutbound);
  ASSERT_TRUE(record);
  EXPECT_EQ(record->flow.protocol, Protocol::kOpaque);
  EXPECT_EQ(bed_.records(0).size(), 1U);
}

TEST_F(ProxyDatabaseTest, FollowsAServerThatSpeaksFirstByItsHint) {
  Connect(far_, ProtocolHint::kMysql);
  Converse(my::LoggedIn({Client(my::Query("DELETE FROM t")), Server(my::Ok(2))}));
  const auto record = Command("DELETE t");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->flow.protocol, Protocol::kMysql);
  EXPECT_EQ(record->flow.database->affected_rows, 2);
}

TEST_F(ProxyDatabaseTest, PassesWhatItDoesNotFollow) {
  Connect(far_, ProtocolHint::kPostgresql);
  Converse({Client(pg::Startup("", database::kPostgresqlSslRequest)), Server("S"),
            Client("\x16\x03\x01secret"), Server("secret")});
  EXPECT_EQ(Unfollowed(database::TapEnd::kTls), 1U);
  Close();
  const auto record = Connection(0, Direction::kOutbound);
  ASSERT_TRUE(record);
  EXPECT_EQ(record->flow.protocol, Protocol::kTls);
  EXPECT_FALSE(record->span);
}

TEST_F(ProxyDatabaseTest, MakesARecordOfTheRestOfAConnectionThatItGaveUp) {
  Connect(far_);
  Converse({Client(std::string(kPing)), Server("+PONG\r\n"), Client("*2\r\n:no\r\n"),
            Server("-ERR Protocol error\r\n"), Client("anything"), Server("more")});
  ASSERT_TRUE(Command("PING"));
  EXPECT_EQ(Unfollowed(database::TapEnd::kMalformed), 1U);
  Close();
  const auto record = Connection(0, Direction::kOutbound);
  ASSERT_TRUE(record);
  EXPECT_EQ(record->flow.protocol, Protocol::kRedis);
  EXPECT_GT(record->flow.bytes_received, 20U);
}

TEST_F(ProxyDatabaseTest, ReportsACommandWhoseServerGoesAway) {
  Connect(far_);
  Converse({Client(std::string(kGet))});
  ::linger now{.l_onoff = 1, .l_linger = 0};
  ASSERT_EQ(::setsockopt(server_end_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
  server_end_.Reset();
  EXPECT_EQ(ReceiveEnd(client_end_.get()), StreamEnd::kReset);
  const auto record = Command("GET");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->flow.reason, Reason::kUpstreamReset);
  EXPECT_EQ(record->flow.verdict, observe::Verdict::kError);
}

TEST_F(ProxyDatabaseTest, PutsACommandBelowTheRequestThatItIsKnownToBeSentFor) {
  seam::ParentHint hint;
  hint.source = seam::HintSource::kTurn;
  hint.parent.span.trace_id[0] = 7;
  hint.parent.span.span_id[0] = 8;
  hint.parent.flags = 1;
  bed_.causality().Say(hint);
  Connect(far_);
  Converse({Client(std::string(kPing) + std::string(kGet)), Server("+PONG\r\n$-1\r\n")});
  const auto first = Command("PING");
  ASSERT_TRUE(first && first->span);
  EXPECT_EQ(first->span->trace_id, hint.parent.span.trace_id);
  EXPECT_EQ(first->span->parent_span_id, hint.parent.span.span_id);
  EXPECT_EQ(first->span->parent_source, observe::ParentSource::kTurn);
  const auto behind = Command("GET");
  ASSERT_TRUE(behind && behind->span);
  EXPECT_NE(behind->span->trace_id, hint.parent.span.trace_id);
  EXPECT_EQ(behind->span->parent_source, observe::ParentSource::kNone);
}

TEST_F(ProxyDatabaseTest, MakesNoSpanWhereTracingIsOff) {
  bed_.pod(client_).trace.enabled = false;
  Connect(far_);
  Converse({Client(std::string(kPing)), Server("+PONG\r\n")});
  const auto record = Command("PING");
  ASSERT_TRUE(record);
  EXPECT_FALSE(record->span);
}

TEST_F(ProxyDatabaseTest, MakesOneSpanOfAnOpaqueConnectionIfAskedFor) {
  bed_.pod(client_).trace.connections = true;
  bed_.pod(far_).trace.connections = true;
  Connect(far_);
  Converse({Client("\x01 something"), Server("else")});
  Close();
  const auto here = Connection(0, Direction::kOutbound);
  ASSERT_TRUE(here && here->span);
  EXPECT_TRUE(here->span->is_client);
  EXPECT_TRUE(here->flow.sampled);
  EXPECT_EQ(here->span->span_id, here->flow.span_id);
  const auto there = Connection(1, Direction::kInbound);
  ASSERT_TRUE(there);
  EXPECT_FALSE(there->span) << "a second one of the same connection";
}

TEST_F(ProxyDatabaseTest, MakesASpanOfAConnectionFromOutside) {
  bed_.pod(far_).trace.connections = true;
  bed_.pod(far_).tls_mode = model::TlsMode::kPermissive;
  application_ = bed_.Expose(far_, ProtocolHint::kTcp);
  bed_.Publish();
  client_end_ = bed_.ConnectFromOutside(application_.endpoint);
  Converse({Client("hello"), Server("you")});
  Close();
  const auto record = Connection(1, Direction::kInbound);
  ASSERT_TRUE(record && record->span);
  EXPECT_FALSE(record->span->is_client);
}

TEST_F(ProxyDatabaseTest, MakesNoSpanOfAConnectionUnasked) {
  Connect(far_);
  Converse({Client("\x01 something"), Server("else")});
  Close();
  const auto record = Connection(0, Direction::kOutbound);
  ASSERT_TRUE(record);
  EXPECT_FALSE(record->span);
}

}  // namespace
}  // namespace weir::test
