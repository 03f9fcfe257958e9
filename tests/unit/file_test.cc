#include "agent/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace weir::base {
namespace {

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = (std::filesystem::temp_directory_path() / "weir-file-XXXXXX").string();
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    directory_ = path;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string directory_;
};

TEST_F(FileTest, ReadsBackWhatWasWrittenWithItsMode) {
  const std::string path = directory_ + "/secret";
  ASSERT_TRUE(WriteFileAtomically(path, "one", 0600).has_value());
  ASSERT_TRUE(WriteFileAtomically(path, "two", 0600).has_value());
  EXPECT_EQ(ReadFile(path, 16).value(), "two");
  struct stat info{};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1);
}

TEST_F(FileTest, RefusesAFileBeyondTheLimit) {
  const std::string path = directory_ + "/big";
  ASSERT_TRUE(WriteFileAtomically(path, std::string(100, 'x'), 0644).has_value());
  EXPECT_TRUE(ReadFile(path, 100).has_value());
  EXPECT_EQ(ReadFile(path, 99).error().code(), ErrorCode::kLimit);
}

TEST_F(FileTest, NamesTheMissingFile) {
  const auto content = ReadFile(directory_ + "/none", 1);
  ASSERT_FALSE(content.has_value());
  EXPECT_EQ(content.error().code(), ErrorCode::kNotFound);
  EXPECT_NE(content.error().message().find("/none"), std::string::npos);
}

}  // namespace
}  // namespace weir::base
