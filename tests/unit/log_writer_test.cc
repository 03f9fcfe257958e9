#include "agent/export/log_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "agent/base/unique_fd.h"
#include "agent/export/access_log.h"
#include "tests/support/records.h"

namespace weir::telemetry {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class LogWriterTest : public testing::Test {
 protected:
  LogWriterTest() {
    std::string pattern = testing::TempDir() + "/weir-log-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
  }
  ~LogWriterTest() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static std::unique_ptr<LogWriter> Start(LogWriterOptions options) {
    auto writer = LogWriter::Start(std::move(options));
    EXPECT_TRUE(writer.has_value());
    return std::move(*writer);
  }
  // Until `writer` has nothing queued; false after ten seconds.
  static bool Settle(const LogWriter& writer) {
    const auto end = std::chrono::steady_clock::now() + seconds(10);
    while (writer.status().queued != 0) {
      if (std::chrono::steady_clock::now() > end) {
        return false;
      }
      std::this_thread::yield();
    }
    return true;
  }
  static std::uint64_t Dropped(const LogWriterStatus& status, LogDrop reason) {
    return status.dropped[static_cast<std::size_t>(reason)];
  }

  std::string directory_;
};

TEST_F(LogWriterTest, AppendsWhatIsOffered) {
  std::ofstream(Path("log")) << "before\n";
  auto writer = Start({.path = Path("log")});
  writer->Write("a\nb\n", 2);
  writer->Write("", 0);
  writer->Write("c\n", 1);
  writer->Stop(seconds(10));
  EXPECT_EQ(Read(Path("log")), "before\na\nb\nc\n");
  EXPECT_EQ(writer->status().written, 3U);
  EXPECT_EQ(writer->status().dropped_total(), 0U);
  writer->Write("late\n", 1);
  EXPECT_EQ(Dropped(writer->status(), LogDrop::kStopped), 1U);
}

TEST_F(LogWriterTest, OpensTheFileAnewWhenToldTo) {
  auto writer = Start({.path = Path("log")});
  writer->Write("a\n", 1);
  ASSERT_TRUE(Settle(*writer));
  std::filesystem::rename(Path("log"), Path("moved"));
  writer->Write("b\n", 1);
  ASSERT_TRUE(Settle(*writer));
  writer->Reopen();
  writer->Write("c\n", 1);
  writer->Stop(seconds(10));
  EXPECT_EQ(Read(Path("moved")), "a\nb\n");
  EXPECT_EQ(Read(Path("log")), "c\n");
}

TEST_F(LogWriterTest, PutsFilesAsideThatWouldBecomeTooLong) {
  auto writer = Start({.path = Path("log"), .rotate_bytes = 4, .keep = 2});
  for (const char* line : {"1\n", "2\n", "3\n", "4\n", "5\n", "6\n", "7\n"}) {
    writer->Write(line, 1);
  }
  writer->Stop(seconds(10));
  EXPECT_EQ(Read(Path("log")), "7\n");
  EXPECT_EQ(Read(Path("log.1")), "5\n6\n");
  EXPECT_EQ(Read(Path("log.2")), "3\n4\n");
  EXPECT_FALSE(std::filesystem::exists(Path("log.3")));
  EXPECT_EQ(writer->status().rotations, 3U);
}

TEST_F(LogWriterTest, CountsWhatAFullDiskDoesNotTake) {
  auto writer = Start({.path = "/dev/full"});
  writer->Write("a\nb\n", 2);
  ASSERT_TRUE(Settle(*writer));
  EXPECT_EQ(Dropped(writer->status(), LogDrop::kWriteFailed), 2U);
  EXPECT_NE(writer->status().last_error.find("No space left"), std::string::npos)
      << writer->status().last_error;
}

TEST_F(LogWriterTest, CountsLinesOfAFileThatCannotBeOpenedAndTriesAgain) {
  auto writer = Start({.path = Path("none/log"), .retry_interval = milliseconds(0)});
  writer->Write("a\n", 1);
  ASSERT_TRUE(Settle(*writer));
  EXPECT_EQ(Dropped(writer->status(), LogDrop::kOpenFailed), 1U);
  EXPECT_FALSE(writer->status().last_error.empty());
  std::filesystem::create_directory(Path("none"));
  writer->Write("b\n", 1);
  writer->Stop(seconds(10));
  EXPECT_EQ(Read(Path("none/log")), "b\n");
  EXPECT_EQ(writer->status().last_error, "");
}

// F15: a sink that takes nothing. What is offered is bounded and counted, offering goes on,
// and stopping does not wait for the sink.
TEST_F(LogWriterTest, DropsAndCountsWhenTheSinkIsBlocked) {
  ASSERT_EQ(::mkfifo(Path("fifo").c_str(), 0600), 0);
  const base::UniqueFd reader(::open(Path("fifo").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  ASSERT_TRUE(reader.valid());
  auto started = AccessLog::Start(
      {.node = "node-a", .file = {.path = Path("fifo"), .queue_limit_bytes = 1U << 16U}});
  ASSERT_TRUE(started.has_value());
  AccessLog& log = **started;
  constexpr std::uint64_t kOffered = 5000;
  for (std::uint64_t i = 0; i < kOffered; ++i) {
    log.Consume({test::MakeRequest(/*is_client=*/true)});
  }
  LogWriterStatus status = log.status().at(Path("fifo"));
  EXPECT_GT(Dropped(status, LogDrop::kQueueFull), 0U);
  EXPECT_EQ(status.written + status.dropped_total() + status.queued, kOffered);
  log.Stop(seconds(10));
  status = log.status().at(Path("fifo"));
  EXPECT_EQ(status.queued, 0U);
  EXPECT_GT(Dropped(status, LogDrop::kStopped), 0U);
  EXPECT_EQ(status.written + status.dropped_total(), kOffered);
}

TEST_F(LogWriterTest, WritesLinesWholeThatASlowSinkTakesInParts) {
  ASSERT_EQ(::mkfifo(Path("fifo").c_str(), 0600), 0);
  const base::UniqueFd reader(::open(Path("fifo").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  auto writer = Start({.path = Path("fifo")});
  const std::string big = std::string(100'000, 'x') + "\n";  // more than a pipe holds
  writer->Write(big, 1);
  writer->Write("after\n", 1);
  std::string text;
  const auto end = std::chrono::steady_clock::now() + seconds(20);
  while (!text.ends_with("after\n") && std::chrono::steady_clock::now() < end) {
    std::array<char, 4096> bytes;
    const ssize_t count = ::read(reader.get(), bytes.data(), bytes.size());
    text.append(bytes.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
  }
  EXPECT_EQ(text, big + "after\n");
  writer->Stop(seconds(10));
  EXPECT_EQ(writer->status().written, 2U);
}

}  // namespace
}  // namespace weir::telemetry
