#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "agent/cli/text.h"
#include "tests/support/cli_bed.h"
#include "tests/support/flow_records.h"
#include "tests/support/program.h"

// weir traces, map and top, as the real command.
namespace weir {
namespace {

using test::ProgramResult;

class CliViewsTest : public test::CliBed {};

TEST_F(CliViewsTest, ShowsATraceAsATree) {
  Start();
  const std::string id = "4bf92f3577b34da6a3ce929d0e0e4736";
  EXPECT_EQ(Run({"traces", id}).out,
            "trace " + id + ": 4 spans, 2 services, 0 errors, 9.0ms\n" +
                "SERVICE           KIND    NAME       STATUS   START  DURATION  PARENT  NODE\n"
                "shop/cart         client  GET /p/42     200    +0ms     9.0ms  -       node-a\n"
                "`- shop/price     server  GET /p/42     200  +1.0ms     8.0ms  turn    node-a\n"
                "   |- shop/price  client  GET /p/42     200  +2.0ms     7.0ms  turn    node-a\n"
                "   `- shop/price  client  GET /p/42     200  +3.0ms     6.0ms  turn    node-a\n");
  EXPECT_EQ(Run({"traces", std::string(32, 'b')}).exit_code, 1);
  EXPECT_EQ(Run({"traces", "x"}).exit_code, 2);
}

TEST_F(CliViewsTest, ShowsATraceAlongTheTime) {
  Start();
  const std::string id = "4bf92f3577b34da6a3ce929d0e0e4736";
  EXPECT_EQ(Run({"traces", id, "-o", "waterfall"}).out,
            "trace " + id + ": 4 spans, 2 services, 0 errors, 9.0ms\n" + "SERVICE           TIME" +
                std::string(60, ' ') + "DURATION  STATUS  NAME\n" + "shop/cart         [" +
                std::string(60, '-') + "]     9.0ms     200  GET /p/42\n" + "`- shop/price     [" +
                std::string(6, ' ') + std::string(54, '=') + "]     8.0ms     200  GET /p/42\n" +
                "   |- shop/price  [" + std::string(13, ' ') + std::string(47, '-') +
                "]     7.0ms     200  GET /p/42\n" + "   `- shop/price  [" + std::string(20, ' ') +
                std::string(40, '-') + "]     6.0ms     200  GET /p/42\n");
  EXPECT_EQ(Run({"traces", "-o", "waterfall"}).exit_code, 2);
}

TEST_F(CliViewsTest, ListsTracesByTimeOrByDuration) {
  Start();
  const ProgramResult newest = Run({"traces", "--service", "price", "--errors"});
  EXPECT_LT(newest.out.find("aaaa"), newest.out.find("bbbb")) << newest.out;
  EXPECT_EQ(newest.err, "seen 9 matched 2 node node-a\n");
  EXPECT_EQ(asked_.service, "price");
  EXPECT_TRUE(asked_.errors_only);
  EXPECT_FALSE(asked_.slowest_first);
  const ProgramResult slow = Run({"traces", "--slow"});
  EXPECT_LT(slow.out.find("bbbb"), slow.out.find("aaaa")) << slow.out;
  EXPECT_TRUE(asked_.slowest_first);
  EXPECT_EQ(asked_.min_duration.count(), 0);
  EXPECT_EQ(Run({"traces", "--slow", "200ms"}).exit_code, 0);
  EXPECT_EQ(asked_.min_duration, std::chrono::milliseconds(200));
  // Two agents of one trace are one trace, in one document.
  const ProgramResult json =
      Run({"traces", "-o", "json", "--socket", socket_, "--socket", socket_});
  EXPECT_EQ(json.out.find("\"traces\""), json.out.rfind("\"traces\"")) << json.out;
  EXPECT_NE(json.out.find("\"spanCount\": 6"), std::string::npos) << json.out;
}

TEST_F(CliViewsTest, DrawsTheMap) {
  Start();
  EXPECT_EQ(
      Run({"map", "-q", "--focus", "cart"}).out,
      "SRC        DST         REQUESTS  CONNS    RATE  ERR    P50   P99  PROTECTED  PARENTS\n"
      "shop/cart  shop/price       600      0  10.0/s  1 %  1.0ms  20ms      100 %  turn 75 %, "
      "header 25 %\n");
  const std::string dot = Run({"map", "-o", "dot"}).out;
  EXPECT_NE(dot.find("\"shop/cart\" -> \"shop/price\" [label=\"10.0/s err 1 %\\np50 1.0ms p99 "
                     "20ms\\nprotected 100 %\\nparents turn 75 %, header 25 %\"];\n"),
            std::string::npos)
      << dot;
  EXPECT_NE(dot.find("-> \"shop/db \\\"main\\\"\" [label"), std::string::npos) << dot;
  const std::string mermaid = Run({"map", "-o", "mermaid"}).out;
  EXPECT_TRUE(mermaid.starts_with("flowchart LR\n  n0[")) << mermaid;
  EXPECT_NE(mermaid.find("[\"shop/db #quot;main#quot;\"]\n"), std::string::npos) << mermaid;
  EXPECT_NE(mermaid.find("|\"10.0/s err 1 %<br/>p50 1.0ms p99 20ms<br/>protected 100 %<br/>parents "
                         "turn 75 %, header 25 %\"|"),
            std::string::npos)
      << mermaid;
  EXPECT_NE(mermaid.find("-.->"), std::string::npos) << mermaid;
}

TEST_F(CliViewsTest, LeavesEdgesOfTheMapOut) {
  Start();
  const auto edges = [&](const std::vector<std::string>& words) {
    std::vector<std::string> command = {"map"};
    command.insert(command.end(), words.begin(), words.end());
    const ProgramResult result = Run(command);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.err.substr(0, result.err.find(' '));
  };
  EXPECT_EQ(edges({}), "3");
  EXPECT_EQ(edges({"--focus", "shop/price"}), "2");
  EXPECT_EQ(edges({"--focus", "cart", "--depth", "2"}), "2");
  EXPECT_EQ(edges({"--focus", "cart", "--depth", "9"}), "3");
  EXPECT_EQ(edges({"--min-rps", "1"}), "2");
  EXPECT_EQ(edges({"--unencrypted"}), "1");
  EXPECT_EQ(edges({"--since", "00:00"}), "3");
  EXPECT_EQ(Run({"map", "--focus", "nobody"}).exit_code, 1);
  EXPECT_EQ(Run({"map", "--depth", "2"}).exit_code, 2);
  EXPECT_EQ(Run({"map", "--since", "noon"}).exit_code, 2);
}

TEST_F(CliViewsTest, ShowsTheBusiestOnce) {
  Start();
  const ProgramResult once = Run({"top", "--once"});
  EXPECT_EQ(
      once.out,
      "SRC        DST           RPS  ERR%    P50    P99   IN/s  OUT/s  CONNS  MTLS%  DENY/s\n"
      "shop/cart  shop/price  100.0   1.0  1.0ms   20ms  100kB     0B      0    100     0.0\n"
      "shop/cart  shop/stock   20.0   0.0  1.0ms  500ms   20kB     0B      0    100     0.0\n");
  EXPECT_EQ(once.err, "seen 1,250 lost 0 folded 0 window 10s node node-a\n");
  const std::string slowest = Run({"top", "--once", "--sort", "p99", "--limit", "1", "-q"}).out;
  EXPECT_NE(slowest.find("shop/stock"), std::string::npos);
  EXPECT_EQ(slowest.find("shop/price"), std::string::npos);
  EXPECT_NE(Run({"top", "--once", "-o", "json", "--by", "path"}).out.find("\"by\": \"path\""),
            std::string::npos);
  EXPECT_EQ(Run({"top", "-o", "json"}).exit_code, 2);
  EXPECT_EQ(Run({"top", "--by", "weight"}).exit_code, 2);
  // The same pair of two agents is one row; seen at the same end, it adds up.
  EXPECT_NE(Run({"top", "--once", "--socket", socket_, "--socket", socket_}).out.find("200.0"),
            std::string::npos);
}

TEST_F(CliViewsTest, DrawsTheBusiestAnewOnATerminalOnly) {
  Start();
  test::Program piped(Command({"top", "--interval", "10ms"}), Variables());
  ASSERT_TRUE(
      piped.WaitForOutput("shop/stock   20.0   0.0  1.0ms  500ms   20kB     0B      0    "
                          "100     0.0\n\nSRC"));
  piped.Signal(SIGINT);
  const ProgramResult result = piped.Wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_EQ(result.out.find('\033'), std::string::npos);
  EXPECT_TRUE(result.err.starts_with("seen 1,250 ")) << result.err;
  const std::string command =
      std::string("stty cols 70 rows 4; exec ") + WEIR_PROGRAM + " top --interval 10ms";
  test::Program terminal({"/usr/bin/script", "-qec", command, "/dev/null"}, Variables());
  ASSERT_TRUE(terminal.WaitForOutput("shop/price"));
  terminal.Signal(SIGTERM);  // the terminal goes, and the command with it
  const std::string drawn = terminal.Wait().out;
  EXPECT_NE(drawn.find("\033[H\033[J"), std::string::npos);
  EXPECT_NE(drawn.find("shop/price"), std::string::npos);
  EXPECT_EQ(drawn.find("shop/stock"), std::string::npos);  // there is room for one row
}

TEST_F(CliViewsTest, ShowsWhatASpanWaitedFor) {
  Start();
  const std::string id = "4ef92f3577b34da6a3ce929d0e0e4736";
  const std::string out = Run({"traces", id, "-o", "waterfall"}).out;
  EXPECT_NE(out.find("shop/cart         [" + std::string(20, '~') + std::string(6, '+') +
                     std::string(20, '-') + std::string(14, '#') + "]     9.0ms"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find("GET /p/42  tunnel 3.0ms, connect 1.0ms, first byte 3.0ms, body 2.0ms\n"),
            std::string::npos)
      << out;
  EXPECT_TRUE(out.ends_with("~ tunnel  + connect  - = first byte  # body  ! failed\n")) << out;
  EXPECT_NE(Run({"traces", id, "-o", "json"}).out.find("\"name\": \"weir.upstream.connected\""),
            std::string::npos);
}

TEST_F(CliViewsTest, SaysWhatHasChangedOnTheMap) {
  Start();
  const std::string file = directory_ + "/map.json";
  std::string before = Run({"map", "-o", "json"}).out;
  const auto keep = [&] { std::ofstream(file) << before; };
  keep();
  const ProgramResult same = Run({"map", "--diff", file});
  EXPECT_EQ(same.out, "");
  EXPECT_EQ(same.err, "0 of 3 edges differ from " + file + "\n");
  const auto change = [&](const std::string& from, const std::string& to) {
    const auto at = before.find(from);
    ASSERT_NE(at, std::string::npos) << before;
    before.replace(at, from.size(), to);
  };
  change("\"errors\": \"6\"", "\"errors\": \"60\"");
  change("\"requests\": \"600\"", "\"requests\": \"1500\"");
  change("203.0.113.9:443", "203.0.113.9:80");
  keep();
  EXPECT_EQ(
      Run({"map", "-q", "--diff", file}).out,
      "CHANGE   SRC             DST                          RATE         ERR    P50   P99  "
      "PROTECTED\n"
      "changed  shop/cart       shop/price       25.0/s -> 10.0/s  4 % -> 1 %  1.0ms  20ms  "
      "    100 %\n"
      "new      shop/db \"main\"  203.0.113.9:443             1.0/s         0 %    0ms   0ms  "
      "    100 %\n"
      "gone     shop/db \"main\"  203.0.113.9:80              1.0/s         0 %    0ms   0ms  "
      "    100 %\n");
  EXPECT_EQ(Run({"map", "--diff", file, "-o", "dot"}).exit_code, 2);
  EXPECT_EQ(Run({"map", "--diff", directory_ + "/none"}).exit_code, 2);
  std::ofstream(file) << "{}";
  EXPECT_EQ(Run({"map", "--diff", file}).exit_code, 2);
}

TEST_F(CliViewsTest, SortsProcessesByTheirCpuTime) {
  Start();
  const std::string once = Run({"top", "--once", "-q", "--by", "pid", "--sort", "cpu"}).out;
  EXPECT_LT(once.find("price"), once.find("stock")) << once;
  EXPECT_NE(once.find("CPU%"), std::string::npos) << once;
  EXPECT_NE(once.find(" 10.0\n"), std::string::npos) << "of its life\n" << once;
  test::Program live(Command({"top", "--by", "pid", "--sort", "cpu", "--interval", "10ms"}),
                     Variables());
  EXPECT_TRUE(live.WaitForOutput(" 100.0\n")) << "since the picture before";
  live.Signal(SIGINT);
  EXPECT_EQ(live.Wait().exit_code, 130);
  EXPECT_EQ(Run({"top", "--once", "--sort", "cpu"}).exit_code, 2);
}

TEST_F(CliViewsTest, ListsInTheFormsThatScriptsWant) {
  Start();
  EXPECT_EQ(Run({"traces", "-q", "-o", "name"}).out,
            std::string(32, 'a') + "\n" + std::string(32, 'b') + "\n");
  EXPECT_EQ(Run({"map", "-q", "-o", "custom=source,requests"}).out,
            "SOURCE          REQUESTS\nshop/cart       600\n"
            "shop/db \"main\"  0\nshop/price      0\n");
  EXPECT_EQ(Run({"top", "--once", "-q", "-o", "template={destination} {requests}"}).out,
            "shop/price 1000\nshop/stock 200\n");
  EXPECT_EQ(Run({"top", "-o", "yaml"}).exit_code, 2);
}

}  // namespace
}  // namespace weir
