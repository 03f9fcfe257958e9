#include "agent/daemon/checks.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "agent/base/clock.h"
#include "weir/v1/admin.pb.h"

namespace weir::daemon {
namespace {

constexpr auto kCart = model::LocalId{1};
constexpr auto kPrice = model::LocalId{2};

config::WorkloadConfig Configured(const std::string& ns, const std::string& name,
                                  config::MatchKind kind, const std::string& match) {
  config::WorkloadConfig workload;
  workload.ns = ns;
  workload.name = name;
  workload.match_kind = kind;
  workload.match = match;
  return workload;
}

// shop/cart is well, shop/price is not intercepted, billing is not here.
CheckInput Input() {
  ControlFacts facts;
  facts.agent.node_name = "node-a";
  facts.agent.workloads = {Configured("shop", "cart", config::MatchKind::kNetns, "cart"),
                           Configured("shop", "price", config::MatchKind::kNetns, "price"),
                           Configured("", "billing", config::MatchKind::kUnit, "billing.service")};
  facts.enrolments.resize(2);
  facts.enrolments[0].id = kCart;
  facts.enrolments[0].name = "shop/cart";
  facts.enrolments[0].lookup_link_alive = true;
  facts.enrolments[0].last_probe.ok = true;
  facts.enrolments[1].id = kPrice;
  facts.enrolments[1].name = "shop/price";
  facts.enrolments[1].lookup_link_alive = true;
  facts.enrolments[1].last_probe.detail = "no answer";
  facts.probed_at = {{kCart, {}}, {kPrice, {}}};
  facts.preexisting = {{.id = kPrice, .name = "shop/price", .count = 3, .examples = {"a -> b"}}};
  const auto now =
      std::chrono::floor<std::chrono::seconds>(base::SystemClock().WallNow().time_since_epoch())
          .count();
  identity::SvidStatus svid;
  svid.id = kCart;
  svid.not_before = now - 10;
  svid.not_after = now + 1000;
  facts.svids = {svid};
  CheckInput input;
  input.facts = std::make_shared<const ControlFacts>(std::move(facts));
  return input;
}

std::map<std::string, std::string> Outcomes(const v1::CheckReport& report) {
  std::map<std::string, std::string> outcomes;
  for (const v1::CheckResult& result : report.results()) {
    outcomes[result.code()] = result.outcome();
  }
  return outcomes;
}

TEST(ChecksOfTest, LooksAtOneWorkloadOnly) {
  const auto report = RunChecksOf(Input(), "shop/cart");
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->node(), "node-a");
  EXPECT_EQ(Outcomes(*report), (std::map<std::string, std::string>{{"WK203", "ok"},
                                                                   {"WK301", "ok"},
                                                                   {"WK302", "ok"},
                                                                   {"WK303", "ok"},
                                                                   {"WK401", "ok"},
                                                                   {"WK402", "ok"},
                                                                   {"WK405", "ok"}}));
}

TEST(ChecksOfTest, SaysWhatIsWrongWithIt) {
  const auto report = RunChecksOf(Input(), "price");
  ASSERT_TRUE(report.has_value());
  auto outcomes = Outcomes(*report);
  EXPECT_EQ(outcomes["WK302"], "warn");
  EXPECT_EQ(outcomes["WK303"], "fail");
  EXPECT_EQ(outcomes["WK401"], "fail");
}

TEST(ChecksOfTest, WarnsOfAWorkloadThatIsNotHere) {
  for (const char* subject : {"billing", "unit:billing", "unit:billing.service"}) {
    const auto report = RunChecksOf(Input(), subject);
    ASSERT_TRUE(report.has_value()) << subject;
    EXPECT_EQ(Outcomes(*report), (std::map<std::string, std::string>{{"WK301", "warn"}}));
  }
}

TEST(ChecksOfTest, KnowsConfiguredWorkloadsOnly) {
  for (const char* subject : {"shop/none", "unit:cart", "", "unit:"}) {
    EXPECT_FALSE(RunChecksOf(Input(), subject).has_value()) << subject;
  }
}

}  // namespace
}  // namespace weir::daemon
