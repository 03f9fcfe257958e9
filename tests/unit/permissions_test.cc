// PrefixTree and PermissionSet, against a list that is looked through one by one.
#include "agent/model/permissions.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "agent/model/prefix_tree.h"

namespace weir::model {
namespace {

using Kind = PermissionMatch::Kind;

PermissionRulePtr Rule(PermissionEffect effect, std::string name) {
  return std::make_shared<const PermissionRule>(
      PermissionRule{.effect = effect, .name = std::move(name), .source = "m.yaml:1"});
}

PermissionQuery Query(std::string_view id, std::string_view server_name = {},
                      std::string_view workload = {}) {
  return {.spiffe_id = id, .workload = workload, .server_name = server_name};
}

std::vector<std::uint32_t> PrefixesOf(const PrefixTree& tree, std::string_view text) {
  std::vector<std::uint32_t> found;
  tree.ForEachPrefixOf(text, [&](std::uint32_t value) { found.push_back(value); });
  return found;
}

TEST(PrefixTreeTest, FindsPrefixesTheShortestFirst) {
  PrefixTree tree;
  EXPECT_EQ(tree.Add("abcd", 1), 1U);
  EXPECT_EQ(tree.Add("ab", 2), 2U);   // above it
  EXPECT_EQ(tree.Add("abx", 3), 3U);  // beside it
  EXPECT_EQ(tree.Add("", 4), 4U);
  EXPECT_EQ(tree.Add("ab", 5), 2U);  // the first stays
  using Found = std::vector<std::uint32_t>;
  EXPECT_EQ(PrefixesOf(tree, "abcde"), (Found{4, 2, 1}));
  EXPECT_EQ(PrefixesOf(tree, "abcd"), (Found{4, 2, 1}));
  EXPECT_EQ(PrefixesOf(tree, "abc"), (Found{4, 2}));
  EXPECT_EQ(PrefixesOf(tree, "abxy"), (Found{4, 2, 3}));
  EXPECT_EQ(PrefixesOf(tree, "a"), (Found{4}));
  EXPECT_EQ(PrefixesOf(tree, ""), (Found{4}));
}

TEST(PrefixTreeTest, FindsNothingWhenEmpty) {
  EXPECT_TRUE(PrefixesOf(PrefixTree(), "x").empty());
}

TEST(PrefixTreeTest, TakesStepsByTheTextAndNotByTheNumberOfPrefixes) {
  const std::string asked = "spiffe://mesh.test/ns/n7/sa/s7";
  std::size_t most = 0;
  for (const std::uint32_t count : {10U, 1000U, 100000U}) {
    PrefixTree tree;
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::string number = std::to_string(i);
      (void)tree.Add("spiffe://mesh.test/ns/n" + number + "/sa/s" + number, i);
    }
    std::size_t hits = 0;
    const std::size_t steps = tree.ForEachPrefixOf(asked, [&](std::uint32_t) { ++hits; });
    EXPECT_EQ(hits, 1U);
    most = std::max(most, steps);
  }
  EXPECT_LE(most, 6U);
}

TEST(PermissionSetTest, ADenialWinsWhateverElseIsSaid) {
  PermissionSet set;
  const PermissionMatch a{.kind = Kind::kExact, .spiffe_id = "spiffe://m/a", .server_name = {}};
  const PermissionMatch all{.kind = Kind::kPrefix, .spiffe_id = "spiffe://m/", .server_name = {}};
  set.Add(a, Rule(PermissionEffect::kAllow, "a-allow"));
  set.Add(a, Rule(PermissionEffect::kAllowWithShadowDeny, "a-shadow"));
  EXPECT_EQ(set.Find(Query("spiffe://m/a"))->name, "a-shadow");
  set.Add(all, Rule(PermissionEffect::kDeny, "all-deny"));
  EXPECT_EQ(set.Find(Query("spiffe://m/a"))->name, "all-deny");
  EXPECT_EQ(set.Find(Query("spiffe://n/a")), nullptr);
  EXPECT_EQ(set.rule_count(), 3U);
}

TEST(PermissionSetTest, NamesTheClosestOfSeveralRules) {
  PermissionSet set;
  set.Add({.kind = Kind::kPrefix, .spiffe_id = "spiffe://m/", .server_name = {}},
          Rule(PermissionEffect::kAllow, "short"));
  set.Add({.kind = Kind::kPrefix, .spiffe_id = "spiffe://m/ns/", .server_name = {}},
          Rule(PermissionEffect::kAllow, "long"));
  set.Add({.kind = Kind::kExact, .spiffe_id = "spiffe://m/ns/a", .server_name = {}},
          Rule(PermissionEffect::kAllow, "exact"));
  EXPECT_EQ(set.Find(Query("spiffe://m/ns/a"))->name, "exact");
  EXPECT_EQ(set.Find(Query("spiffe://m/ns/b"))->name, "long");
  EXPECT_EQ(set.Find(Query("spiffe://m/b"))->name, "short");
}

TEST(PermissionSetTest, AsksForBothIdentityAndServerNameWhereBothAreGiven) {
  PermissionSet set;
  set.Add({.kind = Kind::kExact, .spiffe_id = "spiffe://m/a", .server_name = "db.test"},
          Rule(PermissionEffect::kAllow, "both"));
  set.Add({.kind = Kind::kAnyone, .spiffe_id = {}, .server_name = "open.test"},
          Rule(PermissionEffect::kAllow, "by-name"));
  EXPECT_TRUE(set.uses_server_names());
  EXPECT_EQ(set.Find(Query("spiffe://m/a")), nullptr);
  EXPECT_EQ(set.Find(Query("spiffe://m/a", "other.test")), nullptr);
  EXPECT_EQ(set.Find(Query("spiffe://m/b", "db.test")), nullptr);
  EXPECT_EQ(set.Find(Query("spiffe://m/a", "db.test"))->name, "both");
  EXPECT_EQ(set.Find(Query("spiffe://m/b", "open.test"))->name, "by-name");
}

TEST(PermissionSetTest, TheLastWordOfTheSecondGenerationCounts) {
  PermissionSet set;
  set.SetFrom("shop/a", Rule(PermissionEffect::kDeny, "forgotten"));
  set.SetFromEveryone(Rule(PermissionEffect::kAllow, "everyone"));
  set.SetFrom("shop/b", Rule(PermissionEffect::kDeny, "b"));
  const auto find = [&](std::string_view workload) {
    return set.Find(Query("spiffe://m/x", {}, workload))->name;
  };
  EXPECT_EQ(find("shop/a"), "everyone");
  EXPECT_EQ(find("shop/b"), "b");
  EXPECT_EQ(find(""), "everyone");
  EXPECT_TRUE(set.uses_workloads());
}

TEST(PermissionSetTest, RulesOfBothGenerationsAreJudgedTogether) {
  PermissionSet set;
  set.SetFromEveryone(Rule(PermissionEffect::kAllow, "everyone"));
  set.Add({.kind = Kind::kExact, .spiffe_id = "spiffe://m/d", .server_name = {}},
          Rule(PermissionEffect::kDeny, "not-d"));
  EXPECT_EQ(set.Find(Query("spiffe://m/d", {}, "d"))->name, "not-d");
  EXPECT_EQ(set.Find(Query("spiffe://m/e", {}, "e"))->name, "everyone");
}

// The same rules looked through in turn.
bool Matches(const PermissionMatch& match, const PermissionQuery& query) {
  const bool id = match.kind == Kind::kAnyone ||
                  (match.kind == Kind::kExact && match.spiffe_id == query.spiffe_id) ||
                  (match.kind == Kind::kPrefix && query.spiffe_id.starts_with(match.spiffe_id));
  return id && (match.server_name.empty() || match.server_name == query.server_name);
}

TEST(PermissionSetTest, DecidesAsALookThroughAllRulesWould) {
  std::mt19937 random(7);
  const auto pick = [&](int most) { return std::uniform_int_distribution(0, most)(random); };
  const auto text = [&] {
    std::string id = "spiffe://m/";
    for (int i = pick(4); i > 0; --i) {
      id += static_cast<char>('a' + pick(2));
    }
    return id;
  };
  for (int round = 0; round < 300; ++round) {
    PermissionSet set;
    std::vector<std::pair<PermissionMatch, PermissionEffect>> rules;
    for (int i = pick(30); i >= 0; --i) {
      const PermissionMatch match{.kind = static_cast<Kind>(pick(2)),
                                  .spiffe_id = text(),
                                  .server_name = pick(3) == 0 ? "s" + std::to_string(pick(1)) : ""};
      const auto effect = static_cast<PermissionEffect>(pick(2));
      set.Add(match, Rule(effect, "r"));
      rules.emplace_back(match, effect);
    }
    for (int i = 0; i < 30; ++i) {
      const std::string id = text();
      const std::string name = pick(1) == 0 ? "s" + std::to_string(pick(1)) : "";
      const PermissionQuery query{.spiffe_id = id, .workload = {}, .server_name = name};
      int expected = static_cast<int>(kPermissionEffectCount);
      for (const auto& [match, effect] : rules) {
        if (Matches(match, query)) {
          expected = std::min(expected, static_cast<int>(effect));
        }
      }
      const PermissionRule* found = set.Find(query);
      const int decided = found == nullptr ? static_cast<int>(kPermissionEffectCount)
                                           : static_cast<int>(found->effect);
      ASSERT_EQ(decided, expected) << id << ' ' << name;
    }
  }
}

}  // namespace
}  // namespace weir::model
