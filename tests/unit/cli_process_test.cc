#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "agent/admin/admin_server.h"
#include "agent/cli/text.h"
#include "tests/support/flow_records.h"
#include "tests/support/program.h"
#include "weir/v1/admin.pb.h"

// The real command against a real admin server with canned facts.
namespace weir {
namespace {

using test::ProgramResult;

void FillTime(google::protobuf::Timestamp* time, std::int64_t seconds, std::int32_t nanos = 0) {
  time->set_seconds(seconds);
  time->set_nanos(nanos);
}

v1::TraceSpan Span(const char* id, const char* parent, const char* service, bool client, int ms) {
  v1::TraceSpan span;
  span.set_span_id(id);
  span.set_parent_span_id(parent);
  span.set_service(service);
  span.set_kind(client ? "client" : "server");
  span.set_name("GET /p/42");
  FillTime(span.mutable_start(), 1'800'000'000, ms * 1'000'000);
  span.set_duration_seconds(0.01 - ms * 0.001);
  span.set_status_code(200);
  span.set_parent_source(parent[0] == '\0' ? "none" : "turn");
  span.set_node("node-a");
  return span;
}

v1::Status TestStatus() {
  v1::Status status;
  status.set_version("0.1.0");
  status.set_node("node-a");
  status.set_trust_domain("mesh.test");
  status.set_ready(true);
  status.set_workers(2);
  v1::WorkloadStatus* workload = status.add_workloads();
  workload->set_namespace_("shop");
  workload->set_name("cart");
  workload->set_kind("netns");
  workload->set_identity("spiffe://mesh.test/ns/shop/sa/cart");
  workload->set_mode("strict");
  workload->set_hooks_effective(true);
  workload->set_listeners(4);
  workload->set_listeners_alive(4);
  workload->mutable_probe()->set_outcome("ok");
  FillTime(workload->mutable_certificate()->mutable_not_after(), 4'000'000'000);
  workload->mutable_counters()->set_outbound(12'345);
  return status;
}

v1::CheckReport TestReport(const std::string& outcome) {
  v1::CheckReport report;
  report.set_duration_seconds(0.25);
  for (const auto& [code, category, result] :
       {std::tuple<const char*, const char*, std::string>{"WK101", "kernel", "ok"},
        {"WK104", "kernel", outcome},
        {"WK402", "identity", "n/a"}}) {
    v1::CheckResult* added = report.add_results();
    added->set_code(code);
    added->set_category(category);
    added->set_title("title of " + std::string(code));
    added->set_outcome(result);
    if (result != "ok") {
      added->set_fact("only cgroup v1 is mounted");
      added->set_remedy("mount -t cgroup2 none /mnt");
    }
  }
  return report;
}

class CliProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/weir-cli-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    socket_ = directory_ + "/admin.sock";
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }

  admin::Providers TestProviders() {
    admin::Providers providers;
    providers.status = TestStatus;
    providers.checks = [this] { return TestReport(check_outcome_); };
    providers.trace = [](std::string_view id) -> std::optional<v1::Trace> {
      if (!id.starts_with('4')) {
        return std::nullopt;
      }
      v1::Trace trace;
      *trace.add_spans() = Span("b", "a", "shop/price", false, 2);
      *trace.add_spans() = Span("a", "", "shop/cart", true, 1);
      *trace.add_spans() = Span("c", "b", "shop/price", true, 3);
      *trace.add_spans() = Span("d", "b", "shop/price", true, 4);
      return trace;
    };
    providers.traces = [this](const admin::TraceQuery& query) {
      v1::TraceList list;
      list.set_seen(9);
      list.set_matched(2);
      for (const auto& [id, seconds, milliseconds] :
           {std::tuple<char, int, int>{'a', 2, 5}, {'b', 1, 300}}) {
        v1::TraceSummary* trace = list.add_traces();
        trace->set_trace_id(std::string(32, id));
        FillTime(trace->mutable_start(), 1'800'000'000 + seconds);
        trace->set_duration_seconds(milliseconds * 0.001);
        trace->set_root_service("gateway");
        trace->set_root_name("GET /" + query.service);
        trace->set_span_count(3);
      }
      asked_ = query;
      return list;
    };
    providers.top = [](const admin::TopQuery& query) {
      v1::TopList top;
      top.set_by(query.by);
      top.set_window_seconds(10);
      top.set_seen(1250);
      for (const auto& [name, requests, errors, p99] :
           {std::tuple<const char*, std::uint64_t, std::uint64_t, double>{"price", 1000, 10, 0.02},
            {"stock", 200, 0, 0.5}}) {
        v1::TopRow* row = top.add_rows();
        row->set_source("shop/cart");
        row->set_destination("shop/" + std::string(name));
        row->set_direction("out");
        row->set_node("node-a");
        row->set_requests(requests);
        row->set_errors(errors);
        row->set_encrypted(requests);
        row->set_received_bytes(requests * 1000);
        row->set_p50_seconds(0.001);
        row->set_p99_seconds(p99);
      }
      return top;
    };
    providers.map = [](base::Nanoseconds) {
      v1::ServiceMap map;
      map.set_window_seconds(60);
      v1::Edge* edge = map.add_edges();
      edge->set_source("shop/cart");
      edge->set_destination("shop/price");
      edge->set_requests(600);
      edge->set_errors(6);
      edge->set_tunnel(600);
      edge->set_p50_seconds(0.001);
      edge->set_p99_seconds(0.02);
      (*edge->mutable_parent_sources())["turn"] = 450;
      (*edge->mutable_parent_sources())["header"] = 150;
      v1::Edge* far = map.add_edges();
      far->set_source("shop/price");
      far->set_destination("shop/db \"main\"");
      far->set_connections(6);
      far->set_plain(6);
      v1::Edge* farther = map.add_edges();
      farther->set_source("shop/db \"main\"");
      farther->set_destination("203.0.113.9:443");
      farther->set_connections(60);
      farther->set_tunnel(60);
      return map;
    };
    return providers;
  }

  void Start() {
    auto server = admin::AdminServer::Start({.socket_path = socket_, .node_name = "node-a"},
                                            TestProviders(), store_);
    ASSERT_TRUE(server.has_value()) << server.error().ToString();
    server_ = std::move(*server);
  }

  void StoreThree() {
    std::vector<observe::Record> records = {test::MakeRequest(), test::MakeFailedRequest(),
                                            test::MakeDeniedConnection()};
    store_.Consume(records);
  }

  [[nodiscard]] std::vector<std::string> Command(const std::vector<std::string>& words) const {
    std::vector<std::string> command = {WEIR_PROGRAM};
    command.insert(command.end(), words.begin(), words.end());
    return command;
  }
  [[nodiscard]] test::Environment Variables() const {
    return {{"WEIR_SOCKET", socket_}, {"TZ", "UTC"}, {"PATH", "/usr/bin:/bin"}};
  }
  [[nodiscard]] ProgramResult Run(const std::vector<std::string>& words) const {
    return test::Program(Command(words), Variables()).Wait();
  }

  std::string directory_;
  std::string socket_;
  std::string check_outcome_ = "ok";
  admin::TraceQuery asked_;
  admin::FlowStore store_;
  std::unique_ptr<admin::AdminServer> server_;
};

TEST_F(CliProcessTest, ShowsFlowsCompactly) {
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

TEST_F(CliProcessTest, ShowsFlowsWide) {
  Start();
  StoreThree();
  const ProgramResult result = Run({"flows", "-o", "wide", "--last", "1", "-q", "--numeric"});
  EXPECT_EQ(result.out,
            "TIME          DIR  SRC                DST              PROTO   METHOD  PATH  STATUS"
            "   DUR  VERDICT  MTLS  TRACE  NODE    SRC-ID  DST-ID"
            "                            ORIG-DST         VIA  BYTES-IN  BYTES-OUT  TLS-VER"
            "  CERT-EXP  POLICY             REASON             PARENT  PARENT-SRC  CONN-ID  REQ#"
            "  RETRIES  PID  COMM\n"
            "08:00:02.000  in   203.0.113.9:50000  198.18.2.4:5432  opaque  -       -          -"
            "  80us  deny     off   -      node-a  -       spiffe://mesh.test/ns/shop/sa/db"
            "  198.18.2.4:5432  -          0B         0B  -        -"
            "         strict-needs-mtls  plaintext-refused  -       -                 8     -"
            "        0    -  -\n");
  EXPECT_EQ(result.err, "");
}

TEST_F(CliProcessTest, ShowsChosenFields) {
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

TEST_F(CliProcessTest, ShowsFlowsAsATable) {
  Start();
  StoreThree();
  EXPECT_EQ(Run({"flows", "-q", "-o", "table", "--last", "1", "--time", "epoch"}).out,
            "TIME            DIR  SRC                DST           PROTO   METHOD  PATH  STATUS   "
            "DUR  VERDICT  MTLS  TRACE\n"
            "1800000002.000  in   203.0.113.9:50000  shop/db:5432  opaque  -       -          -  "
            "80us  deny     off   -\n");
}

TEST_F(CliProcessTest, IndentsEachFlowBelowItsCause) {
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

TEST_F(CliProcessTest, SamplesAndSaysHowManyItLeftOut) {
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

TEST_F(CliProcessTest, KeepsATableWithinTheTerminalUnlessAsked) {
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

TEST_F(CliProcessTest, ShowsFlowsAsJson) {
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

TEST_F(CliProcessTest, SaysWhatWasSeenWhenNothingMatched) {
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

TEST_F(CliProcessTest, PointsAtTheErrorOfAFilter) {
  Start();
  const ProgramResult result = Run({"flows", "dst=shop/price and statsu>=500"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(result.err.starts_with(
      "weir: the filter is wrong in column 20: unknown field 'statsu', did you mean 'status'\n"
      "why: \n"
      "  dst=shop/price and statsu>=500\n"
      "                     ^\n"
      "try: one of agent, bytes,"))
      << result.err;
}

TEST_F(CliProcessTest, PrintsTheWholeFilter) {
  const ProgramResult result =
      Run({"flows", "--print-filter", "--not-dir", "in", "--status", "5xx,404", "path=/a"});
  EXPECT_EQ(result.out, "not dir=in and (status=5xx or status=404) and (path=/a)\n");
}

TEST_F(CliProcessTest, FollowsUntilInterruptedAndSumsUp) {
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

TEST_F(CliProcessTest, EndsAFollowAtItsCount) {
  Start();
  store_.Consume(test::MakeRequests(1));
  test::Program program(Command({"flows", "-f", "--last", "1", "--count", "3"}), Variables());
  ASSERT_TRUE(program.WaitForOutput("/0"));
  store_.Consume(test::MakeRequests(9));
  const ProgramResult result = program.Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::ranges::count(result.out, '\n'), 3);
}

TEST_F(CliProcessTest, TellsWhenTheAgentIsNotThere) {
  const ProgramResult none = Run({"status"});
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_EQ(none.err, "weir: cannot reach the agent: there is no socket " + socket_ +
                          "\nwhy: no agent runs on this node, or its admin.socket is another one\n"
                          "try: systemctl status weir-agent, or weir --socket PATH\n");
  std::ofstream(socket_) << "not a socket";
  EXPECT_EQ(Run({"flows"}).exit_code, 3);
}

TEST_F(CliProcessTest, GoesOnWithTheAgentsThatAnswer) {
  Start();
  StoreThree();
  const ProgramResult result =
      Run({"flows", "--socket", socket_, "--socket", directory_ + "/none.sock"});
  EXPECT_EQ(result.exit_code, 6);
  EXPECT_EQ(std::ranges::count(result.out, '\n'), 3);
  EXPECT_NE(result.err.find("none.sock"), std::string::npos);
}

TEST_F(CliProcessTest, NamesTheNearestCommandAndFlag) {
  const ProgramResult command = Run({"statsu"});
  EXPECT_EQ(command.exit_code, 2);
  EXPECT_EQ(command.err,
            "weir: unknown command 'statsu'\nwhy: did you mean 'status'?\ntry: weir help\n");
  const ProgramResult flag = Run({"flows", "--folow"});
  EXPECT_EQ(flag.exit_code, 2);
  EXPECT_NE(flag.err.find("did you mean '--follow'?"), std::string::npos) << flag.err;
  EXPECT_EQ(Run({"flows", "-o", "xml"}).exit_code, 2);
  EXPECT_EQ(Run({"flows", "--since", "noon"}).exit_code, 2);
  EXPECT_EQ(Run({"flows", "-f", "-o", "json"}).exit_code, 2);
  EXPECT_EQ(Run({"flows", "--last", "2", "--first", "3"}).exit_code, 2);
  EXPECT_EQ(Run({"help", "exit-code"}).exit_code, 2);
}

TEST_F(CliProcessTest, ShowsStatusAndChecksIt) {
  Start();
  const ProgramResult result = Run({"status", "--check"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out.find("weir-agent 0.1.0 on node-a: ready"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("12,345"), std::string::npos);
  EXPECT_EQ(Run({"status", "--workload", "shop/none"}).exit_code, 1);
  EXPECT_NE(Run({"status", "--workload", "shop/cart"}).out.find("4 of 4 alive"), std::string::npos);
  EXPECT_NE(Run({"certs"}).out.find("2096-10-02T07:06:40.000Z"), std::string::npos);
  EXPECT_NE(Run({"workloads", "-o", "json"}).out.find("\"apiVersion\": \"weir/v1\""),
            std::string::npos);
}

TEST_F(CliProcessTest, FoldsWhatPassedAndFailsByExitCode) {
  Start();
  EXPECT_EQ(Run({"check"}).exit_code, 0);
  check_outcome_ = "fail";
  const ProgramResult failed = Run({"check"});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_EQ(failed.out,
            "kernel: 1 fine\n"
            "  FAIL    WK104 title of WK104: only cgroup v1 is mounted\n"
            "          try: mount -t cgroup2 none /mnt\n"
            "identity: 1 fine\n"
            "1 ok, 0 warnings, 1 failed, 1 not applicable (0.2 s)\n");
  EXPECT_EQ(Run({"check", "--skip", "WK104"}).exit_code, 0);
  EXPECT_EQ(Run({"check", "--only", "identity"}).exit_code, 0);
  EXPECT_NE(
      Run({"check", "-o", "junit"}).out.find("<failure message=\"only cgroup v1 is mounted\">"),
      std::string::npos);
  check_outcome_ = "warn";
  EXPECT_EQ(Run({"check"}).exit_code, 0);
  EXPECT_EQ(Run({"check", "--fail-on", "warn"}).exit_code, 1);
  EXPECT_EQ(Run({"check", "--describe", "WK104"}).out.substr(0, 6), "WK104:");
  EXPECT_EQ(Run({"check", "--describe", "WK999"}).exit_code, 2);
}

TEST_F(CliProcessTest, ShowsATraceAsATree) {
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

TEST_F(CliProcessTest, ShowsATraceAlongTheTime) {
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

TEST_F(CliProcessTest, ListsTracesByTimeOrByDuration) {
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

TEST_F(CliProcessTest, DrawsTheMap) {
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

TEST_F(CliProcessTest, LeavesEdgesOfTheMapOut) {
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

TEST_F(CliProcessTest, ShowsTheBusiestOnce) {
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

TEST_F(CliProcessTest, DrawsTheBusiestAnewOnATerminalOnly) {
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

TEST_F(CliProcessTest, ColoursOnlyWhenAsked) {
  Start();
  StoreThree();
  EXPECT_EQ(Run({"flows"}).out.find('\033'), std::string::npos);
  EXPECT_NE(Run({"flows", "--color", "always"}).out.find("\033[31m503"), std::string::npos);
}

TEST_F(CliProcessTest, CompletesNamesOfTheRunningAgent) {
  Start();
  EXPECT_EQ(Run({"__complete", "flows", "--to-workload", "shop/"}).out, "shop/cart\n");
  EXPECT_EQ(Run({"__complete", "flows", "--to-workload", "x"}).out, "");
}

TEST_F(CliProcessTest, MakesAndChecksFiles) {
  const std::string ca = directory_ + "/ca";
  EXPECT_EQ(Run({"ca", "init", "--trust-domain", "mesh.test", "--dir", ca}).exit_code, 0);
  EXPECT_EQ(Run({"ca", "init", "--trust-domain", "mesh.test", "--dir", ca}).exit_code, 1);
  EXPECT_EQ(Run({"ca", "node", "node-1", "--dir", ca}).exit_code, 0);
  EXPECT_TRUE(std::filesystem::exists(ca + "/nodes/node-1.pem"));
  std::filesystem::create_directory(directory_ + "/docs");
  std::ofstream(directory_ + "/docs/bad.yaml") << "type: Meshh\n";
  EXPECT_EQ(Run({"config", "check", directory_ + "/docs"}).exit_code, 1);
}

TEST_F(CliProcessTest, WritesManualsThatManAccepts) {
  EXPECT_EQ(Run({"__man", directory_}).exit_code, 0);
  for (const char* page : {"weir.1", "weir-flows.1", "weir-check.1", "weir-ca.1"}) {
    const std::string path = directory_ + "/" + page;
    ASSERT_TRUE(std::filesystem::exists(path)) << page;
    const std::string command = "LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z " +
                                path + " 2>&1 >/dev/null | grep . >&2 && exit 1 || exit 0";
    EXPECT_EQ(std::system(command.c_str()), 0) << page;
  }
  EXPECT_EQ(Run({"__man", directory_ + "/none"}).exit_code, 1);
}

}  // namespace
}  // namespace weir
