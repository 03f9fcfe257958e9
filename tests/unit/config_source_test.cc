#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/config/source.h"
#include "agent/io/event_loop.h"
#include "tests/unit/config_support.h"

namespace weir::config {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::string_view kBad = "type: Dataplane\nname: one\nnetworkin: {}\n";

class SourceTest : public testing::Test {
 protected:
  SourceTest() : loop_(io::EventLoop::Create(base::SystemClock()).value()) {
    directory_.Write("mesh.yaml", DataplaneText("one", "198.18.0.1"));
    agent_.node_name = "node-a";
    agent_.trust_domain = "mesh.local";
    agent_.documents_directory = directory_.path();
    agent_.workloads = {LocalAt("one", "x")};
  }

  base::Result<void> Start() {
    source_ = ConfigSource::Create(
                  *loop_, agent_,
                  {.on_published =
                       [this](const BuildResult& result) { published_.push_back(result.snapshot); },
                   .on_rejected = [this](const Rejection&) { ++rejected_; },
                   .gather = milliseconds(5)})
                  .value();
    return source_->Start({"one"});
  }

  // Turns the loop until `done`, at most 10 s.
  bool Until(const std::function<bool()>& done) {
    const auto deadline = base::SystemClock().Now() + seconds(10);
    while (!done() && base::SystemClock().Now() < deadline) {
      loop_->RunOnce(milliseconds(20));
    }
    return done();
  }
  bool UntilWorkload(const std::string& name) {
    return Until([&] {
      return std::ranges::any_of(published_.back()->workloads(),
                                 [&](const auto& one) { return one->name == name; });
    });
  }

  TemporaryDirectory directory_;
  AgentConfig agent_;
  std::unique_ptr<io::EventLoop> loop_;
  std::vector<model::SnapshotPtr> published_;
  int rejected_ = 0;
  std::unique_ptr<ConfigSource> source_;
};

TEST_F(SourceTest, PublishesAtStart) {
  ASSERT_TRUE(Start().has_value());
  ASSERT_EQ(published_.size(), 1U);
  EXPECT_EQ(published_[0]->locals().size(), 1U);
  EXPECT_EQ(source_->status().revision, published_[0]->revision());
  EXPECT_EQ(source_->status().reload_count, 1U);
  EXPECT_NE(source_->current(), nullptr);
}

TEST_F(SourceTest, StartWithABadSetOnlyFailsClosed) {
  directory_.Write("mesh.yaml", kBad);
  const auto started = Start();
  ASSERT_FALSE(started.has_value());
  EXPECT_TRUE(started.error().ToString().contains("mesh.yaml:"));
  EXPECT_TRUE(started.error().ToString().contains("weir config check"));
  EXPECT_TRUE(published_.empty());
  EXPECT_EQ(source_->current(), nullptr);
}

TEST_F(SourceTest, StartWithoutTheDirectoryFails) {
  agent_.documents_directory = directory_.File("missing");
  EXPECT_FALSE(Start().has_value());
}

TEST_F(SourceTest, TakesOverAChangedFile) {
  ASSERT_TRUE(Start().has_value());
  directory_.Write("mesh.yaml", DataplaneText("two", "198.18.0.2"));
  EXPECT_TRUE(UntilWorkload("two"));
  directory_.Replace("mesh.yaml", DataplaneText("three", "198.18.0.2"));
  EXPECT_TRUE(UntilWorkload("three"));
  directory_.Write("more.yaml", DataplaneText("four", "198.18.0.4"));
  EXPECT_TRUE(UntilWorkload("four"));
  std::filesystem::remove(directory_.File("more.yaml"));
  // `one` is in force as long as agent.yaml names it.
  EXPECT_TRUE(Until([&] { return published_.back()->workloads().size() == 2; }));
  EXPECT_EQ(rejected_, 0);
}

TEST_F(SourceTest, KeepsTheLastGoodSetWhileABadOneIsThere) {
  ASSERT_TRUE(Start().has_value());
  const std::uint64_t revision = source_->status().revision;
  directory_.Replace("mesh.yaml", kBad);
  ASSERT_TRUE(Until([&] { return rejected_ == 1; }));
  EXPECT_EQ(published_.size(), 1U);
  EXPECT_EQ(source_->status().revision, revision);
  EXPECT_EQ(source_->status().rejection_count, 1U);
  ASSERT_TRUE(source_->status().last_rejection.has_value());
  EXPECT_EQ(source_->status().last_rejection->errors[0].place.file, "mesh.yaml");
  directory_.Replace("mesh.yaml", DataplaneText("one", "198.18.0.7"));
  ASSERT_TRUE(Until([&] { return published_.size() == 2; }));
  EXPECT_FALSE(source_->status().last_rejection.has_value());
  EXPECT_EQ(source_->status().rejection_count, 1U);
}

TEST_F(SourceTest, PresenceIsAppliedWhileABadSetIsThere) {
  ASSERT_TRUE(Start().has_value());
  directory_.Replace("mesh.yaml", kBad);
  ASSERT_TRUE(Until([&] { return rejected_ == 1; }));
  source_->SetPresent({});
  ASSERT_EQ(published_.size(), 2U);
  EXPECT_TRUE(published_.back()->locals().empty());
  EXPECT_TRUE(source_->status().last_rejection.has_value());
  source_->SetPresent({});
  EXPECT_EQ(published_.size(), 2U);
}

TEST_F(SourceTest, SurvivesADirectoryThatIsReplaced) {
  ASSERT_TRUE(Start().has_value());
  const TemporaryDirectory other;
  std::filesystem::rename(directory_.path(), other.File("old"));
  ASSERT_TRUE(Until([&] { return rejected_ >= 1; }));
  EXPECT_EQ(published_.size(), 1U);
  std::filesystem::create_directory(directory_.path());
  directory_.Write("mesh.yaml", DataplaneText("two", "198.18.0.2"));
  EXPECT_TRUE(UntilWorkload("two"));
  directory_.Replace("mesh.yaml", DataplaneText("three", "198.18.0.3"));
  EXPECT_TRUE(UntilWorkload("three"));
}

TEST_F(SourceTest, FollowsKubeletsSwapOfAMountedConfigMap) {
  namespace fs = std::filesystem;
  const auto version = [&](const std::string& name, const std::string& text) {
    fs::create_directory(directory_.File(name));
    directory_.Write(name + "/mesh.yaml", text);
  };
  version("..1", DataplaneText("one", "198.18.0.1"));
  fs::create_directory_symlink("..1", directory_.File("..data"));
  fs::remove(directory_.File("mesh.yaml"));
  fs::create_symlink("..data/mesh.yaml", directory_.File("mesh.yaml"));
  ASSERT_TRUE(Start().has_value());
  version("..2", DataplaneText("two", "198.18.0.2"));
  fs::create_directory_symlink("..2", directory_.File("..data_tmp"));
  fs::rename(directory_.File("..data_tmp"), directory_.File("..data"));
  fs::remove_all(directory_.File("..1"));
  EXPECT_TRUE(UntilWorkload("two"));
  EXPECT_EQ(rejected_, 0);
}

TEST_F(SourceTest, FollowsADirectoryThatIsASymbolicLink) {
  namespace fs = std::filesystem;
  const TemporaryDirectory links;
  const TemporaryDirectory second;
  second.Write("mesh.yaml", DataplaneText("two", "198.18.0.2"));
  fs::create_directory_symlink(directory_.path(), links.File("mesh.d"));
  agent_.documents_directory = links.File("mesh.d");
  ASSERT_TRUE(Start().has_value());
  fs::create_directory_symlink(second.path(), links.File("next"));
  fs::rename(links.File("next"), links.File("mesh.d"));
  EXPECT_TRUE(UntilWorkload("two"));
}

TEST_F(SourceTest, GathersABurst) {
  ASSERT_TRUE(Start().has_value());
  for (int i = 0; i < 50; ++i) {
    directory_.Write("more.yaml", DataplaneText("w" + std::to_string(i), "198.18.1.1"));
  }
  EXPECT_TRUE(UntilWorkload("w49"));
  EXPECT_LE(published_.size(), 3U);
}

TEST_F(SourceTest, FilesThatSayTheSameAreNotTakenAgain) {
  ASSERT_TRUE(Start().has_value());
  directory_.Replace("mesh.yaml", DataplaneText("one", "198.18.0.1"));
  source_->Reload();
  EXPECT_EQ(published_.size(), 1U);
  EXPECT_EQ(source_->status().reload_count, 1U);
}

TEST_F(SourceTest, AgentConfigIsTakenWholeOrNotAtAll) {
  ASSERT_TRUE(Start().has_value());
  AgentConfig other = agent_;
  other.node_name = "node-b";  // the Dataplane lives on node-a
  EXPECT_FALSE(source_->SetAgentConfig(other).has_value());
  EXPECT_EQ(published_.size(), 1U);
  EXPECT_EQ(source_->status().rejection_count, 1U);
  other = agent_;
  other.limits.max_header_count = 9;
  EXPECT_TRUE(source_->SetAgentConfig(other).has_value());
  ASSERT_EQ(published_.size(), 2U);
  EXPECT_EQ(published_.back()->limits().max_header_count, 9U);
}

TEST_F(SourceTest, AgentConfigMayMoveTheDocuments) {
  ASSERT_TRUE(Start().has_value());
  const TemporaryDirectory second;
  second.Write("mesh.yaml", DataplaneText("two", "198.18.0.2"));
  AgentConfig other = agent_;
  other.documents_directory = second.path();
  ASSERT_TRUE(source_->SetAgentConfig(other).has_value());
  EXPECT_TRUE(UntilWorkload("two"));
  second.Replace("mesh.yaml", DataplaneText("three", "198.18.0.3"));
  EXPECT_TRUE(UntilWorkload("three"));
}

TEST_F(SourceTest, HundredsOfFlapsLoseNothingAndLeaveTheLastGoodSet) {
  for (int i = 0; i < 200; ++i) {
    directory_.Write("w" + std::to_string(i) + ".yaml",
                     DataplaneText("w" + std::to_string(i), "198.19.0." + std::to_string(i + 1)));
  }
  ASSERT_TRUE(Start().has_value());
  for (int flap = 0; flap < 300; ++flap) {
    directory_.Replace("mesh.yaml",
                       flap % 2 == 0 ? std::string(kBad) : DataplaneText("one", "198.18.0.1"));
    source_->Reload();
  }
  EXPECT_EQ(source_->status().rejection_count, 150U);
  EXPECT_EQ(source_->status().reload_count, 151U);
  EXPECT_EQ(published_.back()->workloads().size(), 201U);
  EXPECT_FALSE(source_->status().last_rejection.has_value());
}

}  // namespace
}  // namespace weir::config
