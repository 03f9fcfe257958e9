#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/config/documents.h"
#include "agent/config/source.h"
#include "agent/io/event_loop.h"
#include "tests/unit/config_support.h"

namespace weir::config {
namespace {

constexpr int kMutations = 1000;
constexpr unsigned kSeed = 20240817;

// Damages a valid document as editors, disks and people do.
class Mutator {
 public:
  std::string Mutate(std::string text) {
    const int times = Pick(1, 3);
    for (int i = 0; i < times && !text.empty(); ++i) {
      Once(text);
    }
    return text;
  }

 private:
  int Pick(int least, int most) { return std::uniform_int_distribution(least, most)(random_); }
  std::size_t At(const std::string& text) {
    return std::uniform_int_distribution<std::size_t>(0, text.size() - 1)(random_);
  }

  void Once(std::string& text) {
    static const std::vector<std::string> kPieces = {
        "[",     "{",         "- ",   ": ", "&a ",   "*a",          "!!int ",
        "---\n", "\t",        "\"",   "'",  "|\n",   "~",           "99999999999999999999",
        "-1",    "weir.io/x", "\xff", "\n", "spec:", "kind: Mesh\n"};
    switch (Pick(0, 5)) {
      case 0:
        text.resize(At(text));
        break;
      case 1:
        text[At(text)] = static_cast<char>(Pick(0, 255));
        break;
      case 2:
        text.erase(At(text), static_cast<std::size_t>(Pick(1, 20)));
        break;
      case 3:
        text.insert(
            At(text),
            kPieces[static_cast<std::size_t>(Pick(0, static_cast<int>(kPieces.size()) - 1))]);
        break;
      case 4: {
        const std::size_t from = At(text);
        text.insert(At(text), text.substr(from, 40));
        break;
      }
      default:
        std::swap(text[At(text)], text[At(text)]);
        break;
    }
  }

  std::mt19937 random_{kSeed};
};

// F8: whatever stands in the directory, the agent lives on and what is in force is sound.
TEST(ConfigMutationTest, ThousandMutationsNeitherCrashNorReplaceAGoodSetByABadOne) {
  Diagnostics reading;
  const auto originals = ReadDocumentFiles(WEIR_SOURCE_DIR "/deploy/examples/crm/mesh.d", reading);
  ASSERT_EQ(originals.size(), 4U);
  const TemporaryDirectory directory;
  for (const SourceFile& file : originals) {
    directory.Write(file.name, file.content);
  }
  Diagnostics diagnostics;
  AgentConfig agent =
      LoadAgentConfig(WEIR_SOURCE_DIR "/deploy/examples/crm/node-a.yaml", diagnostics);
  ASSERT_TRUE(diagnostics.ok());
  agent.documents_directory = directory.path();
  const auto loop = io::EventLoop::Create(base::SystemClock()).value();
  std::size_t published = 0;
  const auto source =
      ConfigSource::Create(
          *loop, agent,
          {.on_published =
               [&](const BuildResult& result) {
                 ++published;
                 EXPECT_TRUE(result.ok());
                 EXPECT_TRUE(result.diagnostics.ok());
               },
           .on_rejected =
               [](const Rejection& rejection) { EXPECT_FALSE(rejection.errors.empty()); }})
          .value();
  ASSERT_TRUE(source->Start({"crm/gateway", "redis"}).has_value());

  Mutator mutator;
  for (int i = 0; i < kMutations; ++i) {
    const SourceFile& file = originals[static_cast<std::size_t>(i) % originals.size()];
    directory.Replace(file.name, mutator.Mutate(file.content));
    const SourceStatus before = source->status();
    source->Reload();
    const SourceStatus& after = source->status();
    if (after.rejection_count != before.rejection_count) {
      EXPECT_EQ(after.revision, before.revision);
    }
    // Enrolled workloads stay enrolled, whatever the documents say.
    ASSERT_EQ(source->current()->snapshot->locals().size(), 2U);
    directory.Replace(file.name, file.content);
  }
  EXPECT_GT(source->status().rejection_count, 500U);
  source->Reload();
  EXPECT_FALSE(source->status().last_rejection.has_value());
  EXPECT_EQ(source->current()->snapshot->workloads().size(), 6U);
}

TEST(ConfigMutationTest, EveryTruncationOfADocumentIsJudged) {
  Diagnostics reading;
  for (const SourceFile& file :
       ReadDocumentFiles(WEIR_SOURCE_DIR "/deploy/examples/crm/mesh.d", reading)) {
    for (std::size_t length = 0; length < file.content.size(); length += 7) {
      Diagnostics diagnostics;
      (void)ParseText(file.content.substr(0, length), diagnostics);
      for (const Diagnostic& one : diagnostics.all()) {
        EXPECT_FALSE(one.text.empty());
      }
    }
  }
}

}  // namespace
}  // namespace weir::config
