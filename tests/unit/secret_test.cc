#include "agent/tls/secret.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <type_traits>
#include <utility>

namespace weir::tls {
namespace {

static_assert(!fmt::is_formattable<Secret>::value, "a secret must not be loggable");
static_assert(!std::is_copy_constructible_v<Secret>);
static_assert(!std::is_convertible_v<Secret, std::string_view>);

TEST(SecretTest, KeepsTheBytesAndGivesThemUpWhenMovedFrom) {
  Secret first("key material");
  Secret second(std::move(first));
  EXPECT_EQ(second.Reveal(), "key material");
  EXPECT_TRUE(first.empty());  // NOLINT(bugprone-use-after-move): that is the point
  EXPECT_TRUE(first.Reveal().empty());
}

TEST(SecretTest, IsEmptyAfterWipe) {
  Secret secret("key material");
  secret.Wipe();
  EXPECT_TRUE(secret.empty());
  secret.Wipe();
  EXPECT_TRUE(secret.Reveal().empty());
}

TEST(SecretTest, StaysOutOfCoreDumps) {
  const Secret secret("key material");
  const auto address = reinterpret_cast<std::uintptr_t>(secret.Reveal().data());
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  bool excluded = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      inside = begin <= address && address < end;
    } else if (inside && line.starts_with("VmFlags:")) {
      excluded = line.find(" dd") != std::string::npos;
    }
  }
  EXPECT_TRUE(excluded);
}

class SecretFileTest : public testing::Test {
 protected:
  SecretFileTest() {
    const int fd = ::mkostemp(path_.data(), O_CLOEXEC);
    EXPECT_EQ(::write(fd, "0123456789", 10), 10);
    ::close(fd);
  }
  ~SecretFileTest() override { ::unlink(path_.c_str()); }
  std::string path_ = testing::TempDir() + "weir-secret-XXXXXX";
};

TEST_F(SecretFileTest, ReadsAFileUpToTheLimit) {
  const auto secret = Secret::ReadFile(path_, 10);
  ASSERT_TRUE(secret.has_value());
  EXPECT_EQ(secret->Reveal(), "0123456789");
}

TEST_F(SecretFileTest, RefusesALongerFile) {
  const auto secret = Secret::ReadFile(path_, 9);
  ASSERT_FALSE(secret.has_value());
  EXPECT_EQ(secret.error().code(), base::ErrorCode::kLimit);
}

TEST_F(SecretFileTest, NamesAMissingFile) {
  const auto secret = Secret::ReadFile(path_ + ".none", 10);
  ASSERT_FALSE(secret.has_value());
  EXPECT_EQ(secret.error().code(), base::ErrorCode::kNotFound);
  EXPECT_NE(secret.error().message().find(path_), std::string::npos);
}

}  // namespace
}  // namespace weir::tls
