#include <gtest/gtest.h>

#include <string>

#include "agent/database/mysql.h"
#include "tests/support/database_rig.h"
#include "tests/support/mysql_talk.h"

namespace weir::test {
namespace {

namespace mysql = database::mysql;
using database::System;
using database::TapEnd;

constexpr std::uint64_t kModern = my::kClient | mysql::kDeprecateEof | mysql::kQueryAttributes;

std::string Hear(const Talk& talk) {
  return HearAllWays(System::kMysql, talk);
}
TapEnd EndOf(const Talk& talk) {
  TapRig rig(System::kMysql);
  rig.Hear(talk);
  return rig.tap().end();
}

std::string OldResult(std::size_t rows, std::uint16_t status = 2) {
  std::string text = my::Columns(2) + my::Definition() + my::Definition() + my::Eof();
  for (std::size_t i = 0; i < rows; ++i) {
    text += my::Row();
  }
  return text + my::Eof(status);
}
std::string NewResult(std::size_t rows, std::uint16_t status = 2) {
  std::string text = my::Columns(1) + my::Definition();
  for (std::size_t i = 0; i < rows; ++i) {
    text += my::Row();
  }
  return text + my::Ok(0, status, 0xfe);
}
// Without query attributes.
std::string NewQuery(std::string_view sql) {
  return my::Query(std::string("\0\1", 2) + std::string(sql));
}

TEST(MysqlTapTest, ReportsQueries) {
  EXPECT_EQ(Hear(my::LoggedIn({Client(my::Query("SELECT a FROM users WHERE b = 'secret'")),
                               Server(OldResult(2)), Client(my::Query("DELETE FROM users")),
                               Server(my::Ok(7)), Client(my::Command(14)), Server(my::Ok()),
                               Client(my::Query("SELECT 1 FROM missing")), Server(my::Error(1146)),
                               Client(my::Command(1))})),
            "SELECT users|SELECT|users|shop||2|-\n"
            "DELETE users|DELETE|users|shop||-|7\n"
            "SELECT missing|SELECT|missing|shop|!1146|-|-\n"
            "following 3 0 0");
}

TEST(MysqlTapTest, ReportsResultsWithoutEofPackets) {
  EXPECT_EQ(Hear(my::LoggedIn({Client(NewQuery("SELECT a FROM t")), Server(NewResult(3)),
                               Client(NewQuery("SELECT a FROM u")), Server(NewResult(0))},
                              kModern)),
            "SELECT t|SELECT|t|shop||3|-\nSELECT u|SELECT|u|shop||0|-\nfollowing 2 0 0");
}

TEST(MysqlTapTest, DoesNotLookForTextBehindQueryAttributes) {
  EXPECT_EQ(Hear(my::LoggedIn({Client(my::Query(std::string("\1\1", 2) + "\0\1secret SELECT 1")),
                               Server(NewResult(1))},
                              kModern)),
            "|||shop||1|-\nfollowing 1 0 0");
}

TEST(MysqlTapTest, FollowsSeveralResults) {
  EXPECT_EQ(Hear(my::LoggedIn({Client(my::Query("CALL p(1)")),
                               Server(OldResult(2, mysql::kMoreResults) +
                                      my::Ok(3, mysql::kMoreResults) + OldResult(1)),
                               Client(my::Query("SELECT 1")), Server(OldResult(1))})),
            "CALL|CALL||shop||3|3\nSELECT|SELECT||shop||1|-\nfollowing 2 0 0");
}

TEST(MysqlTapTest, ReportsAnErrorAmongTheRows) {
  EXPECT_EQ(Hear(my::LoggedIn({Client(my::Query("SELECT a FROM t")),
                               Server(my::Columns(1) + my::Definition() + my::Eof() + my::Row() +
                                      my::Error(1317)),
                               Client(my::Query("SELECT 1")), Server(OldResult(0))})),
            "SELECT t|SELECT|t|shop|!1317|1|-\nSELECT|SELECT||shop||0|-\nfollowing 2 0 0");
}

std::string Prepared(std::uint32_t id, std::uint16_t columns, std::uint16_t parameters) {
  return my::Packet(my::Number(0, 1) + my::Number(id, 4) + my::Number(columns, 2) +
                    my::Number(parameters, 2) + my::Number(0, 1) + my::Number(0, 2));
}
std::string Execute(std::uint32_t id) {
  return my::Command(23, my::Number(id, 4) + my::Number(0, 1) + my::Number(1, 4) + "secret");
}

TEST(MysqlTapTest, RemembersPreparedStatements) {
  EXPECT_EQ(Hear(my::LoggedIn({Client(my::Command(22, "SELECT a FROM t WHERE b = ?")),
                               Server(Prepared(9, 2, 1) + my::Definition() + my::Eof() +
                                      my::Definition() + my::Definition() + my::Eof()),
                               Client(my::Command(24, my::Number(9, 4) + "secret") + Execute(9)),
                               Server(OldResult(4)), Client(Execute(9)), Server(OldResult(1)),
                               Client(my::Command(26, my::Number(9, 4))), Server(my::Ok()),
                               Client(my::Command(25, my::Number(9, 4)) + Execute(9)),
                               Server(my::Error(1243)), Client(my::Command(22, "SELEC 'secret'")),
                               Server(my::Error(1064)), Client(my::Command(22, "COMMIT")),
                               Server(Prepared(10, 0, 0)), Client(Execute(10)), Server(my::Ok())})),
            "SELECT t|SELECT|t|shop||4|-\n"
            "SELECT t|SELECT|t|shop||1|-\n"
            "|||shop|!1243|-|-\n"
            "|||shop|!1064|-|-\n"
            "COMMIT|COMMIT||shop||-|0\n"
            "following 7 2 0");
}

TEST(MysqlTapTest, FollowsPreparedStatementsWithoutEofPackets) {
  EXPECT_EQ(Hear(my::LoggedIn({Client(my::Command(22, "INSERT INTO t VALUES (?)")),
                               Server(Prepared(1, 0, 2) + my::Definition() + my::Definition()),
                               Client(Execute(1)), Server(my::Ok(2)),
                               // MariaDB: the one that was prepared last, not waiting for it.
                               Client(my::Command(22, "SELECT a FROM u") + Execute(0xffffffff)),
                               Server(Prepared(2, 1, 0) + my::Definition() + NewResult(1))},
                              kModern)),
            "INSERT t|INSERT|t|shop||-|2\nSELECT u|SELECT|u|shop||1|-\nfollowing 4 2 0");
}

TEST(MysqlTapTest, FollowsCursors) {
  EXPECT_EQ(Hear(my::LoggedIn(
                {Client(my::Command(22, "SELECT a FROM t")),
                 Server(Prepared(1, 1, 0) + my::Definition() + my::Eof()), Client(Execute(1)),
                 Server(my::Columns(1) + my::Definition() + my::Eof(mysql::kCursorExists)),
                 Client(my::Command(28, my::Number(1, 4) + my::Number(2, 4))),
                 Server(my::Row() + my::Row() + my::Eof(mysql::kCursorExists))})),
            "SELECT t|SELECT|t|shop||0|-\nSELECT t|SELECT|t|shop||2|-\nfollowing 3 1 0");
}

// A file may have so many packets that their numbers begin again at 0.
TEST(MysqlTapTest, PassesOverTheFileOfLocalInfile) {
  std::string file;
  for (int i = 0; i < 300; ++i) {
    file += my::Packet("\3SELECT secret", static_cast<std::uint8_t>(i + 2));
  }
  const Talk talk =
      my::LoggedIn({Client(my::Query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t")),
                    Server(my::Packet("\xfbsecret")), Client(file + my::Packet("")),
                    Server(my::Ok(200)), Client(my::Query("SELECT 1")), Server(OldResult(1))});
  EXPECT_EQ(Hear(talk), "LOAD|LOAD||shop||-|200\nSELECT|SELECT||shop||1|-\nfollowing 2 0 0");
}

TEST(MysqlTapTest, FollowsPayloadsOfSeveralPackets) {
  constexpr std::size_t kMost = database::MysqlPackets::kMaxPacketBytes;
  const std::string sql = "\3INSERT INTO t VALUES ('" + std::string(kMost, 's') + "')";
  const auto split = [](std::string_view payload) {
    return my::Packet(payload.substr(0, kMost)) + my::Packet(payload.substr(kMost), 1);
  };
  // A row that begins like an EOF, and one that fills its packet exactly.
  const std::string row = split("\xfe" + std::string(kMost + 100, 's'));
  const std::string exact = split(std::string(kMost, 's'));
  TapRig rig(System::kMysql);
  rig.HearInPieces(
      my::LoggedIn(
          {Client(split(sql)), Server(my::Ok(1)), Client(my::Query("SELECT a FROM u")),
           Server(my::Columns(1) + my::Definition() + my::Eof() + row + exact + my::Eof())}),
      65536);
  EXPECT_EQ(rig.Text(),
            "INSERT t|INSERT|t|shop||-|1\nSELECT u|SELECT|u|shop||2|-\nfollowing 2 0 0");
}

TEST(MysqlTapTest, FollowsTheDatabase) {
  EXPECT_EQ(
      Hear(my::LoggedIn(
          {Client(my::Command(2, "stock")), Server(my::Ok()), Client(my::Query("SELECT 1")),
           Server(OldResult(1)), Client(my::Query("USE `other`")), Server(my::Ok()),
           Client(my::Query("SELECT 1")), Server(OldResult(1)), Client(my::Query("USE missing")),
           Server(my::Error(1049)),
           Client(my::Command(17, my::Text("eve") + "\6secret" + my::Text("third"))),
           Server(my::Packet(my::Number(0xfe, 1) + my::Text("x"))), Client(my::Packet("secret", 2)),
           Server(my::Ok()), Client(my::Query("SELECT 1")), Server(OldResult(1))})),
      "USE|USE||shop||-|-\nSELECT|SELECT||stock||1|-\nUSE|USE||stock||-|-\n"
      "SELECT|SELECT||other||1|-\nUSE|USE||other|!1049|-|-\nSELECT|SELECT||third||1|-\n"
      "following 6 0 0");
}

TEST(MysqlTapTest, KnowsMariadb) {
  const std::uint64_t maria = (my::kServer & ~mysql::kLongPassword) | mysql::kCacheMetadata;
  const std::uint64_t client =
      (kModern & ~mysql::kLongPassword & ~mysql::kQueryAttributes) | mysql::kCacheMetadata;
  const std::string cached = my::Packet(std::string("\1\0", 2)) + my::Row() + my::Ok(0, 2, 0xfe);
  const std::string fresh = my::Packet("\1\1") + my::Definition() + my::Row() + my::Ok(0, 2, 0xfe);
  const std::string progress = my::Packet("\xff\xff\xff\1\1\1\1\1\1");
  TapRig rig(System::kMysql);
  rig.Hear(my::LoggedIn(
      {Client(my::Query("SELECT a FROM t")), Server(fresh), Client(my::Query("SELECT a FROM t")),
       Server(cached), Client(my::Query("ALTER TABLE t ADD b int")),
       Server(progress + progress + my::Ok(5))},
      client, my::Greeting(maria, "5.5.5-10.11.6-MariaDB")));
  EXPECT_EQ(rig.Text(),
            "SELECT t|SELECT|t|shop||1|-\nSELECT t|SELECT|t|shop||1|-\n"
            "ALTER TABLE t|ALTER TABLE|t|shop||-|5\nfollowing 3 0 0");
  EXPECT_EQ(rig.calls[0].system, "mariadb");
}

TEST(MysqlTapTest, EndsWithAReason) {
  const Said greeting = Server(my::Greeting());
  EXPECT_EQ(
      Hear({greeting,
            Client(my::Packet(my::Number(my::kClient | mysql::kSsl, 4) + std::string(28, '\0'))),
            Client("\x16\3\1secret")}),
      "tls 0 0 0");
  for (const std::uint64_t flag : {mysql::kCompress, mysql::kZstd}) {
    EXPECT_EQ(EndOf({greeting, Client(my::LoginPacket(my::kClient | flag))}), TapEnd::kCompression);
    EXPECT_EQ(EndOf({Server(my::Greeting(my::kServer & ~flag)),
                     Client(my::LoginPacket(my::kClient | flag))}),
              TapEnd::kFollowing);
  }
  EXPECT_EQ(EndOf({greeting, Client(my::LoginPacket(my::kClient | mysql::kOptionalMetadata))}),
            TapEnd::kUnsupported);
  EXPECT_EQ(EndOf({greeting, Client(my::LoginPacket(0))}), TapEnd::kUnsupported);
  EXPECT_EQ(EndOf({greeting, Client(my::Packet("short"))}), TapEnd::kUnsupported);
  EXPECT_EQ(EndOf({Server(my::Error(1040))}), TapEnd::kRefused);
  EXPECT_EQ(EndOf({Server(my::Packet("\x09"
                                     "3.23"))}),
            TapEnd::kUnsupported);
  EXPECT_EQ(EndOf({Server(my::Packet("\x0a"
                                     "8.0"))}),
            TapEnd::kMalformed);
  EXPECT_EQ(EndOf({Client(my::LoginPacket())}), TapEnd::kUnexpected);
  EXPECT_EQ(EndOf({greeting, Client(my::LoginPacket()), Server(my::Error(1045))}),
            TapEnd::kRefused);
  EXPECT_EQ(EndOf({greeting, greeting}), TapEnd::kUnexpected);
  EXPECT_EQ(EndOf(my::LoggedIn({Client(my::Command(18))})), TapEnd::kReplication);
  EXPECT_EQ(EndOf(my::LoggedIn({Client(my::Command(99))})), TapEnd::kUnsupported);
  EXPECT_EQ(EndOf(my::LoggedIn({Client(my::Packet(""))})), TapEnd::kMalformed);
  EXPECT_EQ(EndOf(my::LoggedIn({Server(my::Ok())})), TapEnd::kUnexpected);
  EXPECT_EQ(EndOf(my::LoggedIn({Server(my::Error(4031))})), TapEnd::kFollowing);
  EXPECT_EQ(EndOf(my::LoggedIn({Client(my::Query("SELECT 1")), Server(my::Columns(1)),
                                Server(my::Definition()), Server(my::Row())})),
            TapEnd::kUnexpected);
}

TEST(MysqlTapTest, BoundsWhatItRemembers) {
  TapRig rig(System::kMysql);
  rig.Hear(my::LoggedIn({}));
  for (std::uint32_t id = 0; id < 3000; ++id) {
    rig.Hear({Client(my::Command(22, "SELECT a FROM t" + std::to_string(id))),
              Server(Prepared(id, 0, 0))});
  }
  EXPECT_LE(rig.tap().kept_bytes(), database::MysqlTap::kStatementBytes);
  rig.Hear({Client(Execute(2999)), Server(my::Ok()), Client(Execute(0)), Server(my::Ok())});
  ASSERT_EQ(rig.calls.size(), 2U);
  EXPECT_EQ(rig.calls[0].summary, "SELECT t2999");
  EXPECT_EQ(rig.calls[1].summary, "");
}

TEST(MysqlTapTest, TellsNoValue) {
  TapRig rig(System::kMysql);
  rig.Hear(my::LoggedIn({Client(my::Query("INSERT INTO t VALUES ('secret', \"secret\", 'a\\'b')")),
                         Server(my::Error(1062)), Client(my::Query("SELECT 'secret' FROM t")),
                         Server(OldResult(3))}));
  EXPECT_EQ(rig.calls.size(), 2U);
  EXPECT_EQ(rig.Text().find("secret"), std::string::npos);
}

}  // namespace
}  // namespace weir::test
