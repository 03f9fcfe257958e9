#include "agent/io/byte_buffer.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <vector>

namespace weir::io {
namespace {

TEST(ByteBufferTest, IsAQueueOfBytesWhateverTheSteps) {
  std::mt19937 random(7);
  std::uniform_int_distribution<std::size_t> step(0, 5000);
  ByteBuffer buffer;
  std::deque<std::uint8_t> expected;
  std::uint8_t next = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::uint8_t> bytes(step(random));
    for (auto& byte : bytes) {
      byte = next++;
    }
    buffer.Append(bytes);
    expected.insert(expected.end(), bytes.begin(), bytes.end());
    const std::size_t take = std::min(step(random), buffer.size());
    const Bytes readable = buffer.Readable();
    ASSERT_TRUE(std::equal(readable.begin(), readable.end(), expected.begin(), expected.end()));
    buffer.Consume(take);
    expected.erase(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(take));
  }
}

TEST(ByteBufferTest, GivesItsMemoryBackOnlyWhenEmpty) {
  ByteBuffer buffer;
  buffer.Append(std::vector<std::uint8_t>(100, 1));
  buffer.Consume(99);
  buffer.Trim();
  EXPECT_EQ(buffer.size(), 1U);
  buffer.Consume(1);
  buffer.Trim();
  EXPECT_EQ(buffer.Readable().data(), nullptr);
  buffer.Append(std::vector<std::uint8_t>(3, 2));
  EXPECT_EQ(buffer.Readable()[2], 2);
}

TEST(ByteBufferTest, IsEmptyAfterAMove) {
  ByteBuffer buffer;
  buffer.Append(std::vector<std::uint8_t>(10, 1));
  ByteBuffer other = std::move(buffer);
  EXPECT_EQ(other.size(), 10U);
  EXPECT_TRUE(buffer.empty());  // NOLINT(bugprone-use-after-move): the promise under test
}

}  // namespace
}  // namespace weir::io
