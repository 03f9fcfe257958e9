#include <gtest/gtest.h>

#include <string>

#include "agent/config/yaml.h"
#include "tests/unit/config_support.h"

namespace weir::config {
namespace {

std::vector<NodePtr> Parse(const std::string& text, Diagnostics& diagnostics) {
  return ParseYaml(text, "f.yaml", diagnostics);
}

TEST(YamlTest, GivesDocumentsWithLinesAndKinds) {
  Diagnostics diagnostics;
  const auto documents = Parse("a: 1\nb:\n  - x\n  - 'y'\n---\n\n---\nc: ~\n", diagnostics);
  ASSERT_TRUE(diagnostics.ok());
  ASSERT_EQ(documents.size(), 2U);
  const Node* list = documents[0]->Find("b");
  ASSERT_NE(list, nullptr);
  ASSERT_EQ(list->items.size(), 2U);
  EXPECT_EQ(list->items[0]->line, 3);
  EXPECT_FALSE(list->items[0]->quoted);
  EXPECT_TRUE(list->items[1]->quoted);
  EXPECT_EQ(documents[1]->Find("c")->kind, NodeKind::kNull);
}

TEST(YamlTest, NamesTheLineOfBrokenSyntax) {
  Diagnostics diagnostics;
  EXPECT_TRUE(Parse("a: 1\nb: [1, 2\nc: 3\n", diagnostics).empty());
  ASSERT_EQ(diagnostics.error_count(), 1U);
  EXPECT_GE(diagnostics.all()[0].place.line, 2);
}

TEST(YamlTest, RefusesAKeyGivenTwice) {
  Diagnostics diagnostics;
  (void)Parse("a: 1\nb: 2\na: 3\n", diagnostics);
  EXPECT_TRUE(Says(diagnostics, Severity::kError, 3, "given twice"));
}

TEST(YamlTest, RefusesTagsAndKeysThatAreNoWords) {
  for (const char* text : {"a: !!binary aGk=\n", "a: !x {b: 1}\n", "[1, 2]: 3\n"}) {
    Diagnostics diagnostics;
    (void)Parse(text, diagnostics);
    EXPECT_EQ(diagnostics.error_count(), 1U) << text;
  }
}

TEST(YamlTest, ExpandsAliasesAndRefusesACycle) {
  Diagnostics diagnostics;
  const auto documents = Parse("a: &x {p: 1}\nb: *x\n", diagnostics);
  ASSERT_TRUE(diagnostics.ok());
  EXPECT_EQ(documents[0]->Find("b")->Find("p")->scalar, "1");
  (void)Parse("a: &x [*x]\n", diagnostics);
  EXPECT_TRUE(Says(diagnostics, Severity::kError, 1, "stands inside"));
}

TEST(YamlTest, RefusesAnAliasBombQuickly) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int level = 1; level < 30; ++level) {
    const std::string last = "*a" + std::to_string(level - 1);
    bomb += "a" + std::to_string(level) + ": &a" + std::to_string(level) + " [";
    for (int i = 0; i < 10; ++i) {
      bomb += (i == 0 ? "" : ", ") + last;
    }
    bomb += "]\n";
  }
  Diagnostics diagnostics;
  EXPECT_TRUE(Parse(bomb, diagnostics).empty());
  EXPECT_EQ(diagnostics.error_count(), 1U);
}

TEST(YamlTest, KeepsItsLimitsExactly) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + "x" + std::string(depth, ']');
  };
  Diagnostics deep_enough;
  EXPECT_EQ(Parse(nested(kMaxYamlDepth), deep_enough).size(), 1U);
  Diagnostics too_deep;
  EXPECT_TRUE(Parse(nested(kMaxYamlDepth + 1), too_deep).empty());
  EXPECT_TRUE(Says(too_deep, Severity::kError, 1, "nested deeper"));

  const auto keys = [](std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
      text += "k" + std::to_string(i) + ": 1\n";
    }
    return text;
  };
  Diagnostics enough_keys;
  EXPECT_EQ(Parse(keys(kMaxYamlKeys), enough_keys).size(), 1U);
  Diagnostics too_many_keys;
  EXPECT_TRUE(Parse(keys(kMaxYamlKeys + 1), too_many_keys).empty());
}

TEST(YamlTest, SurvivesNestingFarBeyondItsLimit) {
  for (const char* piece : {"[", "{a: ", "- ", "? "}) {
    std::string text;
    for (int i = 0; i < 100000; ++i) {
      text += piece;
    }
    Diagnostics diagnostics;
    EXPECT_TRUE(Parse(text, diagnostics).empty());
    EXPECT_FALSE(diagnostics.ok());
  }
}

TEST(YamlTest, RefusesTextThatIsNotUtf8) {
  for (const std::string& bad :
       {std::string("a: 1\nb: \xff\n"), std::string("a: 1\nb: \0x\n", 10),
        std::string("a: 1\nb: \xc0\x80\n"), std::string("a: 1\nb: \xed\xa0\x80\n")}) {
    Diagnostics diagnostics;
    EXPECT_TRUE(Parse(bad, diagnostics).empty());
    EXPECT_TRUE(Says(diagnostics, Severity::kError, 2, "UTF-8"));
  }
  Diagnostics diagnostics;
  EXPECT_EQ(Parse("a: \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\n", diagnostics).size(), 1U);
}

TEST(YamlTest, MergesAsAJsonMergePatch) {
  Diagnostics diagnostics;
  const auto base = Parse("a: {x: 1, y: 2}\nb: [1]\nc: 3\n", diagnostics);
  const auto patch = Parse("a: {y: 5, z: {deep: 1, gone: ~}}\nb: [2, 3]\nc: ~\n", diagnostics);
  ASSERT_TRUE(diagnostics.ok());
  const NodePtr merged = Merge(base[0], patch[0]);
  EXPECT_EQ(merged->Find("a")->Find("x")->scalar, "1");
  EXPECT_EQ(merged->Find("a")->Find("y")->scalar, "5");
  EXPECT_NE(merged->Find("a")->Find("z")->Find("deep"), nullptr);
  EXPECT_EQ(merged->Find("a")->Find("z")->Find("gone"), nullptr);
  EXPECT_EQ(merged->Find("b")->items.size(), 2U);
  EXPECT_EQ(merged->Find("c"), nullptr);
}

}  // namespace
}  // namespace weir::config
