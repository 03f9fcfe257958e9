#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "agent/database/redis.h"
#include "tests/support/database_rig.h"

namespace weir::test {
namespace {

using database::CommandQueue;
using database::RespReplyReader;
using database::RespRequestReader;
using database::System;
using database::TapEnd;

std::string Hear(const Talk& talk) {
  return HearAllWays(System::kRedis, talk);
}
TapEnd EndOf(const Talk& talk) {
  TapRig rig(System::kRedis);
  rig.Hear(talk);
  return rig.tap().end();
}

std::string Bulk(std::string_view text) {
  return "$" + std::to_string(text.size()) + "\r\n" + std::string(text) + "\r\n";
}
std::string Command(std::initializer_list<std::string_view> words) {
  std::string text = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string_view word : words) {
    text += Bulk(word);
  }
  return text;
}

TEST(RedisTapTest, ReportsCommands) {
  EXPECT_EQ(
      Hear({Client(Command({"SET", "secret", "secret"})), Server("+OK\r\n"),
            Client(Command({"get", "secret"})), Server(Bulk("secret")),
            Client(Command({"GET", "none"})), Server("$-1\r\n"),
            Client(Command({"LPUSH", "k", "v"})),
            Server("-WRONGTYPE secret is of another kind\r\n"), Client(Command({"MGET", "a", "b"})),
            Server("*3\r\n" + Bulk("secret") + "$-1\r\n*1\r\n:5\r\n")}),
      "SET|SET||0||-|-\nGET|GET||0||-|-\nGET|GET||0||-|-\nLPUSH|LPUSH||0|!WRONGTYPE|-|-\n"
      "MGET|MGET||0||-|-\nfollowing 5 0 0");
}

TEST(RedisTapTest, ReportsPipelines) {
  TapRig rig(System::kRedis);
  rig.Hear({Client(Command({"SET", "a", "1"}) + Command({"INCR", "a"}) + Command({"GET", "a"})),
            Server("+OK\r\n:2\r\n" + Bulk("2"))});
  EXPECT_EQ(rig.Text(), "SET|SET||0||-|-\nINCR|INCR||0||-|-\nGET|GET||0||-|-\nfollowing 3 0 0");
  EXPECT_EQ(rig.alone, (std::vector<bool>{true, false, false}));
}

TEST(RedisTapTest, ReportsInlineCommands) {
  EXPECT_EQ(Hear({Client("\r\nPING\r\n"), Server("+PONG\r\n"), Client("  set secret secret\n"),
                  Server("+OK\r\n"), Client("secret secret\r\n"),
                  Server("-ERR unknown command 'secret'\r\n")}),
            "PING|PING||0||-|-\nSET|SET||0||-|-\n|||0|!ERR|-|-\nfollowing 3 0 0");
}

TEST(RedisTapTest, UnderstandsResp3) {
  EXPECT_EQ(
      Hear({Client(Command({"HELLO", "3", "AUTH", "bob", "secret"})),
            Server("%2\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n"), Client(Command({"GET", "a"})),
            Server(">2\r\n+invalidate\r\n*1\r\n" + Bulk("secret") + "|1\r\n+ttl\r\n:9\r\n_\r\n"),
            Client(Command({"SMEMBERS", "a"})), Server("~2\r\n#t\r\n,1.5\r\n"),
            Client(Command({"EVAL", "secret", "0"})), Server("!11\r\nMYERR oh no\r\n"),
            Client(Command({"INFO"})), Server("=8\r\ntxt:abcd\r\n"),
            Client(Command({"HGETALL", "a"})), Server("%0\r\n"), Client(Command({"DEBUG", "a"})),
            Server("|1\r\n+a\r\n+b\r\n*1\r\n(12345678901234\r\n")}),
      "HELLO|HELLO||0||-|-\nGET|GET||0||-|-\nSMEMBERS|SMEMBERS||0||-|-\nEVAL|EVAL||0|!MYERR|-|-\n"
      "INFO|INFO||0||-|-\nHGETALL|HGETALL||0||-|-\nDEBUG|DEBUG||0||-|-\nfollowing 7 0 0");
}

TEST(RedisTapTest, JoinsATransaction) {
  TapRig rig(System::kRedis);
  rig.Hear({Client(Command({"MULTI"}) + Command({"SET", "a", "1"}) + Command({"SET", "b", "2"}) +
                   Command({"EXEC"}) + Command({"PING"})),
            Server("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n+PONG\r\n")});
  EXPECT_EQ(rig.Text(), "MULTI SET|MULTI SET||0||-|-\nPING|PING||0||-|-\nfollowing 2 0 0");
  EXPECT_EQ(rig.calls[0].batch_size, 2U);
  EXPECT_EQ(Hear({Client(Command({"MULTI"})), Server("+OK\r\n"), Client(Command({"SET", "a", "1"})),
                  Server("+QUEUED\r\n"), Client(Command({"LPOP", "a"})), Server("+QUEUED\r\n"),
                  Client(Command({"EXEC"})), Server("*2\r\n+OK\r\n-WRONGTYPE secret\r\n"),
                  Client(Command({"MULTI"}) + Command({"NOPE"}) + Command({"EXEC"})),
                  Server("+OK\r\n-ERR unknown\r\n-EXECABORT discarded\r\n"),
                  Client(Command({"MULTI"}) + Command({"MULTI"}) + Command({"DISCARD"})),
                  Server("+OK\r\n-ERR nested\r\n+OK\r\n"),
                  Client(Command({"MULTI"}) + Command({"GET", "a"}) + Command({"EXEC"})),
                  Server("+OK\r\n+QUEUED\r\n*-1\r\n")}),
            "MULTI|MULTI||0|!WRONGTYPE|-|-\nMULTI|MULTI||0|!EXECABORT|-|-\n"
            "MULTI MULTI|MULTI MULTI||0||-|-\nMULTI GET|MULTI GET||0||-|-\nfollowing 4 0 0");
}

TEST(RedisTapTest, FollowsATransactionThatIsNotLetBegin) {
  EXPECT_EQ(Hear({Client(Command({"MULTI"}) + Command({"GET", "a"}) + Command({"EXEC"})),
                  Server("-NOAUTH secret\r\n-NOAUTH secret\r\n-ERR EXEC without MULTI\r\n"),
                  Client(Command({"PING"})), Server("+PONG\r\n")}),
            "MULTI GET|MULTI GET||0|!NOAUTH|-|-\nPING|PING||0||-|-\nfollowing 2 0 0");
}

TEST(RedisTapTest, FollowsTheDatabase) {
  EXPECT_EQ(Hear({Client(Command({"SELECT", "7"}) + Command({"PING"})), Server("+OK\r\n+PONG\r\n"),
                  Client(Command({"PING"})), Server("+PONG\r\n"), Client(Command({"SELECT", "99"})),
                  Server("-ERR DB index is out of range\r\n"), Client(Command({"PING"})),
                  Server("+PONG\r\n"), Client(Command({"RESET"})), Server("+RESET\r\n"),
                  Client(Command({"PING"})), Server("+PONG\r\n"),
                  Client(Command({"MULTI"}) + Command({"SELECT", "3"}) + Command({"EXEC"})),
                  Server("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"), Client(Command({"PING"})),
                  Server("+PONG\r\n")}),
            "SELECT|SELECT||0||-|-\nPING|PING||0||-|-\nPING|PING||7||-|-\n"
            "SELECT|SELECT||7|!ERR|-|-\nPING|PING||7||-|-\nRESET|RESET||7||-|-\nPING|PING||0||-|-\n"
            "MULTI SELECT|MULTI SELECT||0||-|-\nPING|PING||||-|-\nfollowing 9 0 0");
}

TEST(RedisTapTest, EndsWhereTheServerSendsOnItsOwn) {
  for (const char* command :
       {"subscribe", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", "PSYNC", "SYNC"}) {
    EXPECT_EQ(EndOf({Client(Command({command, "secret"}))}), TapEnd::kSubscription) << command;
  }
  EXPECT_EQ(Hear({Client(Command({"GET", "a"})), Server("$-1\r\n"),
                  Client(Command({"SUBSCRIBE", "secret"})),
                  Server("*3\r\n" + Bulk("subscribe") + Bulk("secret") + ":1\r\n" + "*3\r\n" +
                         Bulk("message") + Bulk("secret") + Bulk("secret"))}),
            "GET|GET||0||-|-\nsubscription 1 0 0");
  EXPECT_EQ(EndOf({Client(Command({"CLIENT", "reply", "OFF"}))}), TapEnd::kNoReplies);
  EXPECT_EQ(EndOf({Client(Command({"CLIENT", "SETNAME", "x"}))}), TapEnd::kFollowing);
}

TEST(RedisTapTest, EndsWithAReason) {
  EXPECT_EQ(EndOf({Server("+OK\r\n")}), TapEnd::kUnexpected);
  EXPECT_EQ(EndOf({Server("-ERR max number of clients reached\r\n")}), TapEnd::kFollowing);
  EXPECT_EQ(EndOf({Server("\r\n")}), TapEnd::kMalformed);
  EXPECT_EQ(EndOf({Server("?1\r\n")}), TapEnd::kMalformed);
  EXPECT_EQ(EndOf({Server("$x\r\n")}), TapEnd::kMalformed);
  EXPECT_EQ(EndOf({Client("*x\r\n")}), TapEnd::kMalformed);
  EXPECT_EQ(EndOf({Client("*1\r\n:5\r\n")}), TapEnd::kMalformed);
  EXPECT_EQ(EndOf({Client("*1\r\n$-1\r\n")}), TapEnd::kMalformed);
  EXPECT_EQ(EndOf({Client("*0\r\n*-1\r\n" + Command({"PING"})), Server("+PONG\r\n")}),
            TapEnd::kFollowing);
  EXPECT_EQ(EndOf({Client(std::string(RespRequestReader::kMaxInlineBytes - 2, 'x') + "\r\n")}),
            TapEnd::kFollowing);
  EXPECT_EQ(EndOf({Client(std::string(RespRequestReader::kMaxInlineBytes + 1, 'x'))}),
            TapEnd::kMalformed);
}

TEST(RedisTapTest, FollowsRepliesToALimitOfDepth) {
  const auto nested = [](std::size_t depth) {
    std::string text;
    for (std::size_t i = 0; i < depth; ++i) {
      text += "*1\r\n";
    }
    return Talk{Client(Command({"EVAL", "x", "0"})), Server(text + ":1\r\n")};
  };
  EXPECT_EQ(EndOf(nested(RespReplyReader::kMaxDepth)), TapEnd::kFollowing);
  EXPECT_EQ(EndOf(nested(RespReplyReader::kMaxDepth + 1)), TapEnd::kLimit);
}

TEST(RedisTapTest, CountsWhatIsPipelinedBeyondTheLimit) {
  TapRig rig(System::kRedis);
  constexpr std::size_t kMany = 10000;
  std::string sent;
  std::string answered;
  for (std::size_t i = 0; i < kMany; ++i) {
    sent += Command({"INCR", "a"});
    answered += ":1\r\n";
  }
  rig.Hear({Client(sent + Command({"SELECT", "2"}) + Command({"MULTI"}) + Command({"EXEC"})),
            Server(answered + "+OK\r\n+OK\r\n*0\r\n"), Client(Command({"PING"})),
            Server("+PONG\r\n")});
  EXPECT_EQ(rig.calls.size(), CommandQueue::kMaxTraced + 1);
  EXPECT_EQ(rig.untraced, kMany - CommandQueue::kMaxTraced + 2);
  EXPECT_EQ(rig.calls.back().operation, "PING");
  EXPECT_EQ(rig.calls.back().name_space, "2");
  EXPECT_EQ(rig.tap().end(), TapEnd::kFollowing);
}

TEST(RedisTapTest, SkipsLongArgumentsAndReplies) {
  const std::string large(5U << 20U, 's');
  TapRig rig(System::kRedis);
  rig.HearInPieces({Client(Command({"SET", "a", large}) + Command({large, "x"})),
                    Server("+OK\r\n-ERR unknown command\r\n"), Client(Command({"GET", "a"})),
                    Server(Bulk(large))},
                   65536);
  EXPECT_EQ(rig.Text(), "SET|SET||0||-|-\n|||0|!ERR|-|-\nGET|GET||0||-|-\nfollowing 3 0 0");
}

TEST(RedisTapTest, KnowsCommandsInAnyCase) {
  EXPECT_EQ(database::RedisCommandName("hGetAll"), "HGETALL");
  EXPECT_EQ(database::RedisCommandName("json.get"), "JSON.GET");
  EXPECT_EQ(database::RedisCommandName("secret"), "");
  EXPECT_EQ(database::RedisCommandName(""), "");
}

TEST(RedisTapTest, TellsNoValue) {
  TapRig rig(System::kRedis);
  rig.Hear({Client(Command({"AUTH", "secret"})), Server("-WRONGPASS secret\r\n"),
            Client(Command({"secret", "secret"})), Server("-secret secret\r\n"),
            Client(Command({"EVAL", "return secret", "1", "secret"})), Server(Bulk("secret"))});
  EXPECT_EQ(rig.calls.size(), 3U);
  EXPECT_EQ(rig.Text().find("secret"), std::string::npos);
}

}  // namespace
}  // namespace weir::test
