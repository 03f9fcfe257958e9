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

// weir flows, as the real command.
namespace weir {
namespace {

using test::ProgramResult;

class CliFlowsTest : public test::CliBed {};

TEST_F(CliFlowsTest, ShowsFlowsCompactly) {
  Start();
  StoreThree();
  const ProgramResult result = Run({"flows"});
  EXPECT_EQ(result.out,
            "08:00:00.000 out shop/cart -> shop/price:8080 http1 GET /p/42 200 3.1ms allow mtls "
            "4bf92f35..(turn)\n"
            "08:00:01.000 out shop/cart -> shop/price:8080 http1 GET /slow 503 450ms "
            "error(upstream-refused) mtls 4bf92f35..\n"
            "08:00:02.000 in 203.0.113.9:50000 -> shop/db:5432 opaque - - - 80us "
            "deny(plaintext-refused) off -\n");
  EXPECT_EQ(result.err, "seen 3 matched 3 lost 0 window 08:00:00-08:00:02 node node-a\n");
  EXPECT_EQ(result.exit_code, 0);
}

TEST_F(CliFlowsTest, ShowsFlowsWide) {
  Start();
  StoreThree();
  const ProgramResult result = Run({"flows", "-o", "wide", "--last", "1", "-q", "--numeric"});
  EXPECT_EQ(
      result.out,
      "TIME          DIR  SRC                DST              PROTO   METHOD  PATH  STATUS"
      "   DUR  VERDICT  MTLS  TRACE  TUNNEL  CONNECT  FIRST-BYTE  BODY  NODE    SRC-ID  DST-ID"
      "                            ORIG-DST         VIA  BYTES-IN  BYTES-OUT  TLS-VER"
      "  CERT-EXP  POLICY             REASON             PARENT  PARENT-SRC  CONN-ID  REQ#"
      "  RETRIES  PID  COMM  TAGS\n"
      "08:00:02.000  in   203.0.113.9:50000  198.18.2.4:5432  opaque  -       -          -"
      "  80us  deny     off   -           -        -           -     -"
      "  node-a  -       spiffe://mesh.test/ns/shop/sa/db"
      "  198.18.2.4:5432  -          0B         0B  -        -"
      "         strict-needs-mtls  plaintext-refused  -       -                 8     -"
      "        0    -  -     -\n");
  EXPECT_EQ(result.err, "");
}

TEST_F(CliFlowsTest, ShowsChosenFields) {
  Start();
  StoreThree();
  EXPECT_EQ(Run({"flows", "-q", "--fields", "src,dst,policy", "verdict=deny"}).out,
            "SRC                DST           POLICY\n"
            "203.0.113.9:50000  shop/db:5432  strict-needs-mtls\n");
  EXPECT_EQ(Run({"flows", "-q", "-o", "jsonl", "--fields", "verdict,source.workload,http.status",
                 "status=200"})
                .out,
            "{\"source\":{\"workload\":\"cart\"},\"http\":{\"status\":200},"
            "\"verdict\":\"allow\"}\n");
  const ProgramResult unknown = Run({"flows", "--fields", "src,polcy"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_NE(unknown.err.find("did you mean 'policy'?"), std::string::npos) << unknown.err;
  EXPECT_EQ(Run({"flows", "-o", "json", "--fields", "src"}).exit_code, 2);
}

TEST_F(CliFlowsTest, ShowsFlowsAsATable) {
  Start();
  StoreThree();
  EXPECT_EQ(Run({"flows", "-q", "-o", "table", "--last", "1", "--time", "epoch"}).out,
            "TIME            DIR  SRC                DST           PROTO   METHOD  PATH  STATUS   "
            "DUR  VERDICT  MTLS  TRACE\n"
            "1800000002.000  in   203.0.113.9:50000  shop/db:5432  opaque  -       -          -  "
            "80us  deny     off   -\n");
}

TEST_F(CliFlowsTest, IndentsEachFlowBelowItsCause) {
  Start();
  std::vector<observe::Record> records = {test::MakeRequest(), test::MakeRequest(),
                                          test::MakeRequest(), test::MakeDeniedConnection()};
  const auto set = [&](std::size_t i, std::uint8_t span, std::uint8_t parent, int start_ms) {
    observe::Flow& flow = records[i].flow;
    flow.span_id = {span};
    flow.parent_span_id = {parent};
    flow.timing.start = test::kFlowsBegin + std::chrono::milliseconds(start_ms);
    flow.direction = i == 2 ? observe::Direction::kInbound : observe::Direction::kOutbound;
    flow.http->path = "/" + std::to_string(i);
  };
  set(0, 1, 3, 2);  // ended first, as calls do
  set(1, 2, 3, 1);
  set(2, 3, 0, 0);
  store_.Consume(records);
  EXPECT_EQ(Run({"flows", "--tree", "-q"}).out,
            "08:00:00.000 in shop/cart -> shop/price:8080 http1 GET /2 200 3.1ms allow mtls "
            "4bf92f35..(turn)\n"
            "08:00:00.001 |- out shop/cart -> shop/price:8080 http1 GET /1 200 3.1ms allow mtls "
            "4bf92f35..(turn)\n"
            "08:00:00.002 `- out shop/cart -> shop/price:8080 http1 GET /0 200 3.1ms allow mtls "
            "4bf92f35..(turn)\n"
            "08:00:02.000 in 203.0.113.9:50000 -> shop/db:5432 opaque - - - 80us "
            "deny(plaintext-refused) off -\n");
  EXPECT_EQ(Run({"flows", "--tree", "-q", "--fields", "dir,src,path", "kind=request"}).out,
            "DIR  SRC           PATH\n"
            "in   shop/cart     /2\n"
            "out  |- shop/cart  /1\n"
            "out  `- shop/cart  /0\n");
  EXPECT_EQ(Run({"flows", "--tree", "-f"}).exit_code, 2);
  EXPECT_EQ(Run({"flows", "--tree", "-o", "jsonl"}).exit_code, 2);
}

TEST_F(CliFlowsTest, SamplesAndSaysHowManyItLeftOut) {
  Start();
  store_.Consume(test::MakeRequests(8));
  std::vector<observe::Record> opaque(8, test::MakeDeniedConnection());
  store_.Consume(opaque);
  const ProgramResult result = Run({"flows", "--all", "--sample", "1/4", "verdict=deny"});
  EXPECT_EQ(std::ranges::count(result.out, '\n'), 2);
  EXPECT_NE(result.err.find("seen 16 matched 8 lost 0 skipped 6 "), std::string::npos)
      << result.err;
  EXPECT_EQ(Run({"flows", "--sample", "4"}).exit_code, 2);
  EXPECT_EQ(Run({"flows", "--sample", "1/0"}).exit_code, 2);
}

TEST_F(CliFlowsTest, KeepsATableWithinTheTerminalUnlessAsked) {
  Start();
  StoreThree();
  const auto on_terminal = [&](const std::string& flags) {
    const std::string command =
        std::string("stty cols 100; ") + WEIR_PROGRAM + " flows -q -o wide --color never " + flags;
    return test::Program({"/usr/bin/script", "-qec", command, "/dev/null"}, Variables()).Wait().out;
  };
  for (const std::string& line : cli::Split(on_terminal(""), '\n')) {
    EXPECT_LE(line.size(), 101U) << line;  // with its carriage return
  }
  EXPECT_GT(on_terminal("--no-trunc").find('\n'), 200U);
}

TEST_F(CliFlowsTest, ShowsFlowsAsJson) {
  Start();
  StoreThree();
  const ProgramResult lines = Run({"flows", "-o", "jsonl", "status=200"});
  EXPECT_TRUE(lines.out.starts_with("{\"time\":\"2027-01-15T08:00:00Z\",\"sequence\":\"1\","))
      << lines.out;
  EXPECT_NE(lines.out.find("\"durationSeconds\":0.0031"), std::string::npos) << lines.out;
  const ProgramResult document = Run({"flows", "-o", "json"});
  std::ofstream(directory_ + "/flows.json") << document.out;
  const std::string check = "python3 -c \"import json,sys; d=json.load(open('" + directory_ +
                            "/flows.json')); sys.exit(0 if d['apiVersion']=='weir/v1' and "
                            "len(d['flows'])==3 and d['summary']['seen']=='3' else 1)\"";
  EXPECT_EQ(std::system(check.c_str()), 0) << document.out;
}

TEST_F(CliFlowsTest, SaysWhatWasSeenWhenNothingMatched) {
  Start();
  StoreThree();
  const ProgramResult result = Run({"flows", "--to-workload", "shop/price", "--status", "404"});
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err,
            "no flow matched; 3 seen in 2 s; the nearest filter that matches drops \"status=404\" "
            "(2 match)\n"
            "seen 3 matched 0 lost 0 window 08:00:00-08:00:02 node node-a\n");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(Run({"flows", "status=404", "--exit-empty"}).exit_code, 1);
}

TEST_F(CliFlowsTest, PointsAtTheErrorOfAFilter) {
  Start();
  const ProgramResult result = Run({"flows", "dst=shop/price and statsu>=500"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(result.err.starts_with(
      "weir: the filter is wrong in column 20: unknown field 'statsu', did you mean 'status'\n"
      "why: \n"
      "  dst=shop/price and statsu>=500\n"
      "                     ^\n"
      "try: one of agent, body, bytes,"))
      << result.err;
}

TEST_F(CliFlowsTest, PrintsTheWholeFilter) {
  const ProgramResult result =
      Run({"flows", "--print-filter", "--not-dir", "in", "--status", "5xx,404", "path=/a"});
  EXPECT_EQ(result.out, "not dir=in and (status=5xx or status=404) and (path=/a)\n");
}

TEST_F(CliFlowsTest, FollowsUntilInterruptedAndSumsUp) {
  Start();
  test::Program program(Command({"flows", "-f", "--last", "1", "-o", "jsonl"}), Variables());
  StoreThree();
  ASSERT_TRUE(program.WaitForOutput("plaintext-refused"));
  store_.Consume(test::MakeRequests(1));
  ASSERT_TRUE(program.WaitForOutput("\"path\":\"/0\""));
  program.Signal(SIGINT);
  const ProgramResult result = program.Wait();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_TRUE(result.err.starts_with("seen ")) << result.err;
}

TEST_F(CliFlowsTest, EndsAFollowAtItsCount) {
  Start();
  store_.Consume(test::MakeRequests(1));
  test::Program program(Command({"flows", "-f", "--last", "1", "--count", "3"}), Variables());
  ASSERT_TRUE(program.WaitForOutput("/0"));
  store_.Consume(test::MakeRequests(9));
  const ProgramResult result = program.Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::ranges::count(result.out, '\n'), 3);
}

TEST_F(CliFlowsTest, ColoursOnlyWhenAsked) {
  Start();
  StoreThree();
  EXPECT_EQ(Run({"flows"}).out.find('\033'), std::string::npos);
  EXPECT_NE(Run({"flows", "--color", "always"}).out.find("\033[31m503"), std::string::npos);
}

TEST_F(CliFlowsTest, ShowsFlowsAsADictionary) {
  Start();
  StoreThree();
  EXPECT_EQ(Run({"flows", "-q", "-o", "dict", "--fields", "time,src,status,reason,tunnel,body",
                 "kind=request"})
                .out,
            "TIME: 08:00:00.000\nSRC: shop/cart\nSTATUS: 200\nTUNNEL: 12us\nBODY: 200us\n"
            "\n"
            "TIME: 08:00:01.000\nSRC: shop/cart\nSTATUS: 503\nREASON: upstream-refused\n"
            "TUNNEL: 12us\nBODY: 447ms\n");
}

TEST_F(CliFlowsTest, ShowsFlowsAsYaml) {
  Start();
  StoreThree();
  EXPECT_EQ(Run({"flows", "-q", "-o", "yaml", "--fields",
                 "source,reason,sampled,http.status,sequence", "status=503"})
                .out,
            "---\nsequence: \"2\"\nsource:\n  workload: cart\n  namespace: shop\n"
            "  identity: \"spiffe://mesh.test/ns/shop/sa/cart\"\n  address: \"198.18.1.2\"\n"
            "  port: 40001\n  node: node-a\nhttp:\n  status: 503\nreason: upstream-refused\n"
            "sampled: true\n");
}

TEST_F(CliFlowsTest, ShowsFlowsByATemplate) {
  Start();
  StoreThree();
  EXPECT_EQ(Run({"flows", "-q", "-o",
                 "template={source.workload}\\t{http.status} {{{reason}}} {tags.tenant}"})
                .out,
            "cart\t200 {none} -\ncart\t503 {upstream-refused} -\n-\t- {plaintext-refused} -\n");
  const auto refused = [&](const std::string& form) {
    const ProgramResult result = Run({"flows", "-o", form});
    EXPECT_EQ(result.exit_code, 2) << form;
    return result.err;
  };
  EXPECT_NE(refused("template={src}").find("no member 'src'"), std::string::npos);
  EXPECT_NE(refused("template={source").find("never closed"), std::string::npos);
  EXPECT_NE(refused("template={}").find("names nothing"), std::string::npos);
  EXPECT_NE(refused("template=").find("wants what it is made of"), std::string::npos);
  EXPECT_NE(refused("json=x").find("no form of this output"), std::string::npos);
  EXPECT_NE(refused("dot").find("no form of this output"), std::string::npos);
}

// By protobuf's own JSON parser on the other side: tests/e2e/export_e2e.py's classes.
TEST_F(CliFlowsTest, ShowsFlowsAsLogRecordsOfOtlp) {
  Start();
  std::vector<observe::Record> records = {test::MakeRequest(), test::MakeDeniedConnection()};
  records[0].flow.tags = {{.name = "tenant", .value = "acme"}};
  store_.Consume(records);
  const ProgramResult result = Run({"flows", "-q", "-o", "otlp"});
  std::ofstream(directory_ + "/flows.otlp") << result.out;
  const std::string check = R"(python3 -c "
import json
first, second = [json.loads(line)['resourceLogs'][0] for line in open(')" +
                            directory_ + R"(/flows.otlp')]
resource = {a['key']: a['value'] for a in first['resource']['attributes']}
assert resource == {'service.name': {'stringValue': 'weir'}, 'host.name': {'stringValue': 'node-a'}}, resource
record = first['scopeLogs'][0]['logRecords'][0]
assert record['timeUnixNano'] == '1800000000003100000', record
assert record['traceId'] == '4bf92f3577b34da6a3ce929d0e0e4736' and record['spanId'] == '00f067aa0ba902b7'
assert record['severityNumber'] == 9 and record['body'] == {'stringValue': 'out GET /p/42'}
attributes = {a['key']: a['value'] for a in record['attributes']}
assert attributes['http.response.status_code'] == {'intValue': '200'}, attributes
assert attributes['weir.duration'] == {'doubleValue': 0.0031}, attributes
assert attributes['weir.tunnel.wait'] == {'doubleValue': 1.2e-05}, attributes
assert attributes['tenant'] == {'stringValue': 'acme'}, attributes
assert 'weir.upstream.connect' not in attributes and 'weir.reason' not in attributes
record = second['scopeLogs'][0]['logRecords'][0]
assert record['severityNumber'] == 13 and 'traceId' not in record
")";
  EXPECT_EQ(std::system(check.c_str()), 0) << result.out;
}

// What was kept answers like the agent that it came from.
TEST_F(CliFlowsTest, AnswersFromAFileAsTheAgentDoes) {
  Start();
  StoreThree();
  store_.Consume(test::MakeRequests(30));
  const std::string file = directory_ + "/flows.jsonl";
  const auto keep = [&](const std::string& text) { std::ofstream(file) << text; };
  keep(Run({"flows", "--all", "-o", "jsonl"}).out);
  server_.reset();
  const auto from_file = [&](std::vector<std::string> words) {
    words.insert(words.end(), {"--input-file", file});
    return Run(words);
  };
  Start();
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"flows"},
           {"flows", "--all", "-o", "jsonl"},
           {"flows", "--last", "4", "-o", "wide"},
           {"flows", "--first", "2"},
           {"flows", "--count", "3", "--all"},
           {"flows", "--all", "--sample", "1/4"},
           {"flows", "--all", "--tree"},
           {"flows", "--all", "--status", "5xx"},
           {"flows", "--to-workload", "shop/price", "--not-path", "^/p/", "--all"},
           {"flows", "--verdict", "deny", "-o", "json"},
           {"flows", "src.ip=203.0.113.0/24 or first-byte>=1h", "--all"},
           {"flows", "--status", "404"},
           {"flows", "duration>100ms and parent=none and tls=1.3 and pid=4242"}}) {
    const ProgramResult live = Run(words);
    const ProgramResult kept = from_file(words);
    const std::string asked = cli::Join(words, " ");
    EXPECT_EQ(kept.exit_code, 0) << asked << kept.err;
    if (words.back() != "json") {
      EXPECT_EQ(kept.out, live.out) << asked;
    }
    // An agent looks no further than it must; a file is read to its end.
    if (std::ranges::find(words, "--all") != words.end() &&
        std::ranges::find(words, "--count") == words.end()) {
      EXPECT_EQ(kept.err.substr(0, kept.err.find(" node ")),
                live.err.substr(0, live.err.find(" node ")))
          << asked;
    }
  }
  EXPECT_TRUE(from_file({"flows"}).err.ends_with(" node " + file + "\n"));
}

TEST_F(CliFlowsTest, SaysWhatIsWrongWithAFile) {
  const std::string file = directory_ + "/flows.jsonl";
  const ProgramResult none = Run({"flows", "--input-file", file});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_NE(none.err.find("cannot read " + file), std::string::npos) << none.err;
  for (const char* line : {"{}", "no json", R"({"direction":"up"})", "[1]"}) {
    std::ofstream(file) << R"({"summary":{"seen":"1"}})" << "\n\n" << line << "\n";
    const ProgramResult bad = Run({"flows", "--input-file", file});
    EXPECT_EQ(bad.exit_code, 2) << line;
    EXPECT_NE(bad.err.find(file + ":3: this is no flow"), std::string::npos) << bad.err;
  }
  EXPECT_EQ(Run({"flows", "-f", "--input-file", file}).exit_code, 2);
  EXPECT_EQ(Run({"flows", "--max-rps", "1", "--input-file", file}).exit_code, 2);
  const ProgramResult filter = Run({"flows", "statsu=1", "--input-file", file});
  EXPECT_EQ(filter.exit_code, 2);
  EXPECT_TRUE(filter.err.starts_with("weir: the filter is wrong in column 1:")) << filter.err;
}

TEST_F(CliFlowsTest, FindsFlowsByAHeaderThatIsKept) {
  Start();
  auto records = test::MakeRequests(2);
  records[1].flow.tags = {{.name = "tenant", .value = "acme"}, {.name = "tier", .value = "gold"}};
  store_.Consume(records);
  EXPECT_EQ(Run({"flows", "-q", "--header", "tier:gold", "--fields", "path,tags"}).out,
            "PATH  TAGS\n/1    tenant:acme,tier:gold\n");
  EXPECT_EQ(Run({"flows", "-q", "--not-header", "tenant:*", "--fields", "path"}).out, "PATH\n/0\n");
}

}  // namespace
}  // namespace weir
