#include <gtest/gtest.h>

#include <string>

#include "agent/database/postgresql.h"
#include "tests/support/database_rig.h"
#include "tests/support/postgresql_talk.h"

namespace weir::test {
namespace {

using database::CommandQueue;
using database::System;
using database::TapEnd;

std::string Hear(const Talk& talk) {
  return HearAllWays(System::kPostgresql, talk);
}
TapEnd EndOf(const Talk& talk) {
  TapRig rig(System::kPostgresql);
  rig.Hear(talk);
  return rig.tap().end();
}

TEST(PostgresqlTapTest, ReportsSimpleQueries) {
  EXPECT_EQ(Hear(pg::LoggedIn(
                {Client(pg::Query("SELECT name FROM users WHERE id = 'secret'")),
                 Server(pg::Columns() + pg::Row() + pg::Row() + pg::Done("SELECT 2") + pg::Ready()),
                 Client(pg::Query("UPDATE users SET name = 'secret'")),
                 Server(pg::Done("UPDATE 5") + pg::Ready()), Client(pg::Query("")),
                 Server(pg::Message('I') + pg::Ready()), Client(pg::Message('X'))})),
            "SELECT users|SELECT|users|shop||2|-\n"
            "UPDATE users|UPDATE|users|shop||-|5\n"
            "|||shop||-|-\n"
            "following 3 0 0");
}

TEST(PostgresqlTapTest, AddsTheRowsOfSeveralStatements) {
  EXPECT_EQ(Hear(pg::LoggedIn({Client(pg::Query("INSERT INTO a VALUES (1); INSERT INTO b VALUES "
                                                "(2); SELECT 1; SELECT 2")),
                               Server(pg::Done("INSERT 0 3") + pg::Done("INSERT 0 4") +
                                      pg::Columns() + pg::Row() + pg::Done("SELECT 1") +
                                      pg::Columns() + pg::Done("SELECT 0") + pg::Ready())})),
            "INSERT a INSERT b SELECT SELECT|INSERT||shop||1|7\nfollowing 1 0 0");
}

TEST(PostgresqlTapTest, ReportsTheErrorsCode) {
  EXPECT_EQ(
      Hear(pg::LoggedIn({Client(pg::Query("SELECT 1 FROM missing")),
                         Server(pg::Error("42P01") + pg::Ready()), Client(pg::Query("SELECT 2")),
                         Server(pg::Error("bad!!") + pg::Ready())})),
      "SELECT missing|SELECT|missing|shop|!42P01|-|-\n"
      "SELECT|SELECT||shop|!|-|-\nfollowing 2 0 0");
}

TEST(PostgresqlTapTest, JoinsAParseWithItsExecution) {
  EXPECT_EQ(
      Hear(pg::LoggedIn({Client(pg::Parse("", "SELECT a FROM t WHERE b = $1") + pg::Bind("", "") +
                                pg::Describe("") + pg::Execute() + pg::Sync()),
                         Server(pg::kParsed + pg::kBound + pg::Columns() + pg::Row() +
                                pg::Done("SELECT 1") + pg::Ready())})),
      "SELECT t|SELECT|t|shop||1|-\nfollowing 1 0 0");
}

TEST(PostgresqlTapTest, RemembersPreparedStatementsAndPortals) {
  EXPECT_EQ(Hear(pg::LoggedIn({Client(pg::Parse("s1", "INSERT INTO t VALUES ($1)") +
                                      pg::Describe("s1") + pg::Sync()),
                               Server(pg::kParsed + pg::kNoData + pg::Ready()),
                               Client(pg::Bind("", "s1") + pg::Execute() + pg::Bind("p", "s1") +
                                      pg::Execute("p") + pg::Sync()),
                               Server(pg::kBound + pg::Done("INSERT 0 1") + pg::kBound +
                                      pg::Done("INSERT 0 2") + pg::Ready()),
                               Client(pg::Message('C', "S" + pg::Text("s1")) + pg::Bind("", "s1") +
                                      pg::Execute() + pg::Sync()),
                               Server(pg::Message('3') + pg::Error("26000") + pg::Ready())})),
            "INSERT t|INSERT|t|shop||-|1\n"
            "INSERT t|INSERT|t|shop||-|2\n"
            "|||shop|!26000|-|-\n"
            "following 4 1 0");
}

TEST(PostgresqlTapTest, FollowsAPortalThatIsFetchedInParts) {
  EXPECT_EQ(Hear(pg::LoggedIn(
                {Client(pg::Parse("", "SELECT a FROM t") + pg::Bind("c", "") + pg::Execute("c") +
                        pg::Message('H')),
                 Server(pg::kParsed + pg::kBound + pg::Row() + pg::Row() + pg::Message('s')),
                 Client(pg::Execute("c") + pg::Sync()),
                 Server(pg::Row() + pg::Done("SELECT 1") + pg::Ready())})),
            "SELECT t|SELECT|t|shop||2|-\nSELECT t|SELECT|t|shop||1|-\nfollowing 2 0 0");
}

// Behind an error everything up to the Sync is ignored, whenever it was sent.
TEST(PostgresqlTapTest, DropsWhatAnErrorSkips) {
  EXPECT_EQ(Hear(pg::LoggedIn(
                {Client(pg::Parse("", "INSERT INTO a VALUES (1)") + pg::Bind("", "") +
                        pg::Execute() + pg::Parse("", "INSERT INTO b VALUES (1)") +
                        pg::Bind("", "") + pg::Execute() + pg::Sync() + pg::Query("SELECT 1")),
                 Server(pg::kParsed + pg::kBound + pg::Error("23505") + pg::Ready() +
                        pg::Columns() + pg::Row() + pg::Done("SELECT 1") + pg::Ready())})),
            "INSERT a|INSERT|a|shop|!23505|-|-\nSELECT|SELECT||shop||1|-\nfollowing 3 1 0");
  EXPECT_EQ(
      Hear(pg::LoggedIn({Client(pg::Parse("", "SELECT a FROM t") + pg::Message('H')),
                         Server(pg::Error("42601")),
                         Client(pg::Bind("", "") + pg::Execute() + pg::Sync()), Server(pg::Ready()),
                         Client(pg::Query("COMMIT")), Server(pg::Done("COMMIT") + pg::Ready())})),
      "SELECT t|SELECT|t|shop|!42601|-|-\nCOMMIT|COMMIT||shop||-|-\nfollowing 2 0 0");
  // One that is about no command.
  EXPECT_EQ(
      Hear(pg::LoggedIn({Client(pg::Describe("none") + pg::Message('H')),
                         Server(pg::Error("26000")), Client(pg::Parse("", "SELECT 1") + pg::Sync()),
                         Server(pg::Ready()), Client(pg::Query("SELECT 1")),
                         Server(pg::Done("SELECT 0") + pg::Ready()), Server(pg::Error("57P01"))})),
      "SELECT|SELECT||shop||0|-\nfollowing 1 0 0");
}

TEST(PostgresqlTapTest, FollowsCopy) {
  const std::string copy_in = pg::Message('G', "\0\0\0");
  const std::string data = pg::Message('d', "secret\n");
  EXPECT_EQ(Hear(pg::LoggedIn({Client(pg::Query("COPY t FROM STDIN")), Server(copy_in),
                               Client(data + data + pg::Message('c')),
                               Server(pg::Done("COPY 2") + pg::Ready()),
                               Client(pg::Query("COPY t TO STDOUT")),
                               Server(pg::Message('H', "\0\0\0") + data + pg::Message('c') +
                                      pg::Done("COPY 1") + pg::Ready()),
                               Client(pg::Query("COPY t FROM STDIN")), Server(copy_in),
                               Client(data + pg::Message('f', pg::Text("secret"))),
                               Server(pg::Error("57014") + pg::Ready())})),
            "COPY t|COPY|t|shop||-|2\nCOPY t|COPY|t|shop||-|1\nCOPY t|COPY|t|shop|!57014|-|-\n"
            "following 3 0 0");
  // In the extended protocol the Sync before the data is ignored.
  EXPECT_EQ(
      Hear(pg::LoggedIn({Client(pg::Parse("", "COPY t FROM STDIN") + pg::Bind("", "") +
                                pg::Execute() + pg::Sync()),
                         Server(pg::kParsed + pg::kBound + copy_in),
                         Client(data + pg::Sync() + pg::Message('c') + pg::Sync()),
                         Server(pg::Done("COPY 1") + pg::Ready()), Client(pg::Query("SELECT 1")),
                         Server(pg::Done("SELECT 0") + pg::Ready())})),
      "COPY t|COPY|t|shop||-|1\nSELECT|SELECT||shop||0|-\nfollowing 2 0 0");
}

TEST(PostgresqlTapTest, TakesTheUserForTheDatabaseWhereNoneIsNamed) {
  TapRig rig(System::kPostgresql);
  rig.Hear({Client(pg::Startup(pg::Text("user") + pg::Text("bob") + '\0')),
            Server(pg::Message('R', pg::Number(0)) + pg::Ready()), Client(pg::Query("SELECT 1")),
            Server(pg::Done("SELECT 0") + pg::Ready())});
  ASSERT_EQ(rig.calls.size(), 1U);
  EXPECT_EQ(rig.calls[0].name_space, "bob");
}

TEST(PostgresqlTapTest, EndsWhereTheConnectionIsEncrypted) {
  const Said ssl = Client(pg::Startup("", database::kPostgresqlSslRequest));
  const Said gss = Client(pg::Startup("", database::kPostgresqlGssRequest));
  EXPECT_EQ(Hear({ssl, Server("S"), Client("\x16\3\1 secret")}), "tls 0 0 0");
  EXPECT_EQ(Hear({gss, Server("G")}), "tls 0 0 0");
  EXPECT_EQ(EndOf({ssl, Server("E")}), TapEnd::kRefused);
  EXPECT_EQ(EndOf({ssl, Server("X")}), TapEnd::kMalformed);
  EXPECT_EQ(EndOf({ssl, Client("Q")}), TapEnd::kUnexpected);
  EXPECT_EQ(EndOf({ssl, Server("NZ")}), TapEnd::kUnexpected);
  EXPECT_EQ(EndOf({Client("\x16\3\1\2\0")}), TapEnd::kTls);
  Talk refused = {gss, Server("N"), ssl, Server("N")};
  for (const Said& said :
       pg::LoggedIn({Client(pg::Query("BEGIN")), Server(pg::Done("BEGIN") + pg::Ready())})) {
    refused.push_back(said);
  }
  EXPECT_EQ(Hear(refused), "BEGIN|BEGIN||shop||-|-\nfollowing 1 0 0");
}

TEST(PostgresqlTapTest, EndsWithAReason) {
  EXPECT_EQ(EndOf({Client(
                pg::Startup(pg::Number(1) + pg::Number(2), database::kPostgresqlCancelRequest))}),
            TapEnd::kCancel);
  EXPECT_EQ(EndOf({Client(pg::Startup("", 2U << 16U))}), TapEnd::kUnsupported);
  EXPECT_EQ(EndOf({Client(pg::Startup(pg::Text("replication") + pg::Text("database") + '\0'))}),
            TapEnd::kReplication);
  EXPECT_EQ(EndOf({Server("Z")}), TapEnd::kUnexpected);
  EXPECT_EQ(EndOf({Client(pg::Number(7))}), TapEnd::kMalformed);
  EXPECT_EQ(EndOf({Client(pg::Number(10000))}), TapEnd::kFollowing);
  EXPECT_EQ(EndOf({Client(pg::Number(10001))}), TapEnd::kMalformed);
  EXPECT_EQ(EndOf(pg::LoggedIn({Client("!")})), TapEnd::kFollowing);
  EXPECT_EQ(EndOf(pg::LoggedIn({Client(pg::Message('!'))})), TapEnd::kMalformed);
  EXPECT_EQ(EndOf(pg::LoggedIn({Client("Q" + pg::Number(3))})), TapEnd::kMalformed);
  EXPECT_EQ(EndOf(pg::LoggedIn({Client("Q" + pg::Number(1U << 30U))})), TapEnd::kFollowing);
  EXPECT_EQ(EndOf(pg::LoggedIn({Client("Q" + pg::Number((1U << 30U) + 1))})), TapEnd::kMalformed);
  EXPECT_EQ(EndOf(pg::LoggedIn({Server(pg::Message('!'))})), TapEnd::kMalformed);
  EXPECT_EQ(EndOf(pg::LoggedIn({Server(pg::Ready())})), TapEnd::kUnexpected);
  EXPECT_EQ(EndOf(pg::LoggedIn({Server(pg::Row())})), TapEnd::kUnexpected);
  EXPECT_EQ(EndOf(pg::LoggedIn({Server(pg::kParsed)})), TapEnd::kUnexpected);
  EXPECT_EQ(EndOf(pg::LoggedIn({Server(pg::Message('W', "\0\0\0"))})), TapEnd::kReplication);
}

TEST(PostgresqlTapTest, SkipsLongMessagesWithoutKeepingThem) {
  const std::string sql = "INSERT INTO t VALUES ('" + std::string(3U << 20U, 's') + "')";
  TapRig rig(System::kPostgresql);
  rig.HearInPieces(pg::LoggedIn({Client(pg::Query(sql) + pg::Query("SELECT 1")),
                                 Server(pg::Done("INSERT 0 1") + pg::Ready() +
                                        pg::Message('D', std::string(5U << 20U, 's')) +
                                        pg::Done("SELECT 1") + pg::Ready())}),
                   65536);
  EXPECT_EQ(rig.Text(), "INSERT t|INSERT|t|shop||-|1\nSELECT|SELECT||shop||1|-\nfollowing 2 0 0");
  EXPECT_EQ(rig.tap().kept_bytes(), 0U);
}

TEST(PostgresqlTapTest, BoundsWhatItRemembers) {
  TapRig rig(System::kPostgresql);
  rig.Hear(pg::Login());
  for (int i = 0; i < 5000; ++i) {
    const std::string name = "statement_" + std::to_string(i);
    rig.Hear({Client(pg::Parse(name, "SELECT a FROM table_" + std::to_string(i)) +
                     pg::Bind(name, name) + pg::Sync()),
              Server(pg::kParsed + pg::kBound + pg::Ready())});
  }
  EXPECT_LE(rig.tap().kept_bytes(),
            database::PostgresqlTap::kStatementBytes + database::PostgresqlTap::kPortalBytes);
  EXPECT_GT(rig.tap().kept_bytes(), database::PostgresqlTap::kStatementBytes);
  rig.Hear({Client(pg::Bind("", "statement_4999") + pg::Execute() + pg::Sync()),
            Server(pg::kBound + pg::Done("SELECT 0") + pg::Ready())});
  ASSERT_EQ(rig.calls.size(), 1U);
  EXPECT_EQ(rig.calls[0].summary, "SELECT table_4999");
}

// Beyond the limit commands have no record, and those behind them are told apart again.
TEST(PostgresqlTapTest, CountsWhatIsPipelinedBeyondTheLimit) {
  TapRig rig(System::kPostgresql);
  rig.Hear(pg::Login());
  std::string sent;
  std::string answered;
  for (std::size_t i = 0; i < CommandQueue::kMaxTraced + 10; ++i) {
    sent += pg::Query("SELECT 1");
    answered += pg::Done("SELECT 0") + pg::Ready();
  }
  rig.Hear({Client(sent), Server(answered)});
  EXPECT_EQ(rig.calls.size(), CommandQueue::kMaxTraced);
  EXPECT_EQ(rig.untraced, 10U);
  rig.Hear({Client(pg::Query("BEGIN")), Server(pg::Done("BEGIN") + pg::Ready())});
  EXPECT_EQ(rig.calls.back().summary, "BEGIN");
  EXPECT_EQ(rig.alone.back(), true);
  EXPECT_EQ(rig.alone[1], false);
  EXPECT_EQ(rig.tap().end(), TapEnd::kFollowing);
  std::string syncs;
  for (std::size_t i = 0; i < CommandQueue::kMaxEntries; ++i) {
    syncs += pg::Sync();
  }
  rig.Hear({Client(syncs)});
  EXPECT_EQ(rig.tap().end(), TapEnd::kFollowing);
  rig.Hear({Client(pg::Sync())});
  EXPECT_EQ(rig.tap().end(), TapEnd::kLimit);
}

TEST(PostgresqlTapTest, ReportsWhatIsUnansweredAtTheEnd) {
  TapRig rig(System::kPostgresql);
  rig.Hear(pg::LoggedIn(
      {Client(pg::Query("SELECT 1") + pg::Query("SELECT 2")), Server(pg::Error("57P01"))}));
  rig.tap().Finish();
  ASSERT_EQ(rig.calls.size(), 2U);
  EXPECT_EQ(rig.calls[0].status, "57P01");
  EXPECT_FALSE(rig.calls[1].is_error);
}

TEST(PostgresqlTapTest, TellsNoValue) {
  TapRig rig(System::kPostgresql);
  rig.Hear(pg::LoggedIn(
      {Client(pg::Query("INSERT INTO t (a) VALUES ('secret', E'se\\'cret', $$secret$$)")),
       Server(pg::Error("22P02") + pg::Ready()),
       Client(pg::Parse("secret", "SELECT $1 FROM t") + pg::Bind("secret", "secret") +
              pg::Execute("secret") + pg::Sync()),
       Server(pg::kParsed + pg::kBound + pg::Row() + pg::Done("SELECT 1") + pg::Ready())}));
  EXPECT_EQ(rig.calls.size(), 2U);
  EXPECT_EQ(rig.Text().find("secret"), std::string::npos);
}

}  // namespace
}  // namespace weir::test
