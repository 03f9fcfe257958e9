#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <string>

#include "agent/admin/filter.h"
#include "agent/cli/check_texts.h"
#include "agent/cli/command_notes.h"
#include "agent/cli/commands.h"
#include "agent/cli/completion.h"
#include "agent/cli/filter_flags.h"
#include "agent/cli/flow_rows.h"
#include "agent/cli/help.h"
#include "agent/cli/json_forms.h"
#include "agent/cli/span_tree.h"
#include "agent/cli/terminal.h"
#include "agent/cli/text.h"

namespace weir::cli {
namespace {

std::string FilterOf(const std::vector<std::string>& words) {
  CommandLine line;
  std::vector<std::string> all = {"flows"};
  all.insert(all.end(), words.begin(), words.end());
  const auto parsed = line.Parse(all);
  EXPECT_TRUE(parsed.has_value()) << parsed.error().what;
  return ToExpression(line.options().flows);
}

TEST(FilterFlagsTest, BecomeAnExpressionThatTheAgentTakes) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{}, ""},
      {{"--workload", "shop/cart"}, "workload=shop/cart"},
      {{"--from-workload", "shop/*", "--to-port", "8080"}, "src=shop/* and dst.port=8080"},
      {{"--pod", "a,b"}, "(workload=a or workload=b)"},
      {{"--not-status", "5xx,>=400"}, "not (status=5xx or status>=400)"},
      {{"-n", "shop", "--not-from-ip", "10.0.0.0/8"}, "ns=shop and not src.ip=10.0.0.0/8"},
      {{"--path", "^/(a|b),c"}, "path~'^/(a|b),c'"},
      {{"--path", "it's"}, "path~'it\\'s'"},
      {{"--mtls", "any"}, ""},
      {{"--not-mtls", "off"}, "not mtls=off"},
      {{"--vm", "edge-1", "--to-service", "price"}, "vm=edge-1 and dst.service=price"},
      {{"--policy", "strict-*", "--grpc-status", "5"}, "grpc=5 and policy=strict-*"},
      {{"-A", "--not-min-duration", "1s"}, "not duration>=1s"},
      {{"--mtls", "off"}, "mtls=off"},
      {{"--min-duration", "200ms", "--min-bytes", "5MB"}, "duration>=200ms and bytes>=5MB"},
      {{"status>=500 or dir=in"}, "status>=500 or dir=in"},
      {{"--dir", "in", "status>=500 or status=404"}, "dir=in and (status>=500 or status=404)"},
      {{"--verdict=deny", "--verdict", "error"}, "verdict=deny and verdict=error"},
      {{"--not-to-node", "n1", "--parent", "turn"}, "not dst.node=n1 and parent=turn"},
      {{"--identity", "spiffe://a/*", "--not-method", "GET,HEAD"},
       "id=spiffe://a/* and not (method=GET or method=HEAD)"}};
  for (const auto& [words, expected] : cases) {
    const std::string expression = FilterOf(words);
    EXPECT_EQ(expression, expected);
    const auto filter = admin::Filter::Compile(expression);
    EXPECT_TRUE(filter.has_value()) << expression << ": " << filter.error().message;
  }
}

TEST(FilterFlagsTest, NameFieldsThatExist) {
  for (const FilterFlag& flag : FilterFlags()) {
    const auto fields = admin::FilterFields();
    const auto exists = [&](const std::string& name) {
      return std::ranges::any_of(fields, [&](const auto& field) { return field.name == name; });
    };
    EXPECT_TRUE(exists(std::string(flag.field))) << flag.name;
    if (flag.sides) {
      EXPECT_TRUE(exists(SideField(flag.field, "from"))) << flag.name;
      EXPECT_TRUE(exists(SideField(flag.field, "to"))) << flag.name;
    }
  }
}

TEST(HelpTest, ExplainsEveryFieldOfTheFilter) {
  std::string text = TopicText("filter");
  std::ranges::replace(text, '\n', ' ');
  for (const auto& field : admin::FilterFields()) {
    EXPECT_NE(text.find(" " + std::string(field.name) + " "), std::string::npos) << field.name;
  }
}

TEST(HelpTest, KeepsWithinTheWidth) {
  const CommandInfo root = CommandLine().Describe();
  for (const CommandInfo& command : root.commands) {
    for (const std::string& line :
         Split(RenderHelp(command, {.color = false, .width = 80}), '\n')) {
      if (line.find("weir ") == std::string::npos) {  // examples are not broken
        EXPECT_LE(line.size(), 80U) << command.path << ": " << line;
      }
    }
  }
}

TEST(HelpTest, PutsExamplesFirst) {
  const CommandInfo root = CommandLine().Describe();
  const std::string help = RenderHelp(*FindCommand(root, "flows"), {});
  EXPECT_LT(help.find("Examples"), help.find("Usage"));
  EXPECT_LT(help.find("Selection flags"), help.find("Filter flags"));
}

std::vector<std::string> Candidates(const std::vector<std::string>& words) {
  const auto live = [](std::string_view placeholder) -> std::vector<std::string> {
    if (placeholder == "NS/NAME") {
      return {"shop/cart", "shop/price"};
    }
    return {};
  };
  return Complete(CommandLine().Describe(), words, live);
}

using Words = std::vector<std::string>;

TEST(CompletionTest, OffersCommandsFlagsAndValues) {
  EXPECT_EQ(Candidates({"fl"}), Words({"flows"}));
  EXPECT_EQ(Candidates({"config", ""}), Words({"check"}));
  EXPECT_EQ(Candidates({"flows", "--max"}), Words({"--max-rps"}));
  EXPECT_EQ(Candidates({"flows", "-o", ""}), Words({"compact", "dict", "json", "jsonl", "otlp",
                                                    "table", "template=", "wide", "yaml"}));
  EXPECT_EQ(Candidates({"flows", "--verdict", "deny,er"}), Words({"deny,error"}));
  EXPECT_EQ(Candidates({"flows", "--from-workload", "shop/"}), Words({"shop/cart", "shop/price"}));
  EXPECT_EQ(Candidates({"flows", "--not-from-wo"}), Words({"--not-from-workload"}));
  EXPECT_EQ(Candidates({"workloads", "shop/c"}), Words({"shop/cart"}));
  EXPECT_EQ(Candidates({"completion", ""}), Words({"bash", "fish", "zsh"}));
  EXPECT_EQ(Candidates({"help", "ex"}), Words({"exit-codes"}));
  EXPECT_EQ(Candidates({"flows", "-f", "--colo"}), Words({"--color"}));
  EXPECT_EQ(Candidates({"nonsense", "-"}).empty(), false);
}

TEST(CompletionTest, HidesTwinsUntilOneIsTyped) {
  const Words few = Candidates({"flows", "--"});
  EXPECT_EQ(std::ranges::count_if(few, [](const auto& w) { return w.starts_with("--not-"); }), 0);
  EXPECT_GT(Candidates({"flows", "--not-"}).size(), 20U);
}

TEST(CompletionTest, HasAScriptForEachShell) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    EXPECT_NE(CompletionScript(shell).find("weir __complete"), std::string::npos) << shell;
  }
  EXPECT_EQ(CompletionScript("tcsh"), "");
}

TEST(YamlTest, QuotesWhatAReaderCouldTakeForSomethingElse) {
  const std::pair<std::string, std::string> cases[] = {
      {"[]", "[]\n"},
      {"{}", "{}\n"},
      {R"(["a","1","true","No","a b","a: b","-","é","/x","a/b-c.d_e@f","","~","x\n"])",
       "- a\n- \"1\"\n- \"true\"\n- \"No\"\n- \"a b\"\n- \"a: b\"\n- \"-\"\n- \"é\"\n- /x\n"
       "- a/b-c.d_e@f\n- \"\"\n- \"~\"\n- \"x\\n\"\n"},
      {R"({"a":{"b":[{"c":1,"d":{"e":null}},{"f":[]}]},"g":true})",
       "a:\n  b:\n    - c: 1\n      d:\n        e: null\n    - f: []\ng: true\n"}};
  for (const auto& [json, yaml] : cases) {
    EXPECT_EQ(ToYaml(boost::json::parse(json)), yaml) << json;
  }
}

TEST(TemplateTest, FillsMembersIn) {
  const boost::json::value object =
      boost::json::parse(R"({"a":{"b":"x","c":2},"tags":{"t.u":"v"},"e":"","n":null,"l":[1]})");
  const auto render = [&](std::string_view text) { return Template::Parse(text)->Render(object); };
  EXPECT_EQ(render("{a.b}-{a.c}"), "x-2\n");
  EXPECT_EQ(render("{{{a.b}}}\\t!\\n"), "{x}\t!\n");
  EXPECT_EQ(render("{tags.t.u} {e} {n} {none} {a.b.c} {l}"), "v - - - - [1]\n");
  EXPECT_EQ(render(""), "\n");
  EXPECT_FALSE(Template::Parse("{").has_value());
  EXPECT_FALSE(Template::Parse("a {} b").has_value());
}

TEST(TextTest, FormatsNumbersForPeople) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(18210), "18,210");
  EXPECT_EQ(FormatCount(1234567), "1,234,567");
  EXPECT_EQ(FormatDuration(0.0031), "3.1ms");
  EXPECT_EQ(FormatDuration(0.00008), "80us");
  EXPECT_EQ(FormatDuration(0.9996), "1.0s");
  EXPECT_EQ(FormatDuration(0.45), "450ms");
  EXPECT_EQ(FormatDuration(-1), "0ms");
  EXPECT_EQ(FormatBytes(999), "999B");
  EXPECT_EQ(FormatBytes(5300), "5.3kB");
  EXPECT_EQ(FormatBytes(999999), "1.0MB");
  EXPECT_EQ(Percent(1, 3), "33.3 %");
  EXPECT_EQ(Percent(0, 0), "-");
}

TEST(TextTest, TakesAgesClockTimesAndTimestamps) {
  const base::WallTime now{std::chrono::seconds(1'800'000'000)};
  EXPECT_EQ(TimeParameter("5m", now), "5m");
  EXPECT_EQ(TimeParameter("1.5h", now), "1.5h");
  EXPECT_EQ(TimeParameter("2027-01-15T08:00:00Z", now), "2027-01-15T08:00:00Z");
  EXPECT_TRUE(TimeParameter("14:00", now)->ends_with("Z"));
  for (const char* text : {"", "5", "m", "5 m", "yesterday", "1:00", "5w"}) {
    EXPECT_EQ(TimeParameter(text, now), std::nullopt) << text;
  }
}

TEST(TerminalTest, ReplacesWhatATerminalWouldActOn) {
  EXPECT_EQ(Printable("/a\033[2J\tb\x7f"), "/a?[2J?b?");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "31m\xc3\xa4"),
            "?31m\xc3\xa4");
}

TEST(TerminalTest, AlignsColumnsWhateverTheirColour) {
  const Style style{.color = true, .width = 0};
  Table table({"A", ">N"});
  table.Add({Paint(style, Color::kRed, "xyz"), "1"});
  table.Add({"\xc3\xa4", "200"});
  EXPECT_EQ(table.Take(), "A      N\n\033[31mxyz\033[0m    1\n\xc3\xa4    200\n");
  table.Add({"b", "3"});
  EXPECT_EQ(table.Take(), "b      3\n");
}

TEST(TerminalTest, ShortensTheMiddleAndKeepsTheColour) {
  EXPECT_EQ(Shorten("abcdefghij", 10), "abcdefghij");
  EXPECT_EQ(Shorten("abcdefghij", 7), "abc..ij");
  EXPECT_EQ(Shorten("\033[31mabcdefghij\033[0m", 6), "\033[31mab..ij\033[0m");
  EXPECT_EQ(Shorten("\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f"
                    "5678",
                    5),
            "\xc3\xa4\xc3\xb6..8");
}

TEST(TerminalTest, KeepsATableWithinItsWidth) {
  Table shortened({"NAME", ">N", "TEXT"}, 32);
  shortened.Add({std::string(40, 'a'), "123", std::string(20, 'b')});
  EXPECT_EQ(shortened.Take(),
            "NAME            N  TEXT\n"
            "aaaaa..aaaaa  123  bbbbbb..bbbbb\n");
  Table dropped({"NAME", ">N", "LAST"}, 20);
  dropped.Add({std::string(40, 'a'), "123", std::string(20, 'b')});
  const auto lines = Split(dropped.Take(), '\n');
  EXPECT_EQ(lines[0].find("LAST"), std::string::npos);
  EXPECT_LE(lines[1].size(), 20U);
}

TEST(SpanTreeTest, PutsEachBelowItsParentBySiblingsStart) {
  const auto at = [](int ms) { return base::WallTime(std::chrono::milliseconds(ms)); };
  const std::vector<SpanKey> keys = {
      {.id = "c", .parent = "a", .start = at(3)},    {.id = "a", .parent = "", .start = at(1)},
      {.id = "b", .parent = "a", .start = at(2)},    {.id = "", .parent = "b", .start = at(4)},
      {.id = "d", .parent = "lost", .start = at(5)}, {.id = "x", .parent = "y", .start = at(6)},
      {.id = "y", .parent = "x", .start = at(7)}};
  std::string drawn;
  for (const SpanPlace& place : ArrangeTree(keys)) {
    drawn += place.lead + (keys[place.index].id.empty() ? "-" : keys[place.index].id) + "\n";
  }
  EXPECT_EQ(drawn, "a\n|- b\n|  `- -\n`- c\nd\nx\n`- y\n");
}

TEST(SpanTreeTest, TakesADeepChainWithoutDeepDrawing) {
  std::vector<SpanKey> keys;
  for (int i = 0; i < 5000; ++i) {
    keys.push_back({.id = std::to_string(i), .parent = std::to_string(i - 1), .start = {}});
  }
  const auto places = ArrangeTree(keys);
  ASSERT_EQ(places.size(), keys.size());
  EXPECT_EQ(places.back().depth, 4999U);
  EXPECT_LT(places.back().lead.size(), 300U);
}

TEST(FlowColumnsTest, BeginWithThoseOfCompactAndAreDescribed) {
  EXPECT_EQ(FlowColumns()[kCompactColumns - 1].name(), "trace");
  for (const FlowColumn& column : FlowColumns()) {
    EXPECT_EQ(FindFlowColumn(column.name()), &column);
    EXPECT_NE(NotesOf("weir flows").text.find(column.name()), std::string_view::npos)
        << column.name();
  }
}

TEST(CheckTextsTest, DescribeEachCodeOnce) {
  std::vector<std::string_view> codes;
  for (const CheckText& text : CheckTexts()) {
    EXPECT_FALSE(text.looks_at.empty() || text.when_it_fails.empty() || text.remedy.empty());
    codes.push_back(text.code);
  }
  EXPECT_TRUE(std::ranges::is_sorted(codes));
  EXPECT_EQ(std::ranges::adjacent_find(codes), codes.end());
}

}  // namespace
}  // namespace weir::cli
