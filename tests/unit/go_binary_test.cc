#include "agent/datapath/go_binary.h"

#include <gtest/gtest.h>

#include "tests/support/go_program.h"

namespace weir::test {
namespace {

using datapath::FindGoHttpFunctions;
using datapath::GoBinaryError;
using datapath::GoHttpFunctions;

// Of a function whose test of the stack takes `test_bytes`.
constexpr GoHttpFunctions FunctionsBehind(std::uint64_t test_bytes) {
  return {.round_trip = kTextOffset + kRoundTrip + test_bytes,
          .write_loop = kTextOffset + kWriteLoop + test_bytes};
}
constexpr GoHttpFunctions kFunctions = FunctionsBehind(4);

std::expected<GoHttpFunctions, GoBinaryError> FindIn(const std::string& file) {
  return FindGoHttpFunctions(MemorySource(file));
}

std::expected<GoHttpFunctions, GoBinaryError> Find(const GoProgramShape& shape) {
  return FindIn(MakeGoProgram(shape));
}

TEST(GoBinaryTest, FindsFunctionsBySymbols) {
  EXPECT_EQ(Find(GoProgramShape{}), kFunctions);
}

TEST(GoBinaryTest, FindsFunctionsByTheRuntimesTableWhenSymbolsAreStripped) {
  for (const std::uint32_t magic : {0xfffffff0U, 0xfffffff1U}) {
    EXPECT_EQ(Find({.magic = magic, .symbols = false}), kFunctions);
    EXPECT_EQ(Find({.magic = magic, .symbols = false, .text_start_in_header = true}), kFunctions);
    EXPECT_EQ(Find({.magic = magic, .symbols = false, .text_start_in_module = true}), kFunctions);
  }
  EXPECT_EQ(Find({.symbols = false, .section = ".data.rel.ro.gopclntab"}), kFunctions);
}

TEST(GoBinaryTest, TakesEveryFormOfTheStackTest) {
  using namespace std::string_view_literals;
  EXPECT_EQ(Find({.prologue = "\x49\x3b\x66\x10\x76\x20"sv}), FunctionsBehind(4));
  EXPECT_EQ(Find({.prologue = "\x4c\x8d\x64\x24\xc0\x4d\x3b\x66\x10\x0f\x86"sv}),
            FunctionsBehind(9));
  EXPECT_EQ(Find({.prologue = "\x4c\x8d\xa4\x24\x50\xfe\xff\xff\x4d\x3b\x66\x10\x0f\x86"sv}),
            FunctionsBehind(12));
}

TEST(GoBinaryTest, RefusesCodeThatDoesNotBeginLikeGo) {
  // Go 1.16 loads g from thread-local storage: mov %fs:-8,%rcx.
  constexpr std::string_view kFormer("\x64\x48\x8b\x0c\x25\xf8\xff\xff\xff\x48\x3b\x61\x10");
  EXPECT_EQ(Find({.prologue = kFormer}).error(), GoBinaryError::kUnexpectedCode);
  EXPECT_EQ(Find({.symbols = false, .prologue = kFormer}).error(), GoBinaryError::kUnexpectedCode);
  EXPECT_EQ(Find({.prologue = "\x49\x3b\x66\x10\x90"}).error(), GoBinaryError::kUnexpectedCode);
}

TEST(GoBinaryTest, TellsWhatTheFileIsInstead) {
  EXPECT_EQ(FindIn(std::string("#!/bin/sh\nexec true\n")).error(), GoBinaryError::kNotElf);
  EXPECT_EQ(Find({.symbols = false, .table = false}).error(), GoBinaryError::kNotGo);
  EXPECT_EQ(Find({.http = false}).error(), GoBinaryError::kNoHttpClient);
  EXPECT_EQ(Find({.magic = 0xfffffffaU}).error(), GoBinaryError::kUnsupportedVersion);
  std::string arm = MakeGoProgram({});
  arm[offsetof(Elf64_Ehdr, e_machine)] = static_cast<char>(EM_AARCH64);
  EXPECT_EQ(FindIn(arm).error(), GoBinaryError::kOtherMachine);
}

TEST(GoBinaryTest, CountsOnlyWhatItShouldHaveUnderstood) {
  EXPECT_FALSE(datapath::IsFailure(GoBinaryError::kNotElf));
  EXPECT_FALSE(datapath::IsFailure(GoBinaryError::kNotGo));
  EXPECT_FALSE(datapath::IsFailure(GoBinaryError::kNoHttpClient));
  EXPECT_TRUE(datapath::IsFailure(GoBinaryError::kMalformed));
  EXPECT_TRUE(datapath::IsFailure(GoBinaryError::kUnexpectedCode));
}

TEST(GoBinaryTest, RefusesTablesBeyondTheirLimits) {
  for (const bool symbols : {false, true}) {
    std::string file = MakeGoProgram({.symbols = symbols});
    const auto at = file.find(std::string_view("\xf1\xff\xff\xff", 4));
    const std::uint64_t count = (1ULL << 20U) + 1;
    std::memcpy(file.data() + at + 8, &count, sizeof(count));
    EXPECT_EQ(FindIn(file).error(), GoBinaryError::kTooLarge);
  }
}

TEST(GoBinaryTest, NeverGoesBeyondAFileThatWasCutOff) {
  for (const bool symbols : {false, true}) {
    const std::string whole = MakeGoProgram({.symbols = symbols});
    for (std::size_t size = 0; size < whole.size(); size += 7) {
      EXPECT_FALSE(FindIn(whole.substr(0, size)).has_value()) << size;
    }
  }
}

TEST(GoBinaryTest, OnlyEverNamesCodeOfGosForm) {
  for (const bool symbols : {false, true}) {
    const std::string good = MakeGoProgram({.symbols = symbols});
    for (std::size_t at = 0; at < good.size(); ++at) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 0x81);
      const auto found = FindIn(bad);
      if (found && *found != kFunctions) {
        EXPECT_EQ(bad.compare(found->round_trip, 2, "\x0f\x86"), 0) << at;
        EXPECT_EQ(bad.compare(found->write_loop, 2, "\x0f\x86"), 0) << at;
      }
    }
  }
}

}  // namespace
}  // namespace weir::test
