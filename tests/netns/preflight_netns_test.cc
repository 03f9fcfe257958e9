#include <gtest/gtest.h>

#include <map>
#include <set>

#include "agent/datapath/datapath.h"
#include "tests/support/agent.h"
#include "tests/support/root_test.h"

namespace weir::test {
namespace {

class PreflightTest : public RootTest {};

std::map<std::string, datapath::CheckResult> ByCode(const datapath::Options& options,
                                                    unsigned workloads) {
  std::map<std::string, datapath::CheckResult> checks;
  for (auto& check : datapath::Preflight(options, workloads)) {
    checks[check.code] = check;
  }
  return checks;
}

TEST_F(PreflightTest, PassesWhereTheAgentCanStart) {
  const Sandbox sandbox;
  const auto checks = ByCode(OptionsFor(sandbox), 3);
  std::set<std::string> codes;
  for (const auto& [code, check] : checks) {
    codes.insert(code);
    EXPECT_NE(check.outcome, datapath::CheckOutcome::kFail) << code << " " << check.fact;
    EXPECT_FALSE(check.fact.empty()) << code;
  }
  EXPECT_EQ(codes, (std::set<std::string>{"WK101", "WK102", "WK103", "WK104", "WK105", "WK106",
                                          "WK107", "WK108", "WK109", "WK110"}));
}

TEST_F(PreflightTest, NamesWhatIsMissing) {
  const Sandbox sandbox;
  auto options = OptionsFor(sandbox);
  options.cgroup_path = "/proc";
  options.bpffs_dir = sandbox.directory() + "/plain/weir";
  const auto checks = ByCode(options, 1U << 20U);
  for (const char* code : {"WK104", "WK105", "WK109"}) {
    EXPECT_EQ(checks.at(code).outcome, datapath::CheckOutcome::kFail) << code;
    EXPECT_FALSE(checks.at(code).remedy.empty()) << code;
  }
}

TEST_F(PreflightTest, ReportsEachFeatureOfTheKernel) {
  const Sandbox sandbox;
  const auto datapath = datapath::Datapath::Create(OptionsFor(sandbox));
  ASSERT_TRUE(datapath) << datapath.error().ToString();
  std::set<std::string> names;
  for (const auto& feature : (*datapath)->Features()) {
    EXPECT_FALSE(feature.needed_by.empty()) << feature.name;
    EXPECT_TRUE(feature.available || !feature.fallback.empty())
        << feature.name << ": " << feature.detail;
    names.insert(feature.name);
  }
  EXPECT_GT(names.size(), 10U);
}

}  // namespace
}  // namespace weir::test
