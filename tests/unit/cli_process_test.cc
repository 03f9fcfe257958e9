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

// The real command, but for flows and the views.
namespace weir {
namespace {

using test::ProgramResult;

class CliProcessTest : public test::CliBed {};

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

TEST_F(CliProcessTest, CompletesNamesOfTheRunningAgent) {
  Start();
  // A shell waits 300 ms for the agent; a busy machine gets more here.
  const auto complete = [&](const std::string& word) {
    test::Environment variables = Variables();
    variables["WEIR_TIMEOUT"] = "30s";
    return test::Program(Command({"__complete", "flows", "--to-workload", word}), variables)
        .Wait()
        .out;
  };
  EXPECT_EQ(complete("shop/"), "shop/cart\n");
  EXPECT_EQ(complete("x"), "");
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

TEST_F(CliProcessTest, ExplainsAPermissionAndWhatWouldChangeIt) {
  const std::string docs = directory_ + "/mesh.d";
  std::filesystem::create_directory(docs);
  for (const char* name : {"a", "b", "c"}) {
    std::ofstream(docs + "/" + name + ".yaml")
        << "type: Dataplane\nname: " << name << "\nlabels: {app: " << name
        << ", weir.io/node: n}\nnetworking:\n  address: 198.18.0." << name[0] - 'a' + 1
        << "\n  inbound:\n  - port: 80\n";
  }
  std::ofstream(docs + "/permissions.yaml")
      << "type: MeshTrafficPermission\nname: to-c\nspec:\n  targetRef: {kind: Dataplane, labels: "
         "{app: c}}\n  rules:\n  - default:\n      allow:\n      - spiffeID: {type: Exact, value: "
         "spiffe://mesh.test/workload/a}\n";
  const auto explain = [&](const std::string& from, const std::string& to) {
    return Run({"policy", "explain", "--from", from, "--to", to, "--documents", docs,
                "--trust-domain", "mesh.test"});
  };
  const ProgramResult may = explain("a", "c");
  EXPECT_EQ(may.exit_code, 0) << may.err;
  EXPECT_NE(may.out.find("a may call c on port 80\n"), std::string::npos) << may.out;
  EXPECT_NE(may.out.find("rule      to-c:allow[0]\ndocument  permissions.yaml:8\n"),
            std::string::npos)
      << may.out;
  const ProgramResult may_not = explain("b", "c");
  EXPECT_EQ(may_not.exit_code, 1);
  EXPECT_NE(may_not.out.find("b may not call c"), std::string::npos) << may_not.out;
  EXPECT_NE(may_not.out.find("value: \"spiffe://mesh.test/workload/b\""), std::string::npos)
      << may_not.out;
  EXPECT_NE(may_not.out.find("to-c (permissions.yaml:8)"), std::string::npos) << may_not.out;
  EXPECT_EQ(explain("spiffe://mesh.test/workload/a", "c").exit_code, 0);
  EXPECT_EQ(explain("spiffe://other.test/workload/a", "c").exit_code, 1);
  EXPECT_NE(explain("outside", "c").out.find("strict-needs-mtls"), std::string::npos);
  EXPECT_EQ(explain("nobody", "c").exit_code, 2);
  EXPECT_EQ(explain("a", "nobody").exit_code, 2);
  const std::string absent = docs + "/agent.yaml";
  const ProgramResult without =
      Run({"policy", "explain", "--from", "a", "--to", "c", "--agent-config", absent});
  EXPECT_EQ(without.exit_code, 2);
  EXPECT_EQ(without.err.find("weir: cannot read " + absent + ": No such file"), 0U) << without.err;
  EXPECT_NE(without.err.find("--documents DIR --trust-domain DOMAIN"), std::string::npos);
  const ProgramResult shown =
      Run({"policy", "show", "c", "--documents", docs, "--trust-domain", "mesh.test"});
  EXPECT_EQ(shown.exit_code, 0);
  EXPECT_NE(shown.out.find("spiffe://mesh.test/workload/a  to-c:allow[0]  permissions.yaml:8"),
            std::string::npos)
      << shown.out;
  const ProgramResult checked = Run({"config", "check", docs});
  EXPECT_NE(checked.out.find("1 permission document (1 rule)"), std::string::npos) << checked.out;
  std::ofstream(docs + "/broken.yaml")
      << "type: MeshTrafficPermission\nname: x\nspec: {rulse: []}\n";
  const ProgramResult refused = explain("a", "c");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("broken.yaml:3"), std::string::npos) << refused.err;
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

TEST_F(CliProcessTest, ChecksOneWorkload) {
  Start();
  EXPECT_EQ(Run({"check", "shop/cart"}).exit_code, 0);
  EXPECT_EQ(checked_, "shop/cart");
  const ProgramResult none = Run({"check", "unit:x"});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_EQ(none.err,
            "weir: no workload 'unit:x' is configured on this node\n"
            "try: weir workloads; one of a unit is also unit:NAME\n");
  EXPECT_EQ(Run({"check", "--pre", "shop/cart"}).exit_code, 2);
  // Only one of several agents has it, as a rule.
  admin::Providers others = TestProviders();
  others.checks = [](std::string_view) { return std::optional<v1::CheckReport>(); };
  const std::string far = directory_ + "/far.sock";
  const auto other =
      admin::AdminServer::Start({.socket_path = far, .node_name = "node-b"}, others, store_);
  ASSERT_TRUE(other.has_value());
  const ProgramResult both = Run({"check", "--socket", socket_, "--socket", far, "shop/cart"});
  EXPECT_EQ(both.exit_code, 0) << both.err;
  EXPECT_EQ(both.err, "");
  EXPECT_EQ(Run({"check", "--socket", socket_, "--socket", far, "unit:x"}).exit_code, 1);
  EXPECT_EQ(
      Run({"check", "--socket", socket_, "--socket", directory_ + "/none", "shop/cart"}).exit_code,
      6);
}

TEST_F(CliProcessTest, ListsInTheFormsThatScriptsWant) {
  Start();
  EXPECT_EQ(Run({"workloads", "-o", "name"}).out, "shop/cart\n");
  EXPECT_EQ(Run({"certs", "-o", "template={identity} {certificate.notAfter}"}).out,
            "spiffe://mesh.test/ns/shop/sa/cart 2096-10-02T07:06:40Z\n");
  EXPECT_EQ(Run({"check", "-o", "custom=code,outcome"}).out,
            "CODE   OUTCOME\nWK101  ok\nWK104  ok\nWK402  n/a\n");
  EXPECT_NE(Run({"status", "-o", "yaml"}).out.find("\nnode: node-a\n"), std::string::npos);
  EXPECT_EQ(Run({"workloads", "-o", "wide"}).exit_code, 2);
}

}  // namespace
}  // namespace weir
