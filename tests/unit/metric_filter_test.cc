#include "agent/model/metric_filter.h"

#include <gtest/gtest.h>

#include <chrono>

namespace weir::model {
namespace {

using Type = MetricSelector::Type;

MetricFilter Make(MetricSelection selection) {
  auto made = MetricFilter::Make(std::move(selection));
  EXPECT_TRUE(made.has_value()) << made.error().message();
  return made ? *made : MetricFilter();
}

bool Selects(Type type, const std::string& match, std::string_view name, bool is_counter = false) {
  return Make({.profiles = {MetricProfile::kNone}, .include = {{.type = type, .match = match}}})
      .Admits(name, is_counter);
}

TEST(MetricFilterTest, AdmitsEverythingWithoutAProfile) {
  EXPECT_TRUE(MetricFilter().Admits("weir_anything", false));
  EXPECT_TRUE(Make({}).Admits("weir_anything", true));
}

TEST(MetricFilterTest, AdmitsWhatAnyOfTheProfilesHas) {
  const auto has = [](std::vector<MetricProfile> profiles, std::string_view name) {
    return Make({.profiles = std::move(profiles)}).Admits(name, false);
  };
  EXPECT_TRUE(has({MetricProfile::kBasic}, "weir_requests"));
  EXPECT_TRUE(has({MetricProfile::kBasic}, "process_cpu_seconds"));
  EXPECT_TRUE(has({MetricProfile::kBasic}, "weir_telemetry_generated"));
  EXPECT_FALSE(has({MetricProfile::kBasic}, "weir_tunnel_bytes"));
  EXPECT_FALSE(has({MetricProfile::kNone}, "weir_requests"));
  EXPECT_TRUE(has({MetricProfile::kNone, MetricProfile::kBasic}, "weir_requests"));
  EXPECT_TRUE(has({MetricProfile::kBasic, MetricProfile::kAll}, "weir_tunnel_bytes"));
}

TEST(MetricFilterTest, SelectsByEachType) {
  EXPECT_TRUE(Selects(Type::kPrefix, "weir_t", "weir_tunnels"));
  EXPECT_FALSE(Selects(Type::kPrefix, "weir_t", "a_weir_t"));
  EXPECT_TRUE(Selects(Type::kContains, "tun", "weir_tunnels"));
  EXPECT_FALSE(Selects(Type::kContains, "tun", "weir_bytes"));
  EXPECT_TRUE(Selects(Type::kExact, "weir_bytes", "weir_bytes", true));
  EXPECT_TRUE(Selects(Type::kExact, "weir_bytes_total", "weir_bytes", true));
  EXPECT_FALSE(Selects(Type::kExact, "weir_bytes_total", "weir_bytes", false));
  EXPECT_TRUE(Selects(Type::kRegex, "^weir_(a|b)$", "weir_b"));
  EXPECT_FALSE(Selects(Type::kRegex, "^weir_(a|b)$", "weir_bc"));
  EXPECT_TRUE(Selects(Type::kRegex, "b", "weir_bc"));  // anywhere
}

TEST(MetricFilterTest, PutsIncludeBeforeExcludeBeforeTheProfiles) {
  const auto filter = Make({.profiles = {MetricProfile::kAll},
                            .include = {{.type = Type::kExact, .match = "weir_a_b"}},
                            .exclude = {{.type = Type::kPrefix, .match = "weir_a"}}});
  EXPECT_TRUE(filter.Admits("weir_a_b", false));
  EXPECT_FALSE(filter.Admits("weir_a_c", false));
  EXPECT_TRUE(filter.Admits("weir_b", false));
}

TEST(MetricFilterTest, RefusesBadPatterns) {
  const auto error = [](const std::string& pattern) {
    const auto made = MetricFilter::Make({.exclude = {{.type = Type::kRegex, .match = pattern}}});
    return made ? "" : made.error().message();
  };
  EXPECT_NE(error("(").find("missing )"), std::string::npos) << error("(");
  EXPECT_NE(error("(((a{100}){100}){100})"), "");  // would need too much memory
  EXPECT_NE(error("(?=a)"), "");                   // needs backtracking
  EXPECT_EQ(error("(a*)*b"), "");
}

// A pattern that makes a backtracking engine hang.
TEST(MetricFilterTest, MatchesHostilePatternsInLinearTime) {
  const auto filter = Make({.profiles = {MetricProfile::kNone},
                            .include = {{.type = Type::kRegex, .match = "^(a+)+$"}}});
  EXPECT_FALSE(filter.Admits(std::string(10'000, 'a') + "!", false));
}

}  // namespace
}  // namespace weir::model
