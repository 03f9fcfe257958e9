#include "agent/base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <csignal>
#include <string>

#include "agent/base/unique_fd.h"

namespace weir::base {
namespace {

// Standard error is another descriptor while this lives.
class RedirectedError {
 public:
  explicit RedirectedError(int fd) : former_(::dup(STDERR_FILENO)) {
    (void)::dup2(fd, STDERR_FILENO);
  }
  RedirectedError(const RedirectedError&) = delete;
  RedirectedError& operator=(const RedirectedError&) = delete;
  ~RedirectedError() { (void)::dup2(former_.get(), STDERR_FILENO); }

 private:
  UniqueFd former_;
};

class LogTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    reader_.Reset(ends[0]);
    writer_.Reset(ends[1]);
    ASSERT_EQ(::fcntl(reader_.get(), F_SETFL, O_NONBLOCK), 0);
  }
  std::string Read() {
    std::string text(1U << 20U, '\0');
    const ssize_t count = ::read(reader_.get(), text.data(), text.size());
    text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return text;
  }

  UniqueFd reader_;
  UniqueFd writer_;
};

TEST_F(LogTest, WritesLinesToStandardError) {
  const RedirectedError redirected(writer_.get());
  ASSERT_TRUE(StartLog("info").has_value());
  const std::uint64_t before = DroppedLogLines();
  spdlog::info("thing={} well", 1);
  spdlog::debug("not this one");
  const std::string text = Read();
  EXPECT_NE(text.find("level=info thing=1 well\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("not this one"), std::string::npos) << text;
  EXPECT_EQ(DroppedLogLines(), before);
}

TEST_F(LogTest, DropsAndCountsLinesWhenNobodyReads) {
  const RedirectedError redirected(writer_.get());
  ASSERT_TRUE(StartLog("info").has_value());
  const std::uint64_t before = DroppedLogLines();
  const std::string thousand(1000, 'x');
  constexpr std::uint64_t kLines = 1000;  // a pipe holds 64 KiB
  for (std::uint64_t i = 0; i < kLines; ++i) {
    spdlog::info("{}", thousand);
  }
  const std::uint64_t dropped = DroppedLogLines() - before;
  EXPECT_GT(dropped, kLines / 2);
  std::uint64_t lines = 0;
  for (std::string text = Read(); !text.empty(); text = Read()) {
    lines += static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
    EXPECT_EQ(text.back(), '\n');
  }
  EXPECT_EQ(lines + dropped, kLines);
  spdlog::info("again");
  EXPECT_NE(Read().find("again\n"), std::string::npos);
}

TEST_F(LogTest, CutsALineThatAPipeMightNotTakeWhole) {
  const RedirectedError redirected(writer_.get());
  ASSERT_TRUE(StartLog("info").has_value());
  spdlog::info("{}", std::string(3 * PIPE_BUF, 'y'));
  const std::string text = Read();
  EXPECT_EQ(text.size(), static_cast<std::size_t>(PIPE_BUF));
  EXPECT_EQ(text.back(), '\n');
}

TEST_F(LogTest, DropsAndCountsLinesWhenTheReaderIsGone) {
  const RedirectedError redirected(writer_.get());
  ASSERT_TRUE(StartLog("info").has_value());
  (void)::signal(SIGPIPE, SIG_IGN);
  reader_.Reset();
  const std::uint64_t before = DroppedLogLines();
  spdlog::info("nobody");
  EXPECT_EQ(DroppedLogLines(), before + 1);
}

}  // namespace
}  // namespace weir::base
